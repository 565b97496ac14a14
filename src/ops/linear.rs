//! The fully connected layer.

use super::{
    Case, Spec,
    conv::{
        Conv, launch_in_parts,
        tiles::{FULL, in_parts},
    },
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
        let (n, i, o) = self.extents();
        let tiles = self.as_conv().fwd_grid(dtype);
        small_grid(&tiles, [n, o], i / MIN_PART, dtype).unwrap_or_else(|| in_parts(tiles, i))
    }

    fn dgrad_grid(&self, dtype: DType) -> Grid {
        let (n, i, o) = self.extents();
        let tiles = self.as_conv().dgrad_grid(dtype);
        small_grid(&tiles, [n, i], o / MIN_PART, dtype).unwrap_or_else(|| in_parts(tiles, o))
    }

    fn wgrad_grid(&self, dtype: DType) -> Grid {
        let (_, i, o) = self.extents();
        let tiles = self.as_conv().wgrad_grid(1, dtype);
        small_grid(&tiles, [o, i], 1, dtype).unwrap_or(tiles)
    }
}

/// Rows and columns of a small tile and its step along the sums; as `SIDE` in `kernels/small.cuh`.
const SIDE: usize = 32;
/// So many tiles of 128 rows fill a GPU well enough; as `MANY_TILES` in `kernels/small.cuh`.
const MANY: usize = 64;
/// Terms that a part of a sum has at least: to begin, to end and to combine take as long as about so many.
const MIN_PART: usize = 3 * SIDE;

/// The grid of a product without tensor cores that has small tiles, with at most `parts` parts and not many more blocks than a
/// large GPU runs at a time; none if `tiles` are many, or on tensor cores.
fn small_grid(tiles: &Grid, results: [usize; 2], parts: usize, dtype: DType) -> Option<Grid> {
    if dtype != dtype.wide() || tiles.blocks[0] >= MANY {
        return None;
    }
    let small = results.map(|extent| extent.div_ceil(SIDE)).iter().product();
    let parts = parts.min(FULL / small);
    let shared = 2 * 2 * SIDE * (SIDE + 2) * dtype.size(); // two stages of two operands
    Some(Grid { shared, ..Grid::new([small, 1, parts], Grid::THREADS) })
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
            gemm((yt, Shape::new(cols, n).t()), (x, Shape::new(n, i)), w);
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
            gemm((part, Shape::new(n, cols)), (gy, Shape::new(n, o)), w);
            part.chunks_exact(cols).enumerate().for_each(|(row, part)| gx.row_mut(row).copy_from_slice(part));
        });
    });
}, grid |dtype| p.dgrad_grid(dtype), macs p.as_conv().macs());
kernel!(LINEAR_WGRAD = "linear_wgrad", |p: Linear, [x, gy] -> [gw, gb]| {
    let (n, i, o) = p.extents();
    parallel::pieces(gw, ROWS * i, #[inline(always)] |piece, gw| {
        let rows = gw.len() / i;
        let gy_t = Shape { rows, cols: n, row_stride: 1, col_stride: o };
        gemm((gw, Shape::new(rows, i)), (&gy[piece * ROWS..], gy_t), (x, Shape::new(n, i)));
    });
    gb.fill(T::ZERO);
    for gy in gy.chunks_exact(o) {
        gb.iter_mut().zip(gy).for_each(|(sum, &g)| *sum += g);
    }
}, grid |dtype| p.wgrad_grid(dtype), macs p.as_conv().macs());

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
        let real = |label, n: usize, i: usize, o: usize| case(label, n, i, o).real();
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
            case("2x12401 to 3, sums in many parts", 2, 12401, 3),
            case("33x131 to 67", 33, 131, 67),
            case("130x3 to 2000, large tiles", 130, 3, 2000),
            case("130x2000 to 3, large tiles of the gradient", 130, 2000, 3),
            case("3x1000 to 500, large tiles of the weights' gradient", 3, 1000, 500),
            real("8x576 to 1024", 8, 576, 1024),
        ]
    },
};
