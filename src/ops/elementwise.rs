//! Operations that touch each element once: addition, activations, the channel gate of squeeze-and-excitation, casts.

use super::{
    Case, Spec,
    activation::{Act, Activation, with_activation},
};
use crate::{
    device::{DType, Grid, cpu::parallel},
    kernel,
    shape::{int, nhwc},
    tensor::{Tensor, launch},
};
use bytemuck::{Pod, Zeroable};

kernel!(ADD_FWD = "add", |len: i64, [a, b] -> [y]| {
    parallel::rows(y, 1, #[inline(always)] |start, y| {
        for ((y, &a), &b) in y.iter_mut().zip(&a[start..]).zip(&b[start..]) {
            *y = a + b;
        }
    });
}, grid |dtype| Grid::packs(*len as usize, dtype));

/// a + b, of equal shapes.
#[track_caller]
pub fn add(a: &Tensor, b: &Tensor) -> Tensor {
    assert_eq!(a.shape(), b.shape(), "add: shapes differ");
    let y = a.like("add");
    launch(&ADD_FWD, &(y.len() as i64), &[a, b], &[&y]);
    y.record("add", &[a, b], |g| vec![Some(g.clone()), Some(g)])
}

/// Cases of [`add`].
pub static ADD: Spec = Spec {
    name: "add",
    cases: || {
        let case = |label, shape: &[usize]| Case::new(label, &[shape, shape], |t| add(&t[0], &t[1]));
        vec![case("seven", &[7]), case("two blocks", &[521]), case("56x56x64", &[8, 56, 56, 64]).real()]
    },
};

/// `len` elements times a factor.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Scaled {
    len: i64,
    factor: f64,
}

kernel!(SCALE = "scale", |p: Scaled, [x] -> [y]| {
    let factor = T::of(p.factor);
    parallel::rows(y, 1, #[inline(always)] |start, y| {
        y.iter_mut().zip(&x[start..]).for_each(|(y, &x)| *y = x * factor);
    });
}, grid |dtype| Grid::packs(p.len as usize, dtype));

/// Every element times `factor`.
pub fn scale(x: &Tensor, factor: f64) -> Tensor {
    let y = x.like("scale");
    launch(&SCALE, &Scaled { len: x.len() as i64, factor }, &[x], &[&y]);
    y.record("scale", &[x], move |g| vec![Some(scale(&g, factor))])
}

/// Cases of [`scale`].
pub static SCALING: Spec = Spec {
    name: "scale",
    cases: || {
        let case = |label, shape: &[usize]| Case::new(label, &[shape], |t| scale(&t[0], 0.4)).linear_in(&[0]);
        vec![case("one", &[1]), case("whole packs and more", &[2, 13]), case("56x56x64", &[8, 56, 56, 64]).real()]
    },
};

/// An activation of `len` elements.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Activate {
    pub len: i64,
    pub act: i32,
    pub unused: i32,
}

kernel!(ACTIVATE_FWD = "activate_fwd", |p: Activate, [x] -> [y]| {
    with_activation!(p.act, A => parallel::rows(y, 1, #[inline(always)] |start, y| {
        for (y, &x) in y.iter_mut().zip(&x[start..]) {
            *y = A::f(x);
        }
    }));
}, grid |dtype| Grid::packs(p.len as usize, dtype));

kernel!(ACTIVATE_BWD = "activate_bwd", |p: Activate, [x, gy] -> [gx]| {
    with_activation!(p.act, A => parallel::rows(gx, 1, #[inline(always)] |start, gx| {
        for ((gx, &x), &gy) in gx.iter_mut().zip(&x[start..]).zip(&gy[start..]) {
            *gx = gy * A::df(x);
        }
    }));
}, grid |dtype| Grid::packs(p.len as usize, dtype));

/// The activation of every element.
pub fn activate(x: &Tensor, act: Act) -> Tensor {
    let y = x.like("activate");
    let p = Activate { len: x.len() as i64, act: act as i32, unused: 0 };
    launch(&ACTIVATE_FWD, &p, &[x], &[&y]);
    let saved = x.clone();
    y.record("activate", &[x], move |g| {
        let gx = saved.like("activate backward");
        launch(&ACTIVATE_BWD, &p, &[&saved, &g], &[&gx]);
        vec![Some(gx)]
    })
}

/// Cases of [`activate`].
pub static ACTIVATE: Spec = Spec {
    name: "activate",
    cases: || {
        let case = |label, shape: &[usize], act| {
            Case::new(label, &[shape], move |t| activate(&t[0], act)).kinks(&[-3.0, 0.0, 3.0])
        };
        vec![
            case("relu", &[2, 3, 3, 5], Act::Relu),
            case("hardswish", &[2, 3, 3, 5], Act::HardSwish),
            case("hardsigmoid", &[2, 3, 3, 5], Act::HardSigmoid),
            case("silu", &[2, 3, 3, 5], Act::Silu),
            case("sigmoid", &[2, 3, 3, 5], Act::Sigmoid),
            case("whole packs", &[8], Act::HardSwish),
            case("hardswish 28x28x72", &[8, 28, 28, 72], Act::HardSwish).real(),
            case("silu 28x28x240", &[8, 28, 28, 240], Act::Silu).real(),
        ]
    },
};

/// Extents of an image tensor whose height and width are one axis.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Channels {
    n: i32,
    hw: i32,
    c: i32,
}

/// Pixels that a block of the scaling covers; `SCALE_ROWS` in `kernels/elementwise.cu` must agree.
const SCALE_ROWS: usize = 256;

kernel!(SCALE_FWD = "scale_channels_fwd", |p: Channels, [x, gate] -> [y]| {
    let (hw, c) = (p.hw as usize, p.c as usize);
    parallel::rows(y, c, #[inline(always)] |row, y| {
        for (i, (y, x)) in y.chunks_exact_mut(c).zip(x[row * c..].chunks_exact(c)).enumerate() {
            let gate = &gate[(row + i) / hw * c..][..c];
            y.iter_mut().zip(x).zip(gate).for_each(|((y, &x), &gate)| *y = x * gate);
        }
    });
}, grid |dtype| {
    let Grid { blocks: [images, spans, _], threads, .. } = Grid::channels(p.n as usize, p.c as usize, dtype);
    Grid::new([images, spans, (p.hw as usize).div_ceil(SCALE_ROWS)], threads)
});

kernel!(SCALE_GATE_BWD = "scale_channels_gate_bwd", |p: Channels, [x, gy] -> [ggate]| {
    let (hw, c) = (p.hw as usize, p.c as usize);
    parallel::pieces(ggate, c, #[inline(always)] |n, ggate| {
        ggate.fill(T::ZERO);
        let image = n * hw * c..(n + 1) * hw * c;
        for (x, gy) in x[image.clone()].chunks_exact(c).zip(gy[image].chunks_exact(c)) {
            ggate.iter_mut().zip(x).zip(gy).for_each(|((sum, &x), &gy)| *sum += x * gy);
        }
    });
}, grid |dtype| Grid::channels(p.n as usize, p.c as usize, dtype));

/// x `[n, h, w, c]` times gate `[n, c]`, broadcast over the image: the last step of squeeze-and-excitation
/// (Hu et al. 2018).
#[track_caller]
pub fn scale_channels(x: &Tensor, gate: &Tensor) -> Tensor {
    let [n, h, w, c] = nhwc(x.shape(), "scale_channels");
    assert_eq!(gate.shape(), [n, c], "scale_channels: gate for {:?}", x.shape());
    let p = Channels { n: int(n), hw: int(h * w), c: int(c) };
    let y = x.like("scale_channels");
    launch(&SCALE_FWD, &p, &[x, gate], &[&y]);
    let (sx, sgate) = (x.clone(), gate.clone());
    y.record("scale_channels", &[x, gate], move |g| {
        let gx = sx.wants_grad().then(|| {
            let gx = sx.like("scale_channels backward");
            launch(&SCALE_FWD, &p, &[&g, &sgate], &[&gx]);
            gx
        });
        let ggate = sgate.wants_grad().then(|| {
            let ggate = sgate.like("scale_channels backward");
            launch(&SCALE_GATE_BWD, &p, &[&sx, &g], &[&ggate]);
            ggate
        });
        vec![gx, ggate]
    })
}

/// Cases of [`scale_channels`].
pub static SCALE_CHANNELS: Spec = Spec {
    name: "scale_channels",
    cases: || {
        let case = |label, x: [usize; 4]| {
            Case::new(label, &[&x, &[x[0], x[3]]], |t| scale_channels(&t[0], &t[1])).linear_in(&[0, 1]).wide(&[1])
        };
        vec![
            case("2x3x4x5", [2, 3, 4, 5]),
            case("8 channels", [2, 3, 4, 8]),
            case("wider than a block", [1, 2, 2, 72]),
            case("many pixels", [1, 18, 15, 1]),
            case("14x14x240", [8, 14, 14, 240]).real(),
        ]
    },
};

kernel!(WIDEN = "widen", |len: i64, [x] -> [y]| {
    y.copy_from_slice(x);
}, grid |dtype| Grid::packs(*len as usize, dtype));
kernel!(NARROW = "narrow", |len: i64, [x] -> [y]| {
    y.copy_from_slice(x);
}, grid |dtype| Grid::packs(*len as usize, dtype));

/// x in another float type; x itself if it has that type.
#[track_caller]
fn cast(x: &Tensor, dtype: DType) -> Tensor {
    if dtype == x.dtype() {
        return x.clone();
    }
    let kernel = if dtype == x.dtype().wide() { &WIDEN } else { &NARROW };
    assert!(x.dtype() == dtype.wide() || dtype == x.dtype().wide(), "{}: {x:?} to {dtype:?}", kernel.name);
    let y = x.tape().empty(x.shape(), dtype, kernel.name);
    launch(kernel, &(x.len() as i64), &[x], &[&y]);
    let from = x.dtype();
    y.record(kernel.name, &[x], move |g| vec![Some(cast(&g, from))])
}

/// x in the type that sums of it are kept in, [`DType::wide`].
pub fn widen(x: &Tensor) -> Tensor {
    cast(x, x.dtype().wide())
}

/// x, of the wide type of `dtype`, rounded to `dtype`.
#[track_caller]
pub fn narrow(x: &Tensor, dtype: DType) -> Tensor {
    cast(x, dtype)
}

/// Cases of [`widen`] and [`narrow`].
pub static CASTS: Spec = Spec {
    name: "casts",
    cases: || {
        let round_trip = |t: &[Tensor]| narrow(&widen(&t[0]), t[0].dtype());
        vec![
            Case::new("widen", &[&[3, 7]], |t| widen(&t[0])).linear_in(&[0]),
            Case::new("widen, whole packs", &[&[2, 16]], |t| widen(&t[0])).linear_in(&[0]),
            Case::new("there and back", &[&[2, 3, 2, 5]], round_trip).linear_in(&[0]),
        ]
    },
};
