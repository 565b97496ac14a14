//! How CPU bodies use the machine: work split over threads in fixed pieces, each piece compiled for the vectors
//! the processor has. What a piece computes never depends on the number of threads.

use rayon::prelude::*;
use std::{marker::PhantomData, ops::Range};

/// Elements below which handing work to another thread costs more than it saves (about 10 µs of streaming).
const GRAIN: usize = 1 << 14;

/// Runs `body` on pieces of `out` that hold whole rows of `row` elements: `body(first_row, rows_of_out)`.
pub fn rows<T: Send>(out: &mut [T], row: usize, body: impl Fn(usize, &mut [T]) + Sync) {
    let per_piece = GRAIN.div_ceil(row.max(1));
    pieces(
        out,
        row * per_piece,
        #[inline(always)]
        |piece, out| body(piece * per_piece, out),
    );
}

/// Runs `body(index, piece)` on consecutive pieces of `out` of `len` elements each (the last may be shorter).
pub fn pieces<T: Send>(out: &mut [T], len: usize, body: impl Fn(usize, &mut [T]) + Sync) {
    let out = Pieces::new(out, len);
    // SAFETY: each index is passed once.
    each(
        0..out.count(),
        #[inline(always)]
        |i| body(i, unsafe { out.piece(i) }),
    );
}

/// Runs `body(index, piece of a, piece of b)` on pieces of two outputs cut at the same places.
pub fn pieces2<A: Send, B: Send>(
    (a, a_len): (&mut [A], usize),
    (b, b_len): (&mut [B], usize),
    body: impl Fn(usize, &mut [A], &mut [B]) + Sync,
) {
    let (a, b) = (Pieces::new(a, a_len), Pieces::new(b, b_len));
    assert_eq!(a.count(), b.count(), "pieces2: outputs cut into different counts");
    // SAFETY: each index is passed once.
    each(
        0..a.count(),
        #[inline(always)]
        |i| body(i, unsafe { a.piece(i) }, unsafe { b.piece(i) }),
    );
}

/// Runs `body` on every item, in parallel.
pub fn items<I: Send>(mut items: Vec<I>, body: impl Fn(&mut I) + Sync) {
    pieces(
        &mut items,
        1,
        #[inline(always)]
        |_, item| body(&mut item[0]),
    );
}

/// Runs `body` on every index of `range`, in parallel.
pub fn each(range: Range<usize>, body: impl Fn(usize) + Sync) {
    spread(range, &|i| {
        vectorised(
            #[inline(always)]
            || body(i),
        )
    });
}

/// The one place that hands out work; not generic, so that its machinery is compiled once and not for every kernel.
fn spread(range: Range<usize>, body: &(dyn Fn(usize) + Sync)) {
    if range.len() == 1 {
        body(range.start);
    } else {
        range.into_par_iter().for_each(body);
    }
}

/// A slice cut into pieces that threads take by their index.
struct Pieces<'a, T> {
    first: *mut T,
    total: usize,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: a piece is a part of a slice of `T: Send`, and belongs to the one thread that takes it.
unsafe impl<T: Send> Sync for Pieces<'_, T> {}

impl<'a, T> Pieces<'a, T> {
    fn new(slice: &'a mut [T], len: usize) -> Self {
        assert!(len > 0 || slice.is_empty(), "pieces of no length");
        Pieces { first: slice.as_mut_ptr(), total: slice.len(), len: len.max(1), slice: PhantomData }
    }

    fn count(&self) -> usize {
        self.total.div_ceil(self.len)
    }

    /// # Safety
    /// No index may be passed twice.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    unsafe fn piece(&self, i: usize) -> &mut [T] {
        let start = i * self.len;
        assert!(start < self.total);
        // SAFETY: the range lies in the slice, and pieces of different indices do not overlap.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(start), self.len.min(self.total - start)) }
    }
}

/// Calls `f` compiled for AVX2 and FMA where the processor has them, else for the baseline. Wider vectors gain nothing
/// where memory is the bound, and each more doubles the code; tiles that are bound by arithmetic choose their own.
///
/// Only what is inlined into it is compiled so: bodies are closures marked `#[inline(always)]`.
#[inline(always)]
pub fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if let Some(avx2) = pulp::x86::V3::try_new() {
        return avx2.vectorize(f);
    }
    f()
}

/// Name of the vector instructions in use.
pub fn instruction_set() -> &'static str {
    match pulp::Arch::new() {
        #[cfg(target_arch = "x86_64")]
        pulp::Arch::V4(_) => "AVX-512",
        #[cfg(target_arch = "x86_64")]
        pulp::Arch::V3(_) => "AVX2",
        #[cfg(target_arch = "aarch64")]
        pulp::Arch::Neon(_) => "NEON",
        _ => "no vector instructions beyond the baseline",
    }
}
