//! How CPU bodies use the machine: work split over threads in fixed pieces, each piece compiled for the vectors
//! the processor has. What a piece computes never depends on the number of threads.

use rayon::prelude::*;
use std::ops::Range;

/// Elements below which handing work to another thread costs more than it saves (about 10 µs of streaming).
const GRAIN: usize = 1 << 14;

/// Runs `body` on pieces of `out` that hold whole rows of `row` elements: `body(first_row, rows_of_out)`.
pub fn rows<T: Send>(out: &mut [T], row: usize, body: impl Fn(usize, &mut [T]) + Sync) {
    let per_piece = GRAIN.div_ceil(row.max(1));
    pieces(out, row * per_piece, |piece, out| body(piece * per_piece, out));
}

/// Runs `body(index, piece)` on consecutive pieces of `out` of `len` elements each (the last may be shorter).
pub fn pieces<T: Send>(out: &mut [T], len: usize, body: impl Fn(usize, &mut [T]) + Sync) {
    if out.len() <= len {
        if !out.is_empty() {
            vectorised(|| body(0, out));
        }
    } else {
        out.par_chunks_mut(len).enumerate().for_each(|(i, piece)| vectorised(|| body(i, piece)));
    }
}

/// Runs `body(index, piece of a, piece of b)` on pieces of two outputs cut at the same places.
pub fn pieces2<A: Send, B: Send>(
    (a, a_len): (&mut [A], usize),
    (b, b_len): (&mut [B], usize),
    body: impl Fn(usize, &mut [A], &mut [B]) + Sync,
) {
    assert_eq!(a.len().div_ceil(a_len), b.len().div_ceil(b_len), "pieces2: outputs cut into different counts");
    if a.len() <= a_len {
        vectorised(|| body(0, a, b));
    } else {
        let pieces = a.par_chunks_mut(a_len).zip(b.par_chunks_mut(b_len));
        pieces.enumerate().for_each(|(i, (a, b))| vectorised(|| body(i, a, b)));
    }
}

/// Runs `body` on every item, in parallel.
pub fn items<I: Send>(items: Vec<I>, body: impl Fn(I) + Sync) {
    items.into_par_iter().for_each(|item| vectorised(|| body(item)));
}

/// Runs `body` on every index of `range`, in parallel.
pub fn each(range: Range<usize>, body: impl Fn(usize) + Sync) {
    range.into_par_iter().for_each(|i| vectorised(|| body(i)));
}

/// Calls `f` compiled for AVX2 and FMA where the processor has them, else for the baseline. Wider vectors gain nothing
/// where memory is the bound, and each more doubles the code; tiles that are bound by arithmetic choose their own.
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
