//! A matrix cut into blocks of rows and columns that are written in parallel.

use super::parallel;
use std::{marker::PhantomData, slice};

/// A block of rows and columns of a row-major matrix, owned by one piece of work.
pub struct Block<'a, T> {
    start: *mut T,
    stride: usize,
    rows: usize,
    cols: usize,
    matrix: PhantomData<&'a mut [T]>,
}

// SAFETY: a block is a unique borrow of its elements.
unsafe impl<T: Send> Send for Block<'_, T> {}

impl<'a, T> Block<'a, T> {
    /// The whole of a matrix with rows of `cols` elements.
    pub fn whole(matrix: &'a mut [T], cols: usize) -> Self {
        assert!(cols > 0 && matrix.len().is_multiple_of(cols), "block: {} elements in rows of {cols}", matrix.len());
        let rows = matrix.len() / cols;
        Self { start: matrix.as_mut_ptr(), stride: cols, rows, cols, matrix: PhantomData }
    }

    /// Rows of the block.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the block.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The rows and columns of this block that are asked for.
    #[track_caller]
    pub fn part(&mut self, rows: std::ops::Range<usize>, cols: std::ops::Range<usize>) -> Block<'_, T> {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "block: rows {rows:?} of {}", self.rows);
        assert!(cols.start <= cols.end && cols.end <= self.cols, "block: columns {cols:?} of {}", self.cols);
        // SAFETY: the part lies in the block, which it borrows uniquely.
        let start = unsafe { self.start.add(rows.start * self.stride + cols.start) };
        Block { start, stride: self.stride, rows: rows.len(), cols: cols.len(), matrix: PhantomData }
    }

    /// The columns of row `i`.
    #[track_caller]
    #[inline(always)]
    pub fn row(&self, i: usize) -> &[T] {
        assert!(i < self.rows, "block: row {i} of {}", self.rows);
        // SAFETY: the block owns `cols` elements of each of its rows.
        unsafe { slice::from_raw_parts(self.start.add(i * self.stride), self.cols) }
    }

    /// The columns of row `i`, to be written.
    #[track_caller]
    #[inline(always)]
    pub fn row_mut(&mut self, i: usize) -> &mut [T] {
        assert!(i < self.rows, "block: row {i} of {}", self.rows);
        // SAFETY: the block owns `cols` elements of each of its rows.
        unsafe { slice::from_raw_parts_mut(self.start.add(i * self.stride), self.cols) }
    }

    /// Address of an element, not checked.
    #[inline(always)]
    pub(super) fn at(&self, row: usize, col: usize) -> *mut T {
        self.start.wrapping_add(row * self.stride + col)
    }
}

/// A matrix to be cut into blocks, and the rows of a block.
pub struct Cut<'a, T> {
    pub matrix: &'a mut [T],
    pub rows: usize,
}

/// Cuts matrices with rows of `len` elements into blocks of `cols` columns and the rows each one asks for (fewer at the
/// ends), and runs `body(block row, block column, blocks)` on them in parallel. The matrices have as many block rows.
pub fn blocks<T: Send, const N: usize>(
    cuts: [Cut<T>; N],
    (len, cols): (usize, usize),
    body: impl Fn(usize, usize, [Block<T>; N]) + Sync,
) {
    struct Shared<T> {
        start: *mut T,
        height: usize,
        rows: usize,
    }
    // SAFETY: the pieces below take disjoint blocks through it.
    unsafe impl<T: Send> Sync for Shared<T> {}
    let shared = cuts.map(|Cut { matrix, rows }| {
        assert!(len > 0 && matrix.len().is_multiple_of(len), "blocks: {} elements in rows of {len}", matrix.len());
        Shared { start: matrix.as_mut_ptr(), height: matrix.len() / len, rows }
    });
    let (down, across) = (shared[0].height.div_ceil(shared[0].rows), len.div_ceil(cols));
    assert!(shared.iter().all(|s| s.height.div_ceil(s.rows) == down), "blocks: matrices of different counts of blocks");
    let shared = &shared;
    parallel::each(0..down * across, |piece| {
        let (i, j) = (piece / across, piece % across);
        let blocks = std::array::from_fn(|n| {
            let Shared { start, height, rows } = shared[n];
            // SAFETY: block (i, j) lies in the matrix, which outlives the pieces, and no other piece has its elements.
            let start = unsafe { start.add(i * rows * len + j * cols) };
            Block {
                start,
                stride: len,
                rows: rows.min(height - i * rows),
                cols: cols.min(len - j * cols),
                matrix: PhantomData,
            }
        });
        body(i, j, blocks);
    });
}
