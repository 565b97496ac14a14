//! Launch shapes of the CUDA bodies that multiply in tiles: convolutions and fully connected layers.

use super::Conv;
use crate::device::{DType, Grid, cuda::MOMENT_ROWS};

/// Rows of a tile.
const ROWS: usize = MOMENT_ROWS;
/// Columns of a tile; as in `kernels/tile.cuh`.
const NARROW: usize = 64;
const WIDE: usize = 128;
/// Stages of the ring in shared memory; as `STAGES` in `kernels/product.cuh`.
const STAGES: usize = 3;
/// Bytes of a row or column of the tile in a stage; as `CHUNKS_DEEP` chunks of 16 in `kernels/product.cuh`.
const STAGE_DEPTH: usize = 128;
/// Blocks that a large GPU runs at a time, two on each multiprocessor. A constant, so that results do not depend on the GPU.
pub(crate) const FULL: usize = 264;
/// Terms that a part of a split sum has at least. To begin and to end a block takes as long as about so many.
const MIN_PART: usize = 256;
/// Terms that a block gets through while one more part of its tile is written and added up, 16 KiB at the speed of memory.
const COMBINING: usize = 3;

pub(super) fn on_tensor_cores(dtype: DType) -> bool {
    dtype.size() == 2
}

/// Whether the pixels of all tensors are made of aligned chunks of 16 bytes; as `is_packed` in `kernels/tile.cuh`.
fn packed(c: usize, k: usize, dtype: DType) -> bool {
    c.is_multiple_of(dtype.pack()) && k.is_multiple_of(dtype.pack())
}

/// Columns of a tile of a product that has `columns`; as `with_shape` in `kernels/tile.cuh`.
fn width(columns: usize, packed: bool, dtype: DType) -> usize {
    let covered = |width: usize| columns.next_multiple_of(width);
    if packed && on_tensor_cores(dtype) && covered(WIDE) * 5 <= covered(NARROW) * 6 { WIDE } else { NARROW }
}

/// Bytes that the ring needs, or the staged result with what its moments are summed in, whichever is more, for the widest
/// tile of the type: so a kernel is always launched with the same.
fn shared(dtype: DType) -> usize {
    let (widest, wide) = (if on_tensor_cores(dtype) { WIDE } else { NARROW }, dtype.wide().size());
    let staged = ROWS * (widest * wide + 16);
    let moments = Grid::THREADS / 32 * 2 * widest * wide; // `StagedSlots` in `kernels/conv.cuh`
    (staged + moments).max(STAGES * (ROWS + widest) * STAGE_DEPTH)
}

/// Tiles of a product of `rows` by `columns`, between `c` and `k` channels.
fn tiles(rows: usize, columns: usize, (c, k): (usize, usize), dtype: DType) -> usize {
    rows.div_ceil(ROWS) * columns.div_ceil(width(columns, packed(c, k, dtype), dtype))
}

/// Parts that the sum of `depth` terms, for each element of so many tiles, is cut into: as many as take the least time, which
/// goes in waves of [`FULL`] blocks.
fn parts(tiles: usize, depth: usize) -> usize {
    let terms = |parts: usize| {
        let waves = (tiles * parts).div_ceil(FULL);
        waves * (depth.div_ceil(parts) + MIN_PART) + parts * tiles * COMBINING
    };
    (1..=(depth / MIN_PART).clamp(1, FULL)).min_by_key(|&parts| terms(parts)).expect("at least one")
}

/// The grid of a product whose sums of `depth` terms are cut into parts, one a layer.
pub(crate) fn in_parts(grid: Grid, depth: usize) -> Grid {
    let [tiles, ..] = grid.blocks;
    Grid { blocks: [tiles, 1, parts(tiles, depth)], ..grid }
}

fn grid(tiles: usize, layers: usize, dtype: DType) -> Grid {
    Grid { shared: shared(dtype), ..Grid::new([tiles, 1, layers], Grid::THREADS) }
}

impl Conv {
    fn channels(&self) -> (usize, usize) {
        (self.c as usize, self.k as usize)
    }

    fn pixels(&self) -> usize {
        self.n as usize * self.oh as usize * self.ow as usize
    }

    fn wgrad_tiles(&self, dtype: DType) -> usize {
        let (c, k) = self.channels();
        tiles(self.r as usize * self.s as usize * c, k, (c, k), dtype)
    }

    /// Parts that the CUDA body of the gradient of the weights cuts the sum over pixels into, to be combined in order.
    pub fn wgrad_parts(&self, dtype: DType) -> usize {
        parts(self.wgrad_tiles(dtype), self.pixels())
    }

    /// A tile for each 128 pixels of y and 64 or 128 channels.
    pub(crate) fn fwd_grid(&self, dtype: DType) -> Grid {
        grid(tiles(self.pixels(), self.k as usize, self.channels(), dtype), 1, dtype)
    }

    /// A layer for each phase of the stride; in it as many tiles as the largest phase has.
    pub(crate) fn dgrad_grid(&self, dtype: DType) -> Grid {
        let (down, across) =
            ((self.h as usize).div_ceil(self.stride_h as usize), (self.w as usize).div_ceil(self.stride_w as usize));
        let tiles = tiles(self.n as usize * down * across, self.c as usize, self.channels(), dtype);
        grid(tiles, (self.stride_h * self.stride_w) as usize, dtype)
    }

    /// A layer for each of so many parts of the pixels; in it a tile for each 128 taps and channels of x and 64 or 128 channels of y.
    pub(crate) fn wgrad_grid(&self, parts: usize, dtype: DType) -> Grid {
        grid(self.wgrad_tiles(dtype), parts, dtype)
    }
}
