//! Matrix products on the CPU, by the `gemm` crate.

use crate::device::Real;

/// A matrix inside a slice: `rows` × `cols`, elements `row_stride` and `col_stride` apart.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Elements from one row to the next.
    pub row_stride: usize,
    /// Elements from one column to the next.
    pub col_stride: usize,
}

impl Shape {
    /// `rows` × `cols`, row after row.
    pub fn new(rows: usize, cols: usize) -> Shape {
        Shape { rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// The transpose, of the same memory.
    pub fn t(self) -> Shape {
        Shape { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride }
    }

    #[track_caller]
    fn check(self, len: usize, name: &str) {
        let last = self.rows.saturating_sub(1) * self.row_stride + self.cols.saturating_sub(1) * self.col_stride;
        assert!(self.rows * self.cols == 0 || last < len, "gemm: {name} is {self:?} but has {len} elements");
    }
}

/// `c = a·b`, on the calling thread.
#[track_caller]
pub fn gemm<T: Real>((c, c_shape): (&mut [T], Shape), (a, a_shape): (&[T], Shape), (b, b_shape): (&[T], Shape)) {
    let (m, n, k) = (c_shape.rows, c_shape.cols, a_shape.cols);
    assert!(a_shape.rows == m && b_shape.rows == k && b_shape.cols == n, "gemm: {a_shape:?} times {b_shape:?}");
    c_shape.check(c.len(), "c");
    a_shape.check(a.len(), "a");
    b_shape.check(b.len(), "b");
    let stride = |s: Shape| (s.col_stride as isize, s.row_stride as isize);
    let ((c_cs, c_rs), (a_cs, a_rs), (b_cs, b_rs)) = (stride(c_shape), stride(a_shape), stride(b_shape));
    // SAFETY: every matrix lies within its slice (checked), and `c` is borrowed exclusively.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            c_cs,
            c_rs,
            false,
            a.as_ptr(),
            a_cs,
            a_rs,
            b.as_ptr(),
            b_cs,
            b_rs,
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
