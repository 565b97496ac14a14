//! The two gradients of the convolution.

use super::{
    Conv, Dims, MOMENT_BLOCK,
    forward::{PANEL_BYTES, PIECES_PER_THREAD, Product, block_cols},
    gather::{Origin, Source, Tap},
    pack::{self, copy_short, gather_panel},
};
use crate::device::{
    Real,
    cpu::{
        block::{Block, Cut, blocks},
        scratch, tile,
    },
};

/// The input pixels that are congruent modulo the stride, in one direction: the gradient of each such class is a
/// convolution of stride 1 with some of the taps.
#[derive(Clone, Copy)]
struct Phase {
    /// Padding plus coordinate, modulo the stride; also the first tap.
    start: usize,
    stride: usize,
    kernel: usize,
    pad: usize,
}

impl Phase {
    fn taps(&self) -> usize {
        self.kernel.saturating_sub(self.start).div_ceil(self.stride)
    }

    /// The output coordinate at which the first tap reads input coordinate `i`, if that is of this phase.
    fn origin(&self, i: usize) -> Option<isize> {
        let at = i + self.pad;
        (at % self.stride == self.start).then_some((at / self.stride) as isize)
    }
}

impl Dims {
    /// The phases of both directions: rows, columns.
    fn phases(&self) -> Vec<(Phase, Phase)> {
        let phases = |stride, kernel, pad| (0..stride).map(move |start| Phase { start, stride, kernel, pad });
        phases(self.stride_h, self.r, self.pad_h)
            .flat_map(|y| phases(self.stride_w, self.s, self.pad_w).map(move |x| (y, x)))
            .collect()
    }
}

/// Taps `r · s` of the weights in the order in which the phases use them.
fn phase_taps(d: &Dims, phases: &[(Phase, Phase)]) -> Vec<usize> {
    let taps = |p: &Phase| (p.start..p.kernel).step_by(p.stride);
    phases.iter().flat_map(|(y, x)| taps(y).flat_map(|r| taps(x).map(move |s| r * d.s + s))).collect()
}

/// Gradient of the input: `gx[n, iy, ix, c] = Σ gy[n, oy, ox, k] · w[k, r, s, c]` over the outputs that read it.
pub fn conv2d_dgrad<T: Real>(p: &Conv, gy: &[T], w: &[T], gx: &mut [T]) {
    let d = Dims::of(p);
    let depth = d.r * d.s * d.k;
    let width = tile::panel_width::<T>();
    let phases = d.phases();
    let taps = phase_taps(&d, &phases);
    let fill = |first: usize, cols: usize, panel: &mut [T]| {
        for (&tap, panel) in taps.iter().zip(panel.chunks_exact_mut(d.k * width)) {
            for (k, row) in panel.chunks_exact_mut(width).enumerate() {
                copy_short(&mut row[..cols], &w[(k * d.r * d.s + tap) * d.c + first..][..cols]);
            }
        }
    };
    let rows = MOMENT_BLOCK * phases.len();
    let cols = block_cols::<T>((d.n * d.h * d.w).div_ceil(rows), d.c);
    pack::panels((depth, d.c), fill, |packed| {
        blocks([Cut { matrix: gx, rows }], (d.c, cols), |i, j, [mut gx]| {
            d.dgrad_block(&phases, gy, &packed[j * cols * depth..], i * rows, &mut gx);
        });
    });
}

impl Dims {
    /// Computes a block of gx that starts at pixel `first` from packed weights, phase by phase.
    fn dgrad_block<T: Real>(
        &self,
        phases: &[(Phase, Phase)],
        gy: &[T],
        mut packed: &[T],
        first: usize,
        gx: &mut Block<T>,
    ) {
        let width = tile::panel_width::<T>();
        let source = Source { data: gy, h: self.oh, w: self.ow, c: self.k };
        for (py, px) in phases {
            let (targets, origins): (Vec<usize>, Vec<Origin>) = (0..gx.rows())
                .filter_map(|i| {
                    let (n, pixel) = ((first + i) / (self.h * self.w), (first + i) % (self.h * self.w));
                    let (y, x) = (py.origin(pixel / self.w)?, px.origin(pixel % self.w)?);
                    Some((i, Origin { n, y, x }))
                })
                .unzip();
            let (ny, nx) = (py.taps(), px.taps());
            let taps: Vec<Tap> = (0..ny * nx).map(|t| (-((t / nx) as isize), -((t % nx) as isize))).collect();
            if taps.is_empty() {
                targets.iter().for_each(|&i| gx.row_mut(i).fill(T::ZERO));
            } else if !targets.is_empty() {
                let offsets = source.offsets(&origins, &taps);
                let stride = self.r * self.s * self.k * width;
                Product { data: gy, offsets: &offsets, rows: targets.len(), len: self.k, packed, stride }
                    .write(Some(&targets), gx);
            }
            packed = &packed[taps.len() * self.k * width..];
        }
    }
}

/// Panels that a piece of the weight gradient has at least, if possible, since every piece packs gy.
const PANELS: usize = 8;

/// Gradient of the weights: `gw[k, r, s, c] = Σ gy[n, oy, ox, k] · x[n, oy·stride + r − pad, ox·stride + s − pad, c]`.
pub fn conv2d_wgrad<T: Real>(p: &Conv, x: &[T], gy: &[T], gw: &mut [T]) {
    let d = Dims::of(p);
    let depth = d.r * d.s * d.c;
    let (threads, width) = (rayon::current_num_threads(), tile::panel_width::<T>());
    let panels = depth.div_ceil(width);
    let cols = panels.div_ceil((panels / PANELS).clamp(threads.min(panels), PIECES_PER_THREAD * threads)) * width;
    let rows = d.k.div_ceil(threads.div_ceil(depth.div_ceil(cols)));
    blocks([Cut { matrix: gw, rows }], (depth, cols), |i, j, [mut gw]| {
        d.wgrad_block(x, gy, (i * rows, j * cols), &mut gw);
    });
}

impl Dims {
    /// Computes the block of gw `[k, r·s·c]` whose corner is at `(k, column)`.
    fn wgrad_block<T: Real>(&self, x: &[T], gy: &[T], (k, column): (usize, usize), gw: &mut Block<T>) {
        let shape = tile::shape::<T>();
        let depth = self.r * self.s * self.c;
        let pixels = self.n * self.oh * self.ow;
        let rows = gw.rows();
        let step = pixels.div_ceil(pixels.div_ceil(PANEL_BYTES / (shape.cols * size_of::<T>())));
        let windows = if self.copies_windows() { step * depth } else { 0 };
        let strips = rows.next_multiple_of(shape.rows) * step;
        scratch::with(windows + step * shape.cols + strips, |scratch| {
            let (windows, scratch) = scratch.split_at_mut(windows);
            let (panel, strips) = scratch.split_at_mut(step * shape.cols);
            for first in (0..pixels).step_by(step) {
                let len = step.min(pixels - first);
                let origins = self.origins(first, len);
                let source = Source { data: x, h: self.h, w: self.w, c: self.c };
                let (source, offsets) = if self.copies_windows() {
                    source.copy_windows(&origins, (self.r, self.s), windows);
                    let source = Source { data: &*windows, h: 1, w: len, c: depth };
                    (source, (0..len).map(|i| i * depth).collect())
                } else {
                    let offsets = source.offsets(&origins, &self.taps());
                    (source, offsets)
                };
                tile::pack_left(&gy[first * self.k + k..], self.k, rows, len, strips);
                let offsets_of_rows: Vec<_> =
                    (0..rows).map(|i| i / shape.rows * len * shape.rows + i % shape.rows).collect();
                let left =
                    tile::Left { data: strips, offsets: &offsets_of_rows, rows, first: 0, len, step: shape.rows };
                for start in (0..gw.cols()).step_by(shape.cols) {
                    let cols = start..gw.cols().min(start + shape.cols);
                    let panel = &mut panel[..len * shape.cols];
                    gather_panel(&source, &offsets, len, (column + start, cols.len()), panel);
                    let right = tile::Panels { data: panel, stride: 0 };
                    tile::multiply(&left, &right, None, &mut gw.part(0..rows, cols), first > 0);
                }
            }
        });
    }
}
