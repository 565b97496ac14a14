//! Max, average, adaptive and global average pooling. Backward gathers: each input pixel looks at the windows that cover it.

use super::{Case, Spec};
use crate::{
    device::{DType, Grid, cpu::parallel},
    kernel,
    shape::{Window, int, nhwc},
    tensor::{Tensor, launch},
};
use bytemuck::{Pod, Zeroable};
use std::ops::Range;

/// x `[n, h, w, c]`, y `[n, oh, ow, c]`, windows of r × s.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Pool {
    pub n: i32,
    pub h: i32,
    pub w: i32,
    pub c: i32,
    pub oh: i32,
    pub ow: i32,
    pub r: i32,
    pub s: i32,
    pub stride_h: i32,
    pub stride_w: i32,
    pub pad_h: i32,
    pub pad_w: i32,
    /// 1 if padding counts in an average's divisor.
    pub count_pad: i32,
}

/// One axis of the window: extents as the index letters of the papers.
#[derive(Clone, Copy)]
struct Axis {
    size: usize,
    out: usize,
    kernel: usize,
    stride: usize,
    pad: usize,
}

impl Axis {
    /// Taps of the window at `o` that fall inside the image.
    fn taps(self, o: usize) -> Range<usize> {
        let start = o * self.stride;
        self.pad.saturating_sub(start)..self.kernel.min((self.size + self.pad).saturating_sub(start))
    }

    /// Windows that cover position `i`.
    fn windows(self, i: usize) -> Range<usize> {
        let end = (i + self.pad) / self.stride + 1;
        let start = (i + self.pad + 1).saturating_sub(self.kernel).div_ceil(self.stride);
        start.min(end)..end.min(self.out)
    }

    /// Positions under the window at `o`, counting those in the padding but none beyond it.
    fn padded_extent(self, o: usize) -> usize {
        self.kernel.min(self.size + 2 * self.pad - o * self.stride)
    }
}

impl Pool {
    fn rows(&self) -> Axis {
        let [size, out, kernel, stride, pad] = [self.h, self.oh, self.r, self.stride_h, self.pad_h].map(|x| x as usize);
        Axis { size, out, kernel, stride, pad }
    }

    fn cols(&self) -> Axis {
        let [size, out, kernel, stride, pad] = [self.w, self.ow, self.s, self.stride_w, self.pad_w].map(|x| x as usize);
        Axis { size, out, kernel, stride, pad }
    }

    /// What an average divides by.
    fn divisor(&self, oh: usize, ow: usize) -> f64 {
        let extent = |axis: Axis, o| if self.count_pad == 1 { axis.padded_extent(o) } else { axis.taps(o).len() };
        (extent(self.rows(), oh) * extent(self.cols(), ow)) as f64
    }

    /// The grid of the kernels that write an output.
    fn outputs(&self, dtype: DType) -> Grid {
        Grid::lines(self.n as usize * self.oh as usize, self.ow as usize, self.c as usize, dtype)
    }

    /// The grid of the kernels that write the gradient of an input.
    fn inputs(&self, dtype: DType) -> Grid {
        Grid::lines(self.n as usize * self.h as usize, self.w as usize, self.c as usize, dtype)
    }
}

kernel!(MAX_FWD = "max_pool_fwd", |p: Pool, [x] -> [y, argmax: u8]| {
    let (rows, cols, c) = (p.rows(), p.cols(), p.c as usize);
    parallel::pieces2((y, cols.out * c), (argmax, cols.out * c), #[inline(always)] |line, y, argmax| {
        let (n, oh) = (line / rows.out, line % rows.out);
        // As wide as the floats while they are compared, so that both fill the same vectors.
        let mut winner = vec![T::ZERO; c];
        for (ow, (y, argmax)) in y.chunks_exact_mut(c).zip(argmax.chunks_exact_mut(c)).enumerate() {
            y.fill(T::of(f64::NEG_INFINITY));
            // Also where nothing is greater, the place is one inside the image.
            winner.fill(T::of((rows.taps(oh).start * cols.kernel + cols.taps(ow).start) as f64));
            for r in rows.taps(oh) {
                for s in cols.taps(ow) {
                    let (ih, iw) = (oh * rows.stride + r - rows.pad, ow * cols.stride + s - cols.pad);
                    let x = &x[((n * rows.size + ih) * cols.size + iw) * c..][..c];
                    let tap = T::of((r * cols.kernel + s) as f64);
                    for ((y, winner), &x) in y.iter_mut().zip(&mut winner).zip(x) {
                        // The first maximum wins, and NaN beats everything: both as in PyTorch.
                        let take = (x > *y) | (x.is_nan() & !y.is_nan());
                        *winner = if take { tap } else { *winner };
                        *y = if take { x } else { *y };
                    }
                }
            }
            argmax.iter_mut().zip(&winner).for_each(|(argmax, winner)| *argmax = winner.f64() as u8);
        }
    });
}, grid |dtype| p.outputs(dtype));

kernel!(MAX_BWD = "max_pool_bwd", |p: Pool, [gy, argmax: u8] -> [gx]| {
    let (rows, cols, c) = (p.rows(), p.cols(), p.c as usize);
    parallel::pieces(gx, cols.size * c, #[inline(always)] |line, gx| {
        let (n, ih) = (line / rows.size, line % rows.size);
        gx.fill(T::ZERO);
        for oh in rows.windows(ih) {
            let r = ih + rows.pad - oh * rows.stride;
            for (iw, gx) in gx.chunks_exact_mut(c).enumerate() {
                for ow in cols.windows(iw) {
                    let tap = (r * cols.kernel + iw + cols.pad - ow * cols.stride) as u8;
                    let at = ((n * rows.out + oh) * cols.out + ow) * c;
                    let (gy, argmax) = (&gy[at..][..c], &argmax[at..][..c]);
                    for i in 0..c {
                        gx[i] += if argmax[i] == tap { gy[i] } else { T::ZERO };
                    }
                }
            }
        }
    });
}, grid |dtype| p.inputs(dtype));

kernel!(AVG_FWD = "avg_pool_fwd", |p: Pool, [x] -> [y]| {
    let (rows, cols, c) = (p.rows(), p.cols(), p.c as usize);
    parallel::pieces(y, cols.out * c, #[inline(always)] |line, y| {
        let (n, oh) = (line / rows.out, line % rows.out);
        for (ow, y) in y.chunks_exact_mut(c).enumerate() {
            y.fill(T::ZERO);
            for r in rows.taps(oh) {
                for s in cols.taps(ow) {
                    let (ih, iw) = (oh * rows.stride + r - rows.pad, ow * cols.stride + s - cols.pad);
                    let x = &x[((n * rows.size + ih) * cols.size + iw) * c..][..c];
                    y.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x);
                }
            }
            let factor = T::of(1.0 / p.divisor(oh, ow));
            y.iter_mut().for_each(|y| *y = *y * factor);
        }
    });
}, grid |dtype| p.outputs(dtype));

kernel!(AVG_BWD = "avg_pool_bwd", |p: Pool, [gy] -> [gx]| {
    let (rows, cols, c) = (p.rows(), p.cols(), p.c as usize);
    parallel::pieces(gx, cols.size * c, #[inline(always)] |line, gx| {
        let (n, ih) = (line / rows.size, line % rows.size);
        gx.fill(T::ZERO);
        for oh in rows.windows(ih) {
            for (iw, gx) in gx.chunks_exact_mut(c).enumerate() {
                for ow in cols.windows(iw) {
                    let factor = T::of(1.0 / p.divisor(oh, ow));
                    let gy = &gy[((n * rows.out + oh) * cols.out + ow) * c..][..c];
                    gx.iter_mut().zip(gy).for_each(|(sum, &g)| *sum += g * factor);
                }
            }
        }
    });
}, grid |dtype| p.inputs(dtype));

#[track_caller]
fn parameters(x: &Tensor, window: Window, count_pad: bool, op: &str) -> Pool {
    let [n, h, w, c] = nhwc(x.shape(), op);
    let (oh, ow) = window.positions(h, w, op);
    let Window { kernel: (r, s), stride, pad } = window;
    // A window wholly inside the padding would have no maximum and no average.
    assert!(2 * pad.0 <= r && 2 * pad.1 <= s, "{op}: {window:?} pads more than half its kernel");
    let [n, h, w, c, oh, ow, r, s] = [n, h, w, c, oh, ow, r, s].map(int);
    let [stride_h, stride_w, pad_h, pad_w] = [stride.0, stride.1, pad.0, pad.1].map(int);
    Pool { n, h, w, c, oh, ow, r, s, stride_h, stride_w, pad_h, pad_w, count_pad: i32::from(count_pad) }
}

fn output_shape(p: &Pool) -> [usize; 4] {
    [p.n, p.oh, p.ow, p.c].map(|x| x as usize)
}

/// The largest value under each window, per channel; padding never wins. At most 256 taps.
#[track_caller]
pub fn max_pool(x: &Tensor, window: Window) -> Tensor {
    let p = parameters(x, window, false, "max_pool");
    assert!(p.r * p.s <= 256, "max_pool: the position inside {window:?} does not fit a byte");
    let y = x.empty(&output_shape(&p), "max_pool");
    let argmax = x.tape().empty(y.shape(), DType::U8, "max_pool");
    launch(&MAX_FWD, &p, &[x], &[&y, &argmax]);
    let like_x = x.shape().to_vec();
    y.record("max_pool", &[x], move |g| {
        let gx = g.empty(&like_x, "max_pool backward");
        launch(&MAX_BWD, &p, &[&g, &argmax], &[&gx]);
        vec![Some(gx)]
    })
}

/// The mean under each window, per channel. `count_pad` counts padding as zeros (PyTorch's `count_include_pad`).
#[track_caller]
pub fn avg_pool(x: &Tensor, window: Window, count_pad: bool) -> Tensor {
    let p = parameters(x, window, count_pad, "avg_pool");
    let y = x.empty(&output_shape(&p), "avg_pool");
    launch(&AVG_FWD, &p, &[x], &[&y]);
    let like_x = x.shape().to_vec();
    y.record("avg_pool", &[x], move |g| {
        let gx = g.empty(&like_x, "avg_pool backward");
        launch(&AVG_BWD, &p, &[&g], &[&gx]);
        vec![Some(gx)]
    })
}

/// x `[n, h, w, c]`, y `[n, oh, ow, c]`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Adaptive {
    n: i32,
    h: i32,
    w: i32,
    c: i32,
    oh: i32,
    ow: i32,
}

impl Adaptive {
    fn extents(&self) -> [usize; 6] {
        [self.n, self.h, self.w, self.c, self.oh, self.ow].map(|x| x as usize)
    }
}

/// Cells of an axis of `to` cells that cell `i` of the same axis cut into `from` cells overlaps, wholly or in part.
pub(crate) fn overlapped(i: usize, from: usize, to: usize) -> Range<usize> {
    i * to / from..((i + 1) * to).div_ceil(from)
}

kernel!(ADAPTIVE_FWD = "adaptive_avg_pool_fwd", |p: Adaptive, [x] -> [y]| {
    let [_, h, w, c, oh, ow] = p.extents();
    parallel::pieces(y, ow * c, #[inline(always)] |line, y| {
        let (n, rows) = (line / oh, overlapped(line % oh, oh, h));
        for (o, y) in y.chunks_exact_mut(c).enumerate() {
            let cols = overlapped(o, ow, w);
            y.fill(T::ZERO);
            for ih in rows.clone() {
                let x = &x[((n * h + ih) * w + cols.start) * c..][..cols.len() * c];
                x.chunks_exact(c).for_each(|x| y.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x));
            }
            let factor = T::of(1.0 / (rows.len() * cols.len()) as f64);
            y.iter_mut().for_each(|y| *y = *y * factor);
        }
    });
}, grid |dtype| Grid::lines((p.n * p.oh) as usize, p.ow as usize, p.c as usize, dtype));

kernel!(ADAPTIVE_BWD = "adaptive_avg_pool_bwd", |p: Adaptive, [gy] -> [gx]| {
    let [_, h, w, c, oh, ow] = p.extents();
    parallel::pieces(gx, w * c, #[inline(always)] |line, gx| {
        let (n, ih) = (line / h, line % h);
        gx.fill(T::ZERO);
        for row in overlapped(ih, h, oh) {
            for (iw, gx) in gx.chunks_exact_mut(c).enumerate() {
                for col in overlapped(iw, w, ow) {
                    let area = overlapped(row, oh, h).len() * overlapped(col, ow, w).len();
                    let factor = T::of(1.0 / area as f64);
                    let gy = &gy[((n * oh + row) * ow + col) * c..][..c];
                    gx.iter_mut().zip(gy).for_each(|(sum, &g)| *sum += g * factor);
                }
            }
        }
    });
}, grid |dtype| Grid::lines((p.n * p.h) as usize, p.w as usize, p.c as usize, dtype));

/// The means of `oh` × `ow` cells that the image is cut into, which share the pixels that a cut goes through:
/// `[n, h, w, c]` to `[n, oh, ow, c]`. PyTorch's `adaptive_avg_pool2d`.
#[track_caller]
pub fn adaptive_avg_pool(x: &Tensor, (oh, ow): (usize, usize)) -> Tensor {
    let [n, h, w, c] = nhwc(x.shape(), "adaptive_avg_pool");
    if (oh, ow) == (h, w) {
        return x.clone();
    }
    assert!(oh > 0 && ow > 0, "adaptive_avg_pool: {h}x{w} to {oh}x{ow}");
    int((h * oh).max(w * ow)); // products of positions fit
    let p = Adaptive { n: int(n), h: int(h), w: int(w), c: int(c), oh: int(oh), ow: int(ow) };
    let y = x.empty(&[n, oh, ow, c], "adaptive_avg_pool");
    launch(&ADAPTIVE_FWD, &p, &[x], &[&y]);
    y.record("adaptive_avg_pool", &[x], move |g| {
        let gx = g.empty(&[n, h, w, c], "adaptive_avg_pool backward");
        launch(&ADAPTIVE_BWD, &p, &[&g], &[&gx]);
        vec![Some(gx)]
    })
}

/// n images of `hw` pixels and `c` channels.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Global {
    n: i32,
    hw: i32,
    c: i32,
}

/// Pixels that a CUDA block of the backward pass covers; `GLOBAL_ROWS` in `kernels/pool.cu` must agree.
const GLOBAL_ROWS: usize = 256;

kernel!(GLOBAL_FWD = "global_avg_pool_fwd", |p: Global, [x] -> [y]| {
    let (hw, c) = (p.hw as usize, p.c as usize);
    parallel::pieces(y, c, #[inline(always)] |n, y| {
        y.fill(T::ZERO);
        for x in x[n * hw * c..][..hw * c].chunks_exact(c) {
            y.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x);
        }
        let factor = T::of(1.0 / hw as f64);
        y.iter_mut().for_each(|y| *y = *y * factor);
    });
}, grid |dtype| Grid::channels(p.n as usize, p.c as usize, dtype));
kernel!(GLOBAL_BWD = "global_avg_pool_bwd", |p: Global, [gy] -> [gx]| {
    let (hw, c) = (p.hw as usize, p.c as usize);
    let factor = T::of(1.0 / hw as f64);
    parallel::rows(gx, c, #[inline(always)] |row, gx| {
        for (i, gx) in gx.chunks_exact_mut(c).enumerate() {
            let gy = &gy[(row + i) / hw * c..][..c];
            gx.iter_mut().zip(gy).for_each(|(gx, &g)| *gx = g * factor);
        }
    });
}, grid |dtype| {
    let Grid { blocks: [images, spans, _], threads, .. } = Grid::channels(p.n as usize, p.c as usize, dtype);
    Grid::new([images, spans, (p.hw as usize).div_ceil(GLOBAL_ROWS)], threads)
});

/// The mean of each channel over the image: `[n, h, w, c]` to `[n, c]`, in [`DType::wide`].
#[track_caller]
pub fn global_avg_pool(x: &Tensor) -> Tensor {
    let [n, h, w, c] = nhwc(x.shape(), "global_avg_pool");
    let p = Global { n: int(n), hw: int(h * w), c: int(c) };
    let y = x.empty_wide(&[n, c], "global_avg_pool");
    let dtype = x.dtype();
    launch(&GLOBAL_FWD, &p, &[x], &[&y]);
    y.record("global_avg_pool", &[x], move |g| {
        let gx = g.tape().empty(&[n, h, w, c], dtype, "global_avg_pool backward");
        launch(&GLOBAL_BWD, &p, &[&g], &[&gx]);
        vec![Some(gx)]
    })
}

/// Cases of [`max_pool`].
pub static MAX_POOL: Spec = Spec {
    name: "max_pool",
    cases: || {
        let case = |label, x: [usize; 4], window| Case::new(label, &[&x], move |t| max_pool(&t[0], window));
        vec![
            case("3x3 s2 p1", [2, 7, 6, 3], Window::square(3, 2, 1)),
            case("2x2 s2", [1, 5, 4, 3], Window::square(2, 2, 0)),
            case("2x3 s1x2", [1, 4, 6, 2], Window { kernel: (2, 3), stride: (1, 2), pad: (1, 0) }),
            case("stride beyond kernel", [1, 8, 8, 2], Window::square(2, 3, 0)),
            case("16 channels", [1, 5, 4, 16], Window::square(3, 2, 1)),
            case("longer than a block", [1, 2, 38, 7], Window::square(3, 1, 1)),
            case("112x112x64 3x3 s2", [8, 112, 112, 64], Window::square(3, 2, 1)).real(),
        ]
    },
};

/// Cases of [`avg_pool`].
pub static AVG_POOL: Spec = Spec {
    name: "avg_pool",
    cases: || {
        let case = |label, x: [usize; 4], window, count_pad| {
            Case::new(label, &[&x], move |t| avg_pool(&t[0], window, count_pad)).linear_in(&[0])
        };
        vec![
            case("3x3 s1 p1, padding counts", [2, 4, 5, 3], Window::square(3, 1, 1), true),
            case("3x3 s2 p1, padding does not count", [1, 6, 5, 3], Window::square(3, 2, 1), false),
            case("2x2 s2", [2, 4, 7, 3], Window::square(2, 2, 0), false),
            case("16 channels", [1, 5, 4, 16], Window::square(3, 2, 1), true),
            case("35x35x192 3x3", [8, 35, 35, 192], Window::square(3, 1, 1), true).real(),
        ]
    },
};

/// Cases of [`adaptive_avg_pool`].
pub static ADAPTIVE_AVG_POOL: Spec = Spec {
    name: "adaptive_avg_pool",
    cases: || {
        let case =
            |label, x: [usize; 4], out| Case::new(label, &[&x], move |t| adaptive_avg_pool(&t[0], out)).linear_in(&[0]);
        vec![
            case("down", [2, 7, 5, 3], (3, 2)),
            case("up", [1, 3, 2, 8], (7, 7)),
            case("up and down", [1, 10, 3, 5], (4, 7)),
            case("8x8x512 to 7x7", [8, 8, 8, 512], (7, 7)).real(),
        ]
    },
};

/// Cases of [`global_avg_pool`].
pub static GLOBAL_AVG_POOL: Spec = Spec {
    name: "global_avg_pool",
    cases: || {
        let case = |label, x: [usize; 4]| Case::new(label, &[&x], |t| global_avg_pool(&t[0])).linear_in(&[0]);
        vec![
            case("2x3x4x5", [2, 3, 4, 5]),
            case("72 channels", [2, 3, 3, 72]),
            case("many pixels", [1, 18, 15, 1]),
            case("7x7x512", [8, 7, 7, 512]).real(),
        ]
    },
};
