//! Images of another size: nearest and bilinear interpolation, cropping and padding. Backward gathers: each input pixel
//! looks at the output pixels that read it.

use super::{Case, Spec};
use crate::{
    device::{Grid, Real, cpu::parallel},
    kernel,
    shape::{int, nhwc},
    tensor::{Tensor, launch},
};
use bytemuck::{Pod, Zeroable};
use std::ops::Range;

/// x `[n, h, w, c]`, y `[n, h·factor, w·factor, c]`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Nearest {
    n: i32,
    h: i32,
    w: i32,
    c: i32,
    factor: i32,
}

impl Nearest {
    fn extents(&self) -> [usize; 5] {
        [self.n, self.h, self.w, self.c, self.factor].map(|x| x as usize)
    }
}

kernel!(NEAREST_FWD = "upsample_nearest_fwd", |p: Nearest, [x] -> [y]| {
    let [_, h, w, c, factor] = p.extents();
    parallel::pieces(y, w * factor * c, #[inline(always)] |line, y| {
        let (n, oh) = (line / (h * factor), line % (h * factor));
        let x = &x[(n * h + oh / factor) * w * c..][..w * c];
        for (y, x) in y.chunks_exact_mut(factor * c).zip(x.chunks_exact(c)) {
            y.chunks_exact_mut(c).for_each(|y| y.copy_from_slice(x));
        }
    });
}, grid |dtype| {
    let [n, h, w, c, factor] = p.extents();
    Grid::lines(n * h * factor, w * factor, c, dtype)
});

kernel!(NEAREST_BWD = "upsample_nearest_bwd", |p: Nearest, [gy] -> [gx]| {
    let [_, _, w, c, factor] = p.extents();
    parallel::pieces(gx, w * c, #[inline(always)] |line, gx| {
        gx.fill(T::ZERO);
        let lines = &gy[line * factor * w * factor * c..][..factor * w * factor * c];
        for gy in lines.chunks_exact(w * factor * c) {
            for (gx, gy) in gx.chunks_exact_mut(c).zip(gy.chunks_exact(factor * c)) {
                gy.chunks_exact(c).for_each(|gy| gx.iter_mut().zip(gy).for_each(|(sum, &g)| *sum += g));
            }
        }
    });
}, grid |dtype| {
    let [n, h, w, c, _] = p.extents();
    Grid::lines(n * h, w, c, dtype)
});

/// x `[n, h, w, c]` enlarged by a whole factor, every pixel repeated: `[n, h·factor, w·factor, c]`.
#[track_caller]
pub fn upsample_nearest(x: &Tensor, factor: usize) -> Tensor {
    let [n, h, w, c] = nhwc(x.shape(), "upsample_nearest");
    assert!(factor > 0, "upsample_nearest: a factor of 0");
    let p = Nearest { n: int(n), h: int(h), w: int(w), c: int(c), factor: int(factor) };
    let y = x.empty(&[n, h * factor, w * factor, c], "upsample_nearest");
    launch(&NEAREST_FWD, &p, &[x], &[&y]);
    y.record("upsample_nearest", &[x], move |g| {
        let gx = g.empty(&[n, h, w, c], "upsample_nearest backward");
        launch(&NEAREST_BWD, &p, &[&g], &[&gx]);
        vec![Some(gx)]
    })
}

/// One axis of an interpolation: output `o` reads position (step·o + offset) / unit of the input, in whole numbers so that
/// every device and float type finds the same pixels and weights.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Scale {
    size: i32,
    out: i32,
    step: i32,
    offset: i32,
    unit: i32,
}

impl Scale {
    /// PyTorch's rule: the centres of the corner pixels of both images coincide, or their outer corners do.
    #[track_caller]
    fn new(size: usize, out: usize, align_corners: bool) -> Scale {
        int(2 * size * out); // products of positions fit
        let [size, out] = [size, out].map(int);
        let (step, offset, unit) = match align_corners {
            true if out > 1 => (size - 1, 0, out - 1),
            true => (0, 0, 1),
            false => (2 * size, size - out, 2 * out),
        };
        Scale { size, out, step, offset, unit }
    }

    /// The two pixels that output `o` lies between, and the weight of the second.
    fn source<T: Real>(self, o: usize) -> ([usize; 2], T) {
        let position = (self.step * o as i32 + self.offset).max(0);
        let below = position / self.unit;
        let above = (below + 1).min(self.size - 1);
        ([below as usize, above as usize], T::of(f64::from(position % self.unit) / f64::from(self.unit)))
    }

    /// What output `o` takes of pixel `i`.
    fn weight<T: Real>(self, o: usize, i: usize) -> T {
        let ([below, above], share) = self.source::<T>(o);
        let of_below = if below == i { T::ONE - share } else { T::ZERO };
        of_below + if above == i { share } else { T::ZERO }
    }

    /// Outputs that may read pixel `i`: those whose position is less than a pixel away.
    fn outputs(self, i: usize) -> Range<usize> {
        if self.step == 0 {
            return 0..self.out as usize;
        }
        let before = (i as i32 - 1) * self.unit - self.offset;
        let behind = (i as i32 + 1) * self.unit - self.offset;
        let first = if before < 0 { 0 } else { before / self.step + 1 };
        let end = ((behind.max(0) + self.step - 1) / self.step).min(self.out);
        first.min(end) as usize..end as usize
    }
}

/// x `[n, h, w, c]`, y `[n, oh, ow, c]`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Bilinear {
    pub n: i32,
    pub c: i32,
    pub rows: Scale,
    pub cols: Scale,
}

impl Bilinear {
    /// Which of the two rules of [`Scale::new`] it follows.
    pub fn aligns_corners(&self) -> bool {
        self.rows.unit != 2 * self.rows.out
    }
}

kernel!(BILINEAR_FWD = "bilinear_fwd", |p: Bilinear, [x] -> [y]| {
    let (rows, cols, c) = (p.rows, p.cols, p.c as usize);
    parallel::pieces(y, cols.out as usize * c, #[inline(always)] |line, y| {
        let (n, oh) = (line / rows.out as usize, line % rows.out as usize);
        let (lines, down) = rows.source::<T>(oh);
        let [upper, lower] = lines.map(|h| &x[(n * rows.size as usize + h) * cols.size as usize * c..]);
        for (ow, y) in y.chunks_exact_mut(c).enumerate() {
            let ([left, right], across) = cols.source::<T>(ow);
            for (i, y) in y.iter_mut().enumerate() {
                let mix = |line: &[T]| line[left * c + i] * (T::ONE - across) + line[right * c + i] * across;
                *y = mix(upper) * (T::ONE - down) + mix(lower) * down;
            }
        }
    });
}, grid |dtype| Grid::lines(p.n as usize * p.rows.out as usize, p.cols.out as usize, p.c as usize, dtype));

kernel!(BILINEAR_BWD = "bilinear_bwd", |p: Bilinear, [gy] -> [gx]| {
    let (rows, cols, c) = (p.rows, p.cols, p.c as usize);
    parallel::pieces(gx, cols.size as usize * c, #[inline(always)] |line, gx| {
        let (n, h) = (line / rows.size as usize, line % rows.size as usize);
        gx.fill(T::ZERO);
        for oh in rows.outputs(h) {
            let down = rows.weight::<T>(oh, h);
            let gy = &gy[(n * rows.out as usize + oh) * cols.out as usize * c..];
            for (w, gx) in gx.chunks_exact_mut(c).enumerate() {
                for ow in cols.outputs(w) {
                    let weight = down * cols.weight::<T>(ow, w);
                    gx.iter_mut().zip(&gy[ow * c..]).for_each(|(sum, &g)| *sum += g * weight);
                }
            }
        }
    });
}, grid |dtype| Grid::lines(p.n as usize * p.rows.size as usize, p.cols.size as usize, p.c as usize, dtype));

/// x `[n, h, w, c]` by bilinear interpolation at any size: `[n, oh, ow, c]`, as PyTorch's `interpolate` without
/// antialiasing. With `align_corners` the centres of the corner pixels coincide, else their outer corners.
#[track_caller]
pub fn bilinear(x: &Tensor, (oh, ow): (usize, usize), align_corners: bool) -> Tensor {
    let [n, h, w, c] = nhwc(x.shape(), "bilinear");
    assert!(h > 0 && w > 0 && oh > 0 && ow > 0, "bilinear: {h}x{w} to {oh}x{ow}");
    let axis = |size, out| Scale::new(size, out, align_corners);
    let p = Bilinear { n: int(n), c: int(c), rows: axis(h, oh), cols: axis(w, ow) };
    let y = x.empty(&[n, oh, ow, c], "bilinear");
    launch(&BILINEAR_FWD, &p, &[x], &[&y]);
    y.record("bilinear", &[x], move |g| {
        let gx = g.empty(&[n, h, w, c], "bilinear backward");
        launch(&BILINEAR_BWD, &p, &[&g], &[&gx]);
        vec![Some(gx)]
    })
}

/// x `[n, h, w, c]`, y `[n, oh, ow, c]`, whose first pixel is x's at (top, left).
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Shift {
    pub n: i32,
    pub h: i32,
    pub w: i32,
    pub c: i32,
    pub oh: i32,
    pub ow: i32,
    pub top: i32,
    pub left: i32,
}

impl Shift {
    /// The opposite way, which is also the adjoint.
    fn back(self) -> Shift {
        let Shift { n, h, w, c, oh, ow, top, left } = self;
        Shift { n, h: oh, w: ow, c, oh: h, ow: w, top: -top, left: -left }
    }
}

kernel!(SHIFT = "crop_or_pad", |p: Shift, [x] -> [y]| {
    let [h, w, c, oh, ow] = [p.h, p.w, p.c, p.oh, p.ow].map(|x| x as usize);
    // Columns of y that x covers.
    let end = (p.w - p.left).clamp(0, p.ow) as usize;
    let start = (-p.left).clamp(0, end as i32) as usize;
    parallel::pieces(y, ow * c, #[inline(always)] |line, y| {
        let (n, ih) = (line / oh, (line % oh) as i32 + p.top);
        y.fill(T::ZERO);
        if (0..h as i32).contains(&ih) && start < end {
            let from = (n * h + ih as usize) * w + (start as i32 + p.left) as usize;
            y[start * c..end * c].copy_from_slice(&x[from * c..][..(end - start) * c]);
        }
    });
}, grid |dtype| Grid::lines(p.n as usize * p.oh as usize, p.ow as usize, p.c as usize, dtype));

/// The part of x `[n, h, w, c]` of `oh` × `ow` pixels whose first is the one at (top, left), zero outside of x:
/// `[n, oh, ow, c]`. Negative positions pad.
#[track_caller]
pub fn crop_or_pad(x: &Tensor, (oh, ow): (usize, usize), (top, left): (i32, i32)) -> Tensor {
    let [n, h, w, c] = nhwc(x.shape(), "crop_or_pad");
    let [n, h, w, c, oh, ow] = [n, h, w, c, oh, ow].map(int);
    let p = Shift { n, h, w, c, oh, ow, top, left };
    let shift = |x: &Tensor, p: Shift| {
        let y = x.empty(&[p.n, p.oh, p.ow, p.c].map(|x| x as usize), "crop_or_pad");
        launch(&SHIFT, &p, &[x], &[&y]);
        y
    };
    shift(x, p).record("crop_or_pad", &[x], move |g| vec![Some(shift(&g, p.back()))])
}

/// Cases of [`upsample_nearest`].
pub static UPSAMPLE_NEAREST: Spec = Spec {
    name: "upsample_nearest",
    cases: || {
        let case = |label, x: [usize; 4], factor| {
            Case::new(label, &[&x], move |t| upsample_nearest(&t[0], factor)).linear_in(&[0])
        };
        vec![
            case("2, odd channels", [2, 3, 2, 5], 2),
            case("2, whole packs", [1, 2, 3, 16], 2),
            case("3", [1, 2, 2, 3], 3),
            case("28x28x128", [8, 28, 28, 128], 2).real(),
        ]
    },
};

/// Cases of [`bilinear`].
pub static BILINEAR: Spec = Spec {
    name: "bilinear",
    cases: || {
        let case = |label, x: [usize; 4], out, align_corners| {
            Case::new(label, &[&x], move |t| bilinear(&t[0], out, align_corners)).linear_in(&[0])
        };
        vec![
            case("doubled", [2, 3, 4, 3], (6, 8), false),
            case("doubled, corners aligned", [2, 3, 4, 8], (6, 8), true),
            case("up and down", [1, 5, 7, 3], (8, 3), false),
            case("up and down, corners aligned", [1, 5, 7, 3], (8, 3), true),
            case("far down", [1, 11, 13, 16], (2, 3), false),
            case("from and to one", [1, 1, 4, 2], (3, 1), false),
            case("from and to one, corners aligned", [1, 1, 4, 2], (3, 1), true),
            case("28x28x128 doubled", [8, 28, 28, 128], (56, 56), false).real(),
        ]
    },
};

/// Cases of [`crop_or_pad`].
pub static CROP_OR_PAD: Spec = Spec {
    name: "crop_or_pad",
    cases: || {
        let case = |label, x: [usize; 4], out, first| {
            Case::new(label, &[&x], move |t| crop_or_pad(&t[0], out, first)).linear_in(&[0])
        };
        vec![
            case("pad", [2, 3, 4, 3], (5, 8), (-1, -2)),
            case("crop", [2, 5, 7, 8], (2, 3), (1, 3)),
            case("crop and pad", [1, 4, 5, 3], (7, 2), (-2, 3)),
            case("pad to 256x256", [8, 250, 250, 3], (256, 256), (-3, -3)).real(),
        ]
    },
};
