//! The fully connected layer.

use super::{
    Case, Spec,
    conv::{Conv, launch_in_parts, tiles::in_parts},
};
use crate::{
    device::{
        DType, Grid,
        cpu::{
            block::{Cut, blocks},
            gemm::{Shape, gemm},
            parallel, scratch,
        },
    },
    kernel,
    shape::int,
    tensor::{Tensor, launch},
};
use bytemuck::{Pod, Zeroable};

/// y `[n, o]` = x `[n, i]` · w `[o, i]`ᵀ + b `[o]`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Linear {
    n: i32,
    i: i32,
    o: i32,
}

impl Linear {
    fn extents(&self) -> (usize, usize, usize) {
        (self.n as usize, self.i as usize, self.o as usize)
    }

    /// The 1×1 convolution of `n` single pixels that it also is.
    fn as_conv(&self) -> Conv {
        let Linear { n, i: c, o: k } = *self;
        Conv { n, h: 1, w: 1, c, k, r: 1, s: 1, oh: 1, ow: 1, stride_h: 1, stride_w: 1, pad_h: 0, pad_w: 0 }
    }

    /// A batch has few rows, so the sums over features are cut into parts: else VGG's first layer would occupy 32 blocks.
    fn fwd_grid(&self, dtype: DType) -> Grid {
        in_parts(self.as_conv().fwd_grid(dtype), work(self.i, dtype))
    }

    fn dgrad_grid(&self, dtype: DType) -> Grid {
        in_parts(self.as_conv().dgrad_grid(dtype), work(self.o, dtype))
    }
}

/// So many terms of a sum, counted as those of the half types: without tensor cores a term takes more than four times as long, so
/// that parts of a quarter as many are worth it.
fn work(terms: i32, dtype: DType) -> usize {
    terms as usize * if dtype == dtype.wide() { 4 } else { 1 }
}

/// Rows of a weight matrix that one piece of work covers: enough to fill the caches, few enough for many threads.
const ROWS: usize = 64;
/// Columns, likewise; these are read in runs of so many.
const COLUMNS: usize = 256;

kernel!(LINEAR_FWD = "linear_fwd", |p: Linear, [x, w, b] -> [y]| {
    let (n, i, o) = p.extents();
    blocks([Cut { matrix: y, rows: n }], (o, ROWS), |_, piece, [mut y]| {
        let (first, cols) = (piece * ROWS, y.cols());
        // As [cols, n]: the product then takes the weights as they lie, and vectors run over the images.
        scratch::with(cols * n, |yt| {
            let w = (&w[first * i..], Shape::new(cols, i).t());
            gemm((yt, Shape::new(cols, n).t()), (x, Shape::new(n, i)), w, false);
            for row in 0..n {
                let sums = yt[row..].iter().step_by(n).zip(&b[first..]);
                y.row_mut(row).iter_mut().zip(sums).for_each(|(y, (&sum, &b))| *y = sum + b);
            }
        });
    });
}, grid |dtype| p.fwd_grid(dtype), macs p.as_conv().macs());
kernel!(LINEAR_DGRAD = "linear_dgrad", |p: Linear, [gy, w] -> [gx]| {
    let (n, i, o) = p.extents();
    blocks([Cut { matrix: gx, rows: n }], (i, COLUMNS), |_, piece, [mut gx]| {
        let cols = gx.cols();
        scratch::with(n * cols, |part| {
            let w = (&w[piece * COLUMNS..], Shape { rows: o, cols, row_stride: i, col_stride: 1 });
            gemm((part, Shape::new(n, cols)), (gy, Shape::new(n, o)), w, false);
            part.chunks_exact(cols).enumerate().for_each(|(row, part)| gx.row_mut(row).copy_from_slice(part));
        });
    });
}, grid |dtype| p.dgrad_grid(dtype), macs p.as_conv().macs());
kernel!(LINEAR_WGRAD = "linear_wgrad", |p: Linear, [x, gy] -> [gw, gb]| {
    let (n, i, o) = p.extents();
    parallel::pieces(gw, ROWS * i, #[inline(always)] |piece, gw| {
        let rows = gw.len() / i;
        let gy_t = Shape { rows, cols: n, row_stride: 1, col_stride: o };
        gemm((gw, Shape::new(rows, i)), (&gy[piece * ROWS..], gy_t), (x, Shape::new(n, i)), false);
    });
    gb.fill(T::ZERO);
    for gy in gy.chunks_exact(o) {
        gb.iter_mut().zip(gy).for_each(|(sum, &g)| *sum += g);
    }
}, grid |dtype| p.as_conv().wgrad_grid(1, dtype), macs p.as_conv().macs());

/// x `[n, i]` · w `[o, i]`ᵀ + b `[o]`.
#[track_caller]
pub fn linear(x: &Tensor, w: &Tensor, b: &Tensor) -> Tensor {
    let (&[n, i], &[o, wi]) = (x.shape(), w.shape()) else {
        panic!("linear: wants [n, i] and [o, i], got {:?} and {:?}", x.shape(), w.shape())
    };
    assert!(wi == i && b.shape() == [o], "linear: {:?}, weight {:?}, bias {:?}", x.shape(), w.shape(), b.shape());
    let p = Linear { n: int(n), i: int(i), o: int(o) };
    let y = x.empty(&[n, o], "linear");
    let parts = |grid: Grid| grid.blocks[2];
    launch_in_parts(&LINEAR_FWD, &p, &[x, w, b], &y, parts(p.fwd_grid(x.dtype())));
    let (sx, sw, sb) = (x.clone(), w.clone(), b.clone());
    y.record("linear", &[x, w, b], move |g| {
        let gx = sx.wants_grad().then(|| {
            let gx = sx.like("linear dgrad");
            launch_in_parts(&LINEAR_DGRAD, &p, &[&g, &sw], &gx, parts(p.dgrad_grid(g.dtype())));
            gx
        });
        let (gw, gb) = (sw.empty_wide(sw.shape(), "linear wgrad"), sb.like("linear wgrad"));
        launch(&LINEAR_WGRAD, &p, &[&sx, &g], &[&gw, &gb]);
        vec![gx, Some(gw), Some(gb)]
    })
}

/// Cases of [`linear`].
pub static LINEAR: Spec = Spec {
    name: "linear",
    cases: || {
        let case =
            |label, n, i, o| Case::new(label, &[&[n, i], &[o, i], &[o]], |t| linear(&t[0], &t[1], &t[2])).wide(&[2]);
        let real = |label, n: usize, i: usize, o: usize| case(label, n, i, o).real(2 * (n * i * o) as u64);
        vec![
            case("3x7 to 5", 3, 7, 5),
            case("one", 1, 1, 1),
            case("131x8 to 16", 131, 8, 16),
            case("9x8 to 136", 9, 8, 136),
            case("9x136 to 8", 9, 136, 8),
            case("2x9 to 70", 2, 9, 70),
            case("2x515 to 3, sums in parts", 2, 515, 3),
            case("3x8 to 776, sums in parts", 3, 8, 776),
            case("1x768 to 72, sums in parts", 1, 768, 72),
            real("8x576 to 1024", 8, 576, 1024),
        ]
    },
};
