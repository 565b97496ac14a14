//! Losses against targets of the prediction's own shape: binary cross-entropy, focal, squared, absolute and Huber error, Dice.
//!
//! Sums leave one partial result a part, added up by a second launch. Gradients are computed from the inputs again and
//! rounded once, after the factor of the backward pass: a mean over a million pixels has gradients that half precision
//! could not hold before the loss scale is in them.

use super::{Case, Spec};
use crate::{
    device::{Grid, Kernel, Real, cpu::parallel},
    kernel,
    shape::int,
    tensor::{Tensor, launch},
};
use bytemuck::{Pod, Zeroable};

/// Elements of one partial sum; `PART` in `kernels/dense_loss.cu` must agree.
const PART: usize = 1024;

/// A mean over `len` elements of `classes` classes each.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Mean {
    len: i64,
    classes: i32,
    /// A [`Distance`] by number.
    distance: i32,
    /// δ of Huber, γ of focal.
    delta: f32,
    unused: u32,
}

impl Mean {
    fn parts(&self) -> usize {
        (self.len as usize).div_ceil(PART)
    }

    /// Sums of `f` over the parts, as shares of the mean.
    fn sums<T: Real>(&self, partials: &mut [T], f: impl Fn(usize) -> f64 + Sync) {
        let len = self.len as usize;
        parallel::pieces(partials, 1, |part, sum| {
            sum[0] = T::of((part * PART..len.min((part + 1) * PART)).map(&f).sum::<f64>() / len as f64);
        });
    }

    /// Gradients `df` of the elements, times the factor `g` of the backward pass.
    fn gradients<T: Real>(&self, g: T, gx: &mut [T], df: impl Fn(usize) -> f64 + Sync) {
        let factor = g.f64() / self.len as f64;
        parallel::rows(gx, 1, |start, gx| {
            gx.iter_mut().enumerate().for_each(|(i, gx)| *gx = T::of(df(start + i) * factor));
        });
    }
}

kernel!(SUM = "loss_sum", |_parts: i64, [partials] -> [loss]| {
    loss[0] = T::of(partials.iter().map(|x| x.f64()).sum());
}, grid |_| Grid::new([1, 1, 1], Grid::THREADS));

/// log(1 + exp(x)).
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

kernel!(BCE_FWD = "bce_with_logits_fwd", |p: Mean, [logits, targets, weights, positive] -> [partials]| {
    p.sums(partials, |i| {
        let (x, y, class) = (logits[i].f64(), targets[i].f64(), i % p.classes as usize);
        weights[class].f64() * ((1.0 - y) * softplus(x) + positive[class].f64() * y * softplus(-x))
    });
}, grid |_| Grid::new([p.parts(), 1, 1], Grid::THREADS));

kernel!(BCE_BWD = "bce_with_logits_bwd", |p: Mean, [logits, targets, weights, positive, g] -> [glogits]| {
    p.gradients(g[0], glogits, |i| {
        let (x, y, class) = (logits[i].f64(), targets[i].f64(), i % p.classes as usize);
        weights[class].f64() * ((1.0 - y) * sigmoid(x) - positive[class].f64() * y * sigmoid(-x))
    });
}, grid |_| Grid::threads(p.len as usize));

kernel!(FOCAL_FWD = "focal_fwd", |p: Mean, [logits, targets, weights, positive] -> [partials]| {
    let gamma = f64::from(p.delta);
    p.sums(partials, |i| {
        let (x, y, class) = (logits[i].f64(), targets[i].f64(), i % p.classes as usize);
        let part = |x: f64| sigmoid(x).powf(gamma) * softplus(x);
        weights[class].f64() * ((1.0 - y) * part(x) + positive[class].f64() * y * part(-x))
    });
}, grid |_| Grid::new([p.parts(), 1, 1], Grid::THREADS));

kernel!(FOCAL_BWD = "focal_bwd", |p: Mean, [logits, targets, weights, positive, g] -> [glogits]| {
    let gamma = f64::from(p.delta);
    p.gradients(g[0], glogits, |i| {
        let (x, y, class) = (logits[i].f64(), targets[i].f64(), i % p.classes as usize);
        // d/dx σ(x)^γ·softplus(x)
        let part = |x: f64| sigmoid(x).powf(gamma) * (gamma * sigmoid(-x) * softplus(x) + sigmoid(x));
        weights[class].f64() * ((1.0 - y) * part(x) - positive[class].f64() * y * part(-x))
    });
}, grid |_| Grid::threads(p.len as usize));

/// A loss of one number given another.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Distance {
    Squared,
    Absolute,
    /// Squared up to this distance, absolute beyond.
    Huber(f32),
}

impl Distance {
    fn parameters(self, len: usize) -> Mean {
        let (distance, delta) = match self {
            Distance::Squared => (0, 0.0),
            Distance::Absolute => (1, 0.0),
            Distance::Huber(delta) => (2, delta),
        };
        Mean { len: len as i64, classes: 1, distance, delta, unused: 0 }
    }

    fn of(p: &Mean) -> Distance {
        match p.distance {
            0 => Distance::Squared,
            1 => Distance::Absolute,
            _ => Distance::Huber(p.delta),
        }
    }

    fn f(self, d: f64) -> f64 {
        match self {
            Distance::Squared => d * d,
            Distance::Absolute => d.abs(),
            Distance::Huber(delta) if d.abs() <= f64::from(delta) => 0.5 * d * d,
            Distance::Huber(delta) => f64::from(delta) * (d.abs() - 0.5 * f64::from(delta)),
        }
    }

    fn df(self, d: f64) -> f64 {
        let sign = if d == 0.0 { 0.0 } else { d.signum() };
        match self {
            Distance::Squared => 2.0 * d,
            Distance::Absolute => sign,
            Distance::Huber(delta) if d.abs() <= f64::from(delta) => d,
            Distance::Huber(delta) => f64::from(delta) * sign,
        }
    }
}

kernel!(DISTANCE_FWD = "distance_fwd", |p: Mean, [x, targets] -> [partials]| {
    let distance = Distance::of(p);
    p.sums(partials, |i| distance.f(x[i].f64() - targets[i].f64()));
}, grid |_| Grid::new([p.parts(), 1, 1], Grid::THREADS));

kernel!(DISTANCE_BWD = "distance_bwd", |p: Mean, [x, targets, g] -> [gx]| {
    let distance = Distance::of(p);
    p.gradients(g[0], gx, |i| distance.df(x[i].f64() - targets[i].f64()));
}, grid |_| Grid::threads(p.len as usize));

/// The mean of a loss over the elements of x, and its gradient.
fn mean(op: &'static str, p: Mean, [fwd, bwd]: [&'static Kernel; 2], x: &Tensor, others: &[&Tensor]) -> Tensor {
    let partials = x.empty_wide(&[p.parts()], op);
    let ins: Vec<&Tensor> = std::iter::once(x).chain(others.iter().copied()).collect();
    launch(fwd, &p, &ins, &[&partials]);
    let loss = match p.parts() {
        1 => partials,
        parts => {
            let loss = x.empty_wide(&[1], op);
            launch(&SUM, &(parts as i64), &[&partials], &[&loss]);
            loss
        }
    };
    let saved: Vec<Tensor> = ins.into_iter().cloned().collect();
    loss.record(op, &[x], move |g| {
        let gx = saved[0].like(op);
        launch(bwd, &p, &saved.iter().chain([&g]).collect::<Vec<_>>(), &[&gx]);
        vec![Some(gx)]
    })
}

#[track_caller]
fn same_shape(op: &str, x: &Tensor, targets: &Tensor) {
    assert_eq!(x.shape(), targets.shape(), "{op}: prediction and targets differ in shape");
    assert_eq!(targets.dtype(), x.dtype().wide(), "{op}: targets for {x:?}");
    assert!(!x.is_empty(), "{op}: a mean over nothing");
}

/// Mean binary cross-entropy of σ(logits `[…, k]`) against targets in [0, 1] of the same shape, as a tensor of one element;
/// PyTorch's `binary_cross_entropy_with_logits`.
///
/// `weights` `[k]` multiply the loss of a class and `positive` `[k]` its positive part (ones for none). All but the logits
/// are in [`DType::wide`](crate::device::DType::wide).
#[track_caller]
pub fn bce_with_logits(logits: &Tensor, targets: &Tensor, weights: &Tensor, positive: &Tensor) -> Tensor {
    let p = by_class("bce_with_logits", logits, targets, [weights, positive], 0.0);
    mean("bce_with_logits", p, [&BCE_FWD, &BCE_BWD], logits, &[targets, weights, positive])
}

/// Mean focal loss (Lin et al. 2017), as [`bce_with_logits`]: with p = σ(logits), the parts of the cross-entropy are multiplied
/// by p^γ where the target is 0 and by (1 − p)^γ where it is 1, so that what is known already counts less. Their α is
/// `weights` = 1 − α and `positive` = α / (1 − α).
#[track_caller]
pub fn focal(logits: &Tensor, targets: &Tensor, weights: &Tensor, positive: &Tensor, gamma: f32) -> Tensor {
    assert!(gamma >= 0.0, "focal: a gamma of {gamma}");
    let p = by_class("focal", logits, targets, [weights, positive], gamma);
    mean("focal", p, [&FOCAL_FWD, &FOCAL_BWD], logits, &[targets, weights, positive])
}

/// The parameters of a mean over elements whose last axis is that of classes with weights.
#[track_caller]
fn by_class(op: &str, logits: &Tensor, targets: &Tensor, weights: [&Tensor; 2], delta: f32) -> Mean {
    same_shape(op, logits, targets);
    let classes = *logits.shape().last().unwrap_or_else(|| panic!("{op}: wants an axis of classes"));
    for w in weights {
        assert_eq!(w.shape(), [classes], "{op}: class weights for {logits:?}");
    }
    Mean { len: logits.len() as i64, classes: int(classes), distance: 0, delta, unused: 0 }
}

/// Mean squared error of x against targets of its shape in [`DType::wide`](crate::device::DType::wide), as a tensor of one
/// element.
#[track_caller]
pub fn mse(x: &Tensor, targets: &Tensor) -> Tensor {
    same_shape("mse", x, targets);
    mean("mse", Distance::Squared.parameters(x.len()), [&DISTANCE_FWD, &DISTANCE_BWD], x, &[targets])
}

/// Mean absolute error, as [`mse`].
#[track_caller]
pub fn l1(x: &Tensor, targets: &Tensor) -> Tensor {
    same_shape("l1", x, targets);
    mean("l1", Distance::Absolute.parameters(x.len()), [&DISTANCE_FWD, &DISTANCE_BWD], x, &[targets])
}

/// Mean Huber loss (Huber 1964), as [`mse`]: d²/2 up to a distance of `delta`, delta·(d − delta/2) beyond.
#[track_caller]
pub fn huber(x: &Tensor, targets: &Tensor, delta: f32) -> Tensor {
    same_shape("huber", x, targets);
    assert!(delta > 0.0, "huber: a delta of {delta}");
    mean("huber", Distance::Huber(delta).parameters(x.len()), [&DISTANCE_FWD, &DISTANCE_BWD], x, &[targets])
}

/// n masks of `pixels` pixels.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Dice {
    pixels: i64,
    n: i32,
    smoothing: f32,
    /// Weight of the term that only missed pixels count in.
    missed: f32,
    unused: u32,
}

/// What is summed over a mask of probabilities p and targets y: p, y, p·y, p·y².
const DICE_SUMS: usize = 4;

impl Dice {
    fn parts(&self) -> usize {
        (self.pixels as usize).div_ceil(PART)
    }

    /// Numerator and denominator of both ratios: that of p to y, and that of p·y to y.
    fn ratios(&self, [p, y, py, pyy]: [f64; DICE_SUMS]) -> [(f64, f64); 2] {
        let smoothing = f64::from(self.smoothing);
        [(2.0 * py + smoothing, p + y + smoothing), (2.0 * pyy + smoothing, py + y + smoothing)]
    }
}

kernel!(DICE_FWD = "dice_sums", |d: Dice, [logits, targets] -> [partials]| {
    let (pixels, parts) = (d.pixels as usize, d.parts());
    parallel::pieces(partials, DICE_SUMS, |i, sums| {
        let (n, part) = (i / parts, i % parts);
        let mut sum = [0.0; DICE_SUMS];
        for at in n * pixels + part * PART..n * pixels + pixels.min((part + 1) * PART) {
            let (p, y) = (sigmoid(logits[at].f64()), targets[at].f64());
            sum.iter_mut().zip([p, y, p * y, p * y * y]).for_each(|(sum, x)| *sum += x);
        }
        sums.iter_mut().zip(sum).for_each(|(sums, sum)| *sums = T::of(sum));
    });
}, grid |_| Grid::new([d.n as usize * d.parts(), 1, 1], Grid::THREADS));

kernel!(DICE_COMBINE = "dice_combine", |d: Dice, [partials] -> [sums, loss]| {
    let mut total = 0.0;
    for (sums, partials) in sums.chunks_exact_mut(DICE_SUMS).zip(partials.chunks_exact(d.parts() * DICE_SUMS)) {
        let sum: [f64; DICE_SUMS] =
            std::array::from_fn(|i| partials.chunks_exact(DICE_SUMS).map(|part| part[i].f64()).sum());
        sums.iter_mut().zip(sum).for_each(|(sums, sum)| *sums = T::of(sum));
        let [all, missed] = d.ratios(sum).map(|(above, below)| 1.0 - above / below);
        total += all + f64::from(d.missed) * missed;
    }
    loss[0] = T::of(total / f64::from(d.n));
}, grid |_| Grid::new([1, 1, 1], Grid::THREADS));

kernel!(DICE_BWD = "dice_bwd", |d: Dice, [logits, targets, sums, g] -> [glogits]| {
    let pixels = d.pixels as usize;
    let factor = g[0].f64() / f64::from(d.n);
    parallel::pieces(glogits, pixels, |n, glogits| {
        let [(above, below), (missed_above, missed_below)] =
            d.ratios(std::array::from_fn(|i| sums[n * DICE_SUMS + i].f64()));
        for (i, g) in glogits.iter_mut().enumerate() {
            let (x, y) = (logits[n * pixels + i].f64(), targets[n * pixels + i].f64());
            let all = (above - 2.0 * y * below) / (below * below);
            let missed = y * (missed_above - 2.0 * y * missed_below) / (missed_below * missed_below);
            *g = T::of((all + f64::from(d.missed) * missed) * sigmoid(x) * sigmoid(-x) * factor);
        }
    });
}, grid |_| Grid::new([(d.pixels as usize).div_ceil(Grid::THREADS), d.n as usize, 1], Grid::THREADS));

/// Soft Dice loss of p = σ(logits `[n, …]`) against masks y of the same shape, a mean over the images, as a tensor of one
/// element: D(p, y) + missed·D(p·y, y) with D(a, b) = 1 − (2·Σab + smoothing) / (Σa + Σb + smoothing).
///
/// The first term is that of Milletari et al. 2016 without their squares; only false negatives count in the second. Masks
/// are in [`DType::wide`](crate::device::DType::wide).
#[track_caller]
pub fn dice(logits: &Tensor, masks: &Tensor, smoothing: f32, missed: f32) -> Tensor {
    let op = "dice";
    same_shape(op, logits, masks);
    assert!(smoothing > 0.0, "dice: an empty mask needs a smoothing above zero");
    let n = logits.shape()[0];
    let d = Dice { pixels: (logits.len() / n) as i64, n: int(n), smoothing, missed, unused: 0 };
    let partials = logits.empty_wide(&[n, d.parts(), DICE_SUMS], op);
    launch(&DICE_FWD, &d, &[logits, masks], &[&partials]);
    let (sums, loss) = (logits.empty_wide(&[n, DICE_SUMS], op), logits.empty_wide(&[1], op));
    launch(&DICE_COMBINE, &d, &[&partials], &[&sums, &loss]);
    let (logits, masks) = (logits.clone(), masks.clone());
    loss.record(op, &[&logits.clone()], move |g| {
        let glogits = logits.like("dice backward");
        launch(&DICE_BWD, &d, &[&logits, &masks, &sums, &g], &[&glogits]);
        vec![Some(glogits)]
    })
}

/// A case against targets made from their positions.
fn case(
    label: &'static str,
    shape: &[usize],
    target: fn(usize) -> f64,
    loss: impl Fn(&Tensor, &Tensor) -> Tensor + 'static,
) -> Case {
    Case::new(label, &[shape], move |t| {
        let targets: Vec<f64> = (0..t[0].len()).map(target).collect();
        loss(&t[0], &t[0].tape().floats(t[0].shape(), t[0].dtype().wide(), &targets))
    })
}

/// 0, 1 and a value between, in turn and not.
fn label(i: usize) -> f64 {
    [1.0, 0.0, 0.25, 1.0, 0.0, 0.0, 1.0][i % 7]
}

/// Weights of the classes of `x`, and of their positive parts, that differ.
fn class_weights(x: &Tensor) -> [Tensor; 2] {
    let classes = *x.shape().last().expect("a case has classes");
    let weights =
        |f: fn(usize) -> f64| x.tape().floats(&[classes], x.dtype().wide(), &(0..classes).map(f).collect::<Vec<_>>());
    [weights(|c| 0.5 + c as f64), weights(|c| 3.0 - 0.5 * c as f64)]
}

/// Cases of [`bce_with_logits`].
pub static BCE_WITH_LOGITS: Spec = Spec {
    name: "bce_with_logits",
    cases: || {
        let bce = |x: &Tensor, y: &Tensor| {
            let [weights, positive] = class_weights(x);
            bce_with_logits(x, y, &weights, &positive)
        };
        vec![
            case("5x3", &[5, 3], label, bce),
            case("two parts", &[1, 33, 32, 1], label, bce),
            case("masks of 256x256", &[8, 256, 256, 1], label, bce).real(),
        ]
    },
};

/// Cases of [`focal`].
pub static FOCAL: Spec = Spec {
    name: "focal",
    cases: || {
        let with = |gamma: f32| {
            move |x: &Tensor, y: &Tensor| {
                let [weights, positive] = class_weights(x);
                focal(x, y, &weights, &positive, gamma)
            }
        };
        vec![
            case("5x3", &[5, 3], label, with(2.0)),
            case("cross-entropy", &[4, 2], label, with(0.0)),
            case("two parts", &[1, 33, 32, 1], label, with(1.5)),
            case("masks of 256x256", &[8, 256, 256, 1], label, with(2.0)).real(),
        ]
    },
};

/// Cases of [`mse`], [`l1`] and [`huber`].
pub static DISTANCES: Spec = Spec {
    name: "distances",
    cases: || {
        // Exact in every float type, and never at a kink.
        let target = |i: usize| (i % 5) as f64 - 2.0;
        let kinks: &[f64] = &[-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0];
        vec![
            case("mse", &[7, 1], target, mse),
            case("l1", &[5, 3], target, l1).kinks(kinks),
            case("huber", &[5, 3], target, |x, y| huber(x, y, 1.0)).kinks(kinks),
            case("mse of images", &[8, 128, 128, 3], target, mse).real(),
        ]
    },
};

/// Cases of [`dice`].
pub static DICE: Spec = Spec {
    name: "dice",
    cases: || {
        vec![
            case("plain", &[3, 4, 3, 1], label, |x, y| dice(x, y, 1.0, 0.0)),
            case("missed pixels count more", &[2, 5, 4, 1], label, |x, y| dice(x, y, 0.5, 8.0)),
            case("two parts", &[1, 33, 32, 1], label, |x, y| dice(x, y, 1.0, 1.0)),
            case("empty masks", &[2, 3, 3, 1], |_| 0.0, |x, y| dice(x, y, 1.0, 8.0)),
            case("masks of 256x256", &[8, 256, 256, 1], label, |x, y| dice(x, y, 1.0, 8.0)).real(),
        ]
    },
};
