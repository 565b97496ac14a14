//! Matrix multiplication in registers: a tile of rows × columns of the product stays in vector registers while the
//! reduction runs (Goto & van de Geijn 2008, "Anatomy of high-performance matrix multiplication"). The left operand is
//! read where it lies, row by row through offsets, so a convolution needs no copy of its input (Dukhan 2019, "The
//! indirect convolution algorithm"); the right one is packed into panels as wide as the tile.

use super::{
    block::Block,
    lanes::{Lanes, lanes},
};
use pulp::{Arch, Simd, WithSimd};
use std::{array, hint::black_box, marker::PhantomData};

/// Vectors side by side in a tile.
const VECTORS: usize = 2;

/// Rows of a tile: two accumulators each, beside two vectors of the right operand and one broadcast element.
const fn tile_rows(registers: usize) -> usize {
    if registers >= 32 { 14 } else { 6 }
}

/// Rows and columns of the tile on this processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub rows: usize,
    pub cols: usize,
}

/// The tile of this processor for elements `T`.
pub fn shape<T: Lanes>() -> Shape {
    struct Ask<T>(PhantomData<T>);
    impl<T: Lanes> WithSimd for Ask<T> {
        type Output = Shape;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> Shape {
            Shape { rows: tile_rows(S::REGISTER_COUNT), cols: VECTORS * lanes::<T, S>() }
        }
    }
    Arch::new().dispatch(Ask::<T>(PhantomData))
}

/// Columns of a panel on this processor.
pub fn panel_width<T: Lanes>() -> usize {
    shape::<T>().cols
}

/// Copies `rows` columns of `data`, a matrix with rows of `stride` elements, into strips as wide as the tile is high:
/// element `d` of row `r` of the left operand goes to `strips[(r / m · depth + d) · m + r % m]`, m being the tile's rows.
pub fn pack_left<T: Lanes>(data: &[T], stride: usize, rows: usize, depth: usize, strips: &mut [T]) {
    match shape::<T>().rows {
        6 => pack_strips::<T, 6>(data, stride, rows, depth, strips),
        14 => pack_strips::<T, 14>(data, stride, rows, depth, strips),
        m => unreachable!("a tile of {m} rows"),
    }
}

#[inline(always)]
fn pack_strips<T: Lanes, const M: usize>(data: &[T], stride: usize, rows: usize, depth: usize, strips: &mut [T]) {
    for d in 0..depth {
        let (whole, rest) = data[d * stride..][..rows].as_chunks::<M>();
        for (chunk, strip) in whole.iter().zip(strips.chunks_exact_mut(depth * M)) {
            strip.as_chunks_mut::<M>().0[d] = *chunk;
        }
        if !rest.is_empty() {
            strips[(whole.len() * depth + d) * M..][..rest.len()].copy_from_slice(rest);
        }
    }
}

/// Bytes of panels that stay in the first-level cache beside the left operand.
const NEAR_BYTES: usize = 20 << 10;

/// Longest segment of a left operand that may lie outside.
pub const MAX_SEGMENT: usize = 512;

/// The offset of a segment that lies outside the data: it reads as zeros.
pub const OUTSIDE: usize = usize::MAX;

static ZEROS: [f64; MAX_SEGMENT] = [0.0; MAX_SEGMENT];

/// The left operand `[rows, segments · len]`: element `i` of segment `s` of row `r` is
/// `data[offsets[s · rows + r] + first + i · step]`, or zero if the offset is [`OUTSIDE`].
#[derive(Clone, Copy)]
pub struct Left<'a, T> {
    pub data: &'a [T],
    pub offsets: &'a [usize],
    pub rows: usize,
    pub first: usize,
    pub len: usize,
    pub step: usize,
}

/// The right operand `[depth, columns]` in panels: column `j` of row `d` is
/// `data[j / width · stride + d · width + j % width]`, `width` being [`panel_width`]; the last panel is filled up to it.
#[derive(Clone, Copy)]
pub struct Panels<'a, T> {
    pub data: &'a [T],
    pub stride: usize,
}

/// Computes out = left · right, or adds the product to it. Row `r` of the product goes to row `targets[r]` of `out`
/// (row `r` without targets).
///
/// # Panics
/// If an offset, a target or the panels reach outside their slices.
pub fn multiply<T: Lanes>(
    left: &Left<T>,
    right: &Panels<T>,
    targets: Option<&[usize]>,
    out: &mut Block<T>,
    accumulate: bool,
) {
    assert!(
        left.rows > 0 && left.len > 0 && left.offsets.len().is_multiple_of(left.rows),
        "multiply: an empty left operand"
    );
    let span = (left.len - 1) * left.step;
    // What lies outside is read from the first of the zeros on.
    let end = |o: usize| o.checked_add(left.first)?.checked_add(span);
    let inside = |&o: &usize| {
        if o == OUTSIDE { span < MAX_SEGMENT } else { end(o).is_some_and(|end| end < left.data.len()) }
    };
    assert!(left.offsets.iter().all(inside), "multiply: a segment reaches outside its data");
    let depth = left.offsets.len() / left.rows * left.len;
    let width = panel_width::<T>();
    let panels = out.cols().div_ceil(width);
    assert!((panels - 1) * right.stride + depth * width <= right.data.len(), "multiply: panels too short");
    match targets {
        None => assert!(left.rows <= out.rows(), "multiply: more rows than the output has"),
        Some(t) => assert!(t.len() == left.rows && t.iter().all(|&t| t < out.rows()), "multiply: targets outside"),
    }
    Arch::new().dispatch(Multiply { left, right, targets, out, accumulate });
}

struct Multiply<'a, 'b, T> {
    left: &'a Left<'a, T>,
    right: &'a Panels<'a, T>,
    targets: Option<&'a [usize]>,
    out: &'a mut Block<'b, T>,
    accumulate: bool,
}

impl<T: Lanes> WithSimd for Multiply<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (rows, cols) = (self.left.rows, self.out.cols());
        let width = VECTORS * lanes::<T, S>();
        // Rows are dealt out evenly, so that no tile is nearly empty.
        let tiles = rows.div_ceil(tile_rows(S::REGISTER_COUNT));
        let (height, taller) = (rows / tiles, rows % tiles);
        let panels = cols.div_ceil(width);
        let depth = self.left.offsets.len() / rows * self.left.len;
        // If all panels stay in the first-level cache, output rows are written whole: memory likes that better.
        let whole_rows = panels * depth * width * size_of::<T>() <= NEAR_BYTES;
        let (outer, inner) = if whole_rows { (tiles, panels) } else { (panels, tiles) };
        for i in 0..outer {
            for j in 0..inner {
                let (tile, panel) = if whole_rows { (i, j) } else { (j, i) };
                let rows = (tile * height + tile.min(taller), height + usize::from(tile < taller));
                let right = &self.right.data[panel * self.right.stride..];
                let cols = (panel * width, width.min(cols - panel * width));
                // SAFETY: `multiply` checked every offset, target and panel.
                unsafe { self.tile(simd, right.as_ptr(), rows, cols) };
            }
        }
    }
}

impl<T: Lanes> Multiply<'_, '_, T> {
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, simd: S, right: *const T, (start, rows): (usize, usize), cols: (usize, usize)) {
        macro_rules! tiles {
            ($($rows:literal)*) => {
                match rows {
                    // SAFETY: as of the caller; the tile has the rows asked for.
                    $($rows if $rows <= tile_rows(S::REGISTER_COUNT) => unsafe {
                        if cols.1 > lanes::<T, S>() {
                            self.fixed_tile::<S, $rows, 2>(simd, right, start, cols)
                        } else {
                            self.fixed_tile::<S, $rows, 1>(simd, right, start, cols)
                        }
                    },)*
                    _ => unreachable!("a tile of {rows} rows"),
                }
            };
        }
        tiles!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
    }

    #[inline(always)]
    unsafe fn fixed_tile<S: Simd, const M: usize, const N: usize>(
        &self,
        simd: S,
        mut right: *const T,
        start: usize,
        (col, cols): (usize, usize),
    ) {
        let left = self.left;
        let lanes = lanes::<T, S>();
        let mut sums = [[T::splat(simd, T::zeroed()); N]; M];
        for offsets in left.offsets.chunks_exact(left.rows) {
            // SAFETY: `multiply` checked that every segment lies in `data` or is shorter than `ZEROS`.
            unsafe {
                let rows: [*const T; M] = array::from_fn(|i| match *offsets.get_unchecked(start + i) {
                    OUTSIDE => ZEROS.as_ptr().cast::<T>(),
                    offset => left.data.as_ptr().add(offset + left.first),
                });
                for d in 0..left.len {
                    let b: [T::Vector<S>; N] =
                        array::from_fn(|j| right.add(j * lanes).cast::<T::Vector<S>>().read_unaligned());
                    right = right.add(VECTORS * lanes);
                    for i in 0..M {
                        let a = T::splat(simd, *rows[i].add(d * left.step));
                        for j in 0..N {
                            sums[i][j] = T::mul_add(simd, a, b[j], sums[i][j]);
                        }
                    }
                }
            }
        }
        // SAFETY: as of the caller.
        unsafe { self.store(simd, sums, start, (col, cols)) };
    }

    /// Writes or adds a tile. The loops over the sums are short, so that they are unrolled: an index that is not a constant
    /// would keep all sums in memory, through the whole multiplication.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "an iterator over the sums is a pointer into memory")]
    unsafe fn store<S: Simd, const M: usize, const N: usize>(
        &self,
        simd: S,
        sums: [[T::Vector<S>; N]; M],
        start: usize,
        (col, cols): (usize, usize),
    ) {
        let lanes = lanes::<T, S>();
        let rows: [*mut T; M] = array::from_fn(|i| self.out.at(self.targets.map_or(start + i, |t| t[start + i]), col));
        if cols < N * lanes {
            // A copy whose rows may be indexed.
            for (row, out) in black_box(sums).iter().zip(rows) {
                // SAFETY: `multiply` checked the row; it has `cols` columns from `col` on.
                let out = unsafe { std::slice::from_raw_parts_mut(out, cols) };
                for (out, &sum) in out.iter_mut().zip(bytemuck::cast_slice::<_, T>(row)) {
                    *out = if self.accumulate { *out + sum } else { sum };
                }
            }
            return;
        }
        // SAFETY: `multiply` checked the rows; they have N · lanes columns from `col` on.
        let at = |i: usize, j: usize| unsafe { rows[i].add(j * lanes).cast::<T::Vector<S>>() };
        for i in 0..M {
            for j in 0..N {
                // SAFETY: as above.
                unsafe {
                    if self.accumulate {
                        at(i, j).write_unaligned(T::plus(simd, at(i, j).read_unaligned(), sums[i][j]));
                    } else {
                        at(i, j).write_unaligned(sums[i][j]);
                    }
                }
            }
        }
    }
}
