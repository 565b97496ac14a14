//! The two gradients of the convolution.

use super::{
    Conv, Dims,
    forward::{PANEL_BYTES, PIECES_PER_THREAD, Product, block_cols},
    gather::{Origin, Source, Tap, pixels},
    pack::{self, copy_short, gather_panel},
};
use crate::device::{
    Real,
    cpu::{
        MOMENT_ROWS,
        block::{Block, Cut, blocks},
        scratch, tile,
    },
};

/// The input coordinates of one axis in phases: those that are congruent modulo the stride. The gradient of each phase is a
/// convolution of stride 1 with every stride-th tap.
struct Axis {
    stride: usize,
    kernel: usize,
    /// For each input coordinate its phase, which is also its first tap, and the output coordinate that reads it there.
    coordinates: Vec<(usize, isize)>,
}

impl Axis {
    fn new(input: usize, kernel: usize, stride: usize, pad: usize) -> Self {
        let coordinates = (0..input).map(|i| ((i + pad) % stride, ((i + pad) / stride) as isize)).collect();
        Self { stride, kernel, coordinates }
    }

    /// Taps of a phase.
    fn taps(&self, phase: usize) -> impl Iterator<Item = usize> + Clone {
        (phase..self.kernel).step_by(self.stride)
    }
}

/// The phases of both axes.
struct Phases {
    rows: Axis,
    cols: Axis,
}

impl Phases {
    fn of(d: &Dims) -> Self {
        let rows = Axis::new(d.h, d.r, d.stride_h, d.pad_h);
        let cols = Axis::new(d.w, d.s, d.stride_w, d.pad_w);
        Self { rows, cols }
    }

    /// Pairs of a row phase and a column phase.
    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.rows.stride * self.cols.stride).map(|i| (i / self.cols.stride, i % self.cols.stride))
    }

    /// Taps `r · s` of the weights in the order in which the phases use them.
    fn taps(&self) -> Vec<usize> {
        let taps =
            |(y, x)| self.rows.taps(y).flat_map(move |r| self.cols.taps(x).map(move |s| r * self.cols.kernel + s));
        self.pairs().flat_map(taps).collect()
    }
}

/// Gradient of the input: `gx[n, iy, ix, c] = Σ gy[n, oy, ox, k] · w[k, r, s, c]` over the outputs that read it.
pub fn conv2d_dgrad<T: Real>(p: &Conv, gy: &[T], w: &[T], gx: &mut [T]) {
    dgrad_blocks(p, gy, w, gx, |gx, write| write(gx));
}

/// Adds the gradient of the input to `gx`.
pub fn conv2d_dgrad_add<T: Real>(p: &Conv, gy: &[T], w: &[T], gx: &mut [T]) {
    dgrad_blocks(p, gy, w, gx, |gx, write| {
        scratch::with(gx.rows() * gx.cols(), |part| {
            write(&mut Block::whole(part, gx.cols()));
            for (i, part) in part.chunks_exact(gx.cols()).enumerate() {
                gx.row_mut(i).iter_mut().zip(part).for_each(|(sum, &x)| *sum += x);
            }
        });
    });
}

/// Hands each block of gx, and what writes the gradient to a block of its size, to `store`.
fn dgrad_blocks<T: Real>(
    p: &Conv,
    gy: &[T],
    w: &[T],
    gx: &mut [T],
    store: impl Fn(&mut Block<T>, &dyn Fn(&mut Block<T>)) + Sync,
) {
    let d = Dims::of(p);
    let depth = d.r * d.s * d.k;
    let width = tile::panel_width::<T>();
    let phases = Phases::of(&d);
    let taps = phases.taps();
    let fill = |first: usize, cols: usize, panel: &mut [T]| {
        for (&tap, panel) in taps.iter().zip(panel.chunks_exact_mut(d.k * width)) {
            for (k, row) in panel.chunks_exact_mut(width).enumerate() {
                copy_short(&mut row[..cols], &w[(k * d.r * d.s + tap) * d.c + first..][..cols]);
            }
        }
    };
    let rows = MOMENT_ROWS * d.stride_h * d.stride_w;
    let cols = block_cols::<T>((d.n * d.h * d.w).div_ceil(rows), d.c);
    pack::panels((depth, d.c), fill, |packed| {
        blocks([Cut { matrix: gx, rows }], (d.c, cols), |i, j, [mut gx]| {
            store(&mut gx, &|gx| d.dgrad_block(&phases, gy, &packed[j * cols * depth..], i * rows, gx));
        });
    });
}

impl Dims {
    /// Computes a block of gx that starts at pixel `first` from packed weights, phase by phase.
    fn dgrad_block<T: Real>(&self, phases: &Phases, gy: &[T], mut packed: &[T], first: usize, gx: &mut Block<T>) {
        let width = tile::panel_width::<T>();
        let source = Source { data: gy, h: self.oh, w: self.ow, c: self.k };
        let pixels = pixels((self.h, self.w), first, gx.rows());
        for (py, px) in phases.pairs() {
            let (targets, origins): (Vec<usize>, Vec<Origin>) = (pixels.iter().enumerate())
                .filter_map(|(i, &(n, iy, ix))| {
                    let ((row, y), (col, x)) = (phases.rows.coordinates[iy], phases.cols.coordinates[ix]);
                    (row == py && col == px).then_some((i, Origin { n, y, x }))
                })
                .unzip();
            let (ny, nx) = (phases.rows.taps(py).count(), phases.cols.taps(px).count());
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
