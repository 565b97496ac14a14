//! Weights and windows rearranged into the panels that the register tile reads.

use super::gather::Source;
use crate::device::{
    Real,
    cpu::{parallel::pieces, scratch, tile, tile::OUTSIDE},
};

/// Calls `f` with the matrix `[depth, cols]` as panels `[cols / width][depth][width]`, filled panel by panel in parallel
/// by `fill(first column, columns, panel)`.
pub fn panels<T: Real, R>(
    (depth, cols): (usize, usize),
    fill: impl Fn(usize, usize, &mut [T]) + Sync,
    f: impl FnOnce(&[T]) -> R,
) -> R {
    let width = tile::panel_width::<T>();
    scratch::with(cols.div_ceil(width) * depth * width, |packed| {
        pieces(packed, depth * width, |i, panel| {
            let cols = width.min(cols - i * width);
            if cols < width {
                panel.fill(T::ZERO);
            }
            fill(i * width, cols, panel);
        });
        f(packed)
    })
}

/// Writes rows `rows` of the matrix `w` with rows of `depth` elements as the columns of a panel.
pub fn transpose<T: Real>(w: &[T], depth: usize, rows: usize, width: usize, panel: &mut [T]) {
    /// Rows and columns turned at a time, so that reads and writes both use whole cache lines.
    const SIDE: usize = 16;
    for d0 in (0..depth).step_by(SIDE) {
        let d1 = depth.min(d0 + SIDE);
        for j in 0..rows {
            let row = &w[j * depth..][d0..d1];
            for (&w, out) in row.iter().zip(panel[d0 * width + j..].iter_mut().step_by(width)) {
                *out = w;
            }
        }
    }
}

/// Copies a few elements without a call.
#[inline(always)]
pub fn copy_short<T: Copy>(to: &mut [T], from: &[T]) {
    if let (Ok(to), Ok(from)) = (<&mut [T; 16]>::try_from(&mut *to), <&[T; 16]>::try_from(from)) {
        *to = *from;
        return;
    }
    let (to_whole, to_rest) = to.as_chunks_mut::<8>();
    let (from_whole, from_rest) = from.as_chunks::<8>();
    for (to, from) in to_whole.iter_mut().zip(from_whole) {
        *to = *from;
    }
    for (to, from) in to_rest.iter_mut().zip(from_rest) {
        *to = *from;
    }
}

/// Writes columns `first..first + cols` of the gathered matrix `[pixels, taps · c]` as a panel; `offsets` is `[taps][pixels]`.
pub fn gather_panel<T: Real>(
    source: &Source<T>,
    offsets: &[usize],
    pixels: usize,
    (first, cols): (usize, usize),
    panel: &mut [T],
) {
    let width = panel.len() / pixels;
    if cols < width {
        panel.fill(T::ZERO);
    }
    let mut done = 0;
    while done < cols {
        let (tap, c) = ((first + done) / source.c, (first + done) % source.c);
        let len = (source.c - c).min(cols - done);
        for (&offset, row) in offsets[tap * pixels..][..pixels].iter().zip(panel.chunks_exact_mut(width)) {
            let row = &mut row[done..done + len];
            match offset {
                OUTSIDE => row.fill(T::ZERO),
                offset => copy_short(row, &source.data[offset + c..][..len]),
            }
        }
        done += len;
    }
}
