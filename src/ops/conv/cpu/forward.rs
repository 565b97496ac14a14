//! y = x ∗ w as a multiplication of gathered pixels by packed weights, block by block.

use super::{
    Conv, Dims,
    gather::{Origin, Source, Tap, pixels},
    moments::block_moments,
    pack,
};
use crate::device::{
    Real,
    cpu::{
        MOMENT_ROWS,
        block::{Block, Cut, blocks},
        scratch, tile,
    },
};

/// Bytes of a panel that stay in the first-level cache while the tiles of a block pass over it.
pub const PANEL_BYTES: usize = 25 << 10;

/// Channels below which a window is copied together: a tap alone would be too short a segment.
pub const SHORT_SEGMENT: usize = 12;

/// Pieces of work per thread, so that a slow one is made up for.
pub const PIECES_PER_THREAD: usize = 2;

/// Rows of a gathered operand and what they are multiplied by.
pub struct Product<'a, T> {
    /// What the offsets point into.
    pub data: &'a [T],
    /// Offsets `[taps][rows]`.
    pub offsets: &'a [usize],
    /// Rows of the product.
    pub rows: usize,
    /// Contiguous elements read at each offset.
    pub len: usize,
    /// Packed weights, from the first column of the output block and the first tap on.
    pub packed: &'a [T],
    /// Elements between two panels.
    pub stride: usize,
}

impl<T: Real> Product<'_, T> {
    /// Writes the product to the rows of `out` that are named, in chunks of the reduction that suit the cache.
    pub fn write(&self, targets: Option<&[usize]>, out: &mut Block<T>) {
        let width = tile::panel_width::<T>();
        let limit = (PANEL_BYTES / (width * size_of::<T>())).min(tile::MAX_SEGMENT);
        let taps = self.offsets.len() / self.rows;
        let (group, parts) = ((limit / self.len).max(1), self.len.div_ceil(limit));
        for tap in (0..taps).step_by(group) {
            let offsets = &self.offsets[tap * self.rows..taps.min(tap + group) * self.rows];
            for part in 0..parts {
                let (first, end) = (self.len * part / parts, self.len * (part + 1) / parts);
                let left = tile::Left { data: self.data, offsets, rows: self.rows, first, len: end - first, step: 1 };
                let packed = &self.packed[(tap * self.len + first) * width..];
                let right = tile::Panels { data: packed, stride: self.stride };
                tile::multiply(&left, &right, targets, out, tap + part > 0);
            }
        }
    }
}

/// Columns of a block so that `down` block rows make enough pieces for the threads.
pub fn block_cols<T: Real>(down: usize, cols: usize) -> usize {
    let width = tile::panel_width::<T>();
    let panels = cols.div_ceil(width);
    let across = (PIECES_PER_THREAD * rayon::current_num_threads()).div_ceil(down.max(1)).min(panels);
    panels.div_ceil(across) * width
}

/// y = x ∗ w: `y[n, oy, ox, k] = Σ x[n, oy·stride + r − pad, ox·stride + s − pad, c] · w[k, r, s, c]`; `moments`, if wanted,
/// receives those of y as [`channel_moments`](super::channel_moments) would compute them.
pub fn conv2d_fwd<T: Real>(p: &Conv, x: &[T], w: &[T], y: &mut [T], moments: Option<&mut [T]>) {
    let d = Dims::of(p);
    let depth = d.r * d.s * d.c;
    let width = tile::panel_width::<T>();
    let fill = |first: usize, cols: usize, panel: &mut [T]| {
        pack::transpose(&w[first * depth..], depth, cols, width, panel);
    };
    let cols = block_cols::<T>((d.n * d.oh * d.ow).div_ceil(MOMENT_ROWS), d.k);
    let y = Cut { matrix: y, rows: MOMENT_ROWS };
    pack::panels((depth, d.k), fill, |packed| match moments {
        None => blocks([y], (d.k, cols), |i, j, [mut y]| {
            d.forward_block(x, &packed[j * cols * depth..], i * MOMENT_ROWS, &mut y);
        }),
        Some(moments) => blocks([y, Cut { matrix: moments, rows: 2 }], (d.k, cols), |i, j, [mut y, mut moments]| {
            d.forward_block(x, &packed[j * cols * depth..], i * MOMENT_ROWS, &mut y);
            block_moments((y.rows(), y.cols()), |i| y.row(i), &mut moments);
        }),
    });
}

impl Dims {
    /// Where the windows of `count` output pixels from `first` on start in x.
    pub fn origins(&self, first: usize, count: usize) -> Vec<Origin> {
        let origin = |(n, oy, ox)| {
            let y = (oy * self.stride_h) as isize - self.pad_h as isize;
            let x = (ox * self.stride_w) as isize - self.pad_w as isize;
            Origin { n, y, x }
        };
        pixels((self.oh, self.ow), first, count).into_iter().map(origin).collect()
    }

    /// The taps of the kernel, in the order of the weights.
    pub fn taps(&self) -> Vec<Tap> {
        (0..self.r * self.s).map(|tap| ((tap / self.s) as isize, (tap % self.s) as isize)).collect()
    }

    /// Whether whole windows are copied, because a single tap reads too little.
    pub fn copies_windows(&self) -> bool {
        self.c < SHORT_SEGMENT && self.r * self.s > 1
    }

    /// Computes a block of y that starts at pixel `first` from packed weights.
    fn forward_block<T: Real>(&self, x: &[T], packed: &[T], first: usize, y: &mut Block<T>) {
        let depth = self.r * self.s * self.c;
        let rows = y.rows();
        let stride = depth * tile::panel_width::<T>();
        let origins = self.origins(first, rows);
        let source = Source { data: x, h: self.h, w: self.w, c: self.c };
        if self.copies_windows() {
            scratch::with(rows * depth, |windows| {
                source.copy_windows(&origins, (self.r, self.s), windows);
                let offsets: Vec<_> = (0..rows).map(|i| i * depth).collect();
                Product { data: windows, offsets: &offsets, rows, len: depth, packed, stride }.write(None, y);
            });
        } else {
            let offsets = source.offsets(&origins, &self.taps());
            Product { data: x, offsets: &offsets, rows, len: self.c, packed, stride }.write(None, y);
        }
    }
}
