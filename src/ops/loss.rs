//! Losses, each with its gradient in the same launch.

use super::{Case, Spec};
use crate::{
    device::Grid,
    kernel,
    shape::int,
    tensor::{Tensor, launch},
};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct CrossEntropy {
    n: i32,
    classes: i32,
    smoothing: f32,
}

/// Threads of the one CUDA block; `CROSS_ENTROPY_THREADS` in `kernels/loss.cu` must agree.
const CROSS_ENTROPY_THREADS: usize = 512;

kernel!(CROSS_ENTROPY = "softmax_cross_entropy", |p: CrossEntropy, [logits, targets, weights] -> [loss, glogits]| {
    let (classes, smoothing) = (p.classes as usize, f64::from(p.smoothing));
    let total: f64 = targets.iter().enumerate().map(|(i, t)| t.f64() * weights[i % classes].f64()).sum();
    let mut sum = 0.0;
    let rows = logits.chunks_exact(classes).zip(glogits.chunks_exact_mut(classes));
    for ((z, g), t) in rows.zip(targets.chunks_exact(classes)) {
        let max = z.iter().fold(f64::NEG_INFINITY, |max, z| max.max(z.f64()));
        let log_sum = max + z.iter().map(|z| (z.f64() - max).exp()).sum::<f64>().ln();
        // Weight of each class in this sample's loss: that of its target, and the smoothed share of all.
        let share = |c: usize| (t[c].f64() * (1.0 - smoothing) + smoothing / classes as f64) * weights[c].f64();
        let mass: f64 = (0..classes).map(share).sum();
        sum += (0..classes).map(|c| share(c) * (log_sum - z[c].f64())).sum::<f64>();
        for (c, (g, z)) in g.iter_mut().zip(z).enumerate() {
            *g = T::of((mass * (z.f64() - log_sum).exp() - share(c)) / total);
        }
    }
    loss[0] = T::of(sum / total);
}, grid |_| Grid::new([1, 1, 1], CROSS_ENTROPY_THREADS));

kernel!(SCALE_BY = "scale_by", |len: i64, [x, factor] -> [y]| {
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * factor[0]);
}, grid |dtype| Grid::packs(*len as usize, dtype));

/// Mean cross-entropy of softmax(logits `[n, classes]`) against `targets` `[n, classes]` in the type of sums, as a tensor of one
/// element. A row of targets is the share of each class, [`one_hot`] where there is but one; a row sums to 1.
///
/// `weights` `[classes]` are the class weights (ones for none). With label smoothing ε the target t of a class becomes
/// (1−ε)·t + ε/classes (Szegedy et al. 2016). As in PyTorch the mean divides by the sum of the labels' weights, of mixed
/// labels by their shares.
#[track_caller]
pub fn softmax_cross_entropy(logits: &Tensor, targets: &Tensor, weights: &Tensor, smoothing: f32) -> Tensor {
    let &[n, classes] = logits.shape() else {
        panic!("softmax_cross_entropy: wants logits of shape [n, classes], got {:?}", logits.shape())
    };
    assert!(
        targets.shape() == logits.shape() && targets.dtype() == logits.dtype().wide() && weights.shape() == [classes],
        "softmax_cross_entropy: logits {:?}, targets {targets:?}, weights {weights:?}",
        logits.shape()
    );
    assert!((0.0..1.0).contains(&smoothing), "softmax_cross_entropy: a smoothing of {smoothing}");
    let p = CrossEntropy { n: int(n), classes: int(classes), smoothing };
    let (loss, glogits) = (logits.empty_wide(&[1], "softmax_cross_entropy"), logits.like("softmax_cross_entropy"));
    launch(&CROSS_ENTROPY, &p, &[logits, targets, weights], &[&loss, &glogits]);
    loss.record("softmax_cross_entropy", &[logits], move |g| {
        let gx = glogits.like("softmax_cross_entropy backward");
        launch(&SCALE_BY, &(gx.len() as i64), &[&glogits, &g], &[&gx]);
        vec![Some(gx)]
    })
}

/// Targets of softmax cross-entropy, row by row, where each has one of so many classes.
pub fn one_hot(labels: &[u32], classes: usize) -> Vec<f32> {
    let row = |&label: &u32| (0..classes).map(move |c| f32::from(u8::from(c == label as usize)));
    labels.iter().flat_map(row).collect()
}

/// Cases of [`softmax_cross_entropy`].
pub static SOFTMAX_CROSS_ENTROPY: Spec = Spec {
    name: "softmax_cross_entropy",
    cases: || {
        let case = |label, n: usize, classes: usize, smoothing: f32, mixed: bool| {
            Case::new(label, &[&[n, classes]], move |t| {
                let labels: Vec<u32> = (0..n as u32).map(|i| (7 * i + 3) % classes as u32).collect();
                let mut targets: Vec<f64> = one_hot(&labels, classes).into_iter().map(f64::from).collect();
                if mixed {
                    // A quarter of each label is that of the next image.
                    let next = targets.iter().cycle().skip(classes);
                    targets = targets.iter().zip(next).map(|(own, next)| 0.75 * own + 0.25 * next).collect();
                }
                let targets = t[0].tape().floats(&[n, classes], t[0].dtype().wide(), &targets);
                let weights: Vec<f64> = (0..classes).map(|c| 0.5 + c as f64).collect();
                let weights = t[0].tape().floats(&[classes], t[0].dtype().wide(), &weights);
                softmax_cross_entropy(&t[0], &targets, &weights, smoothing)
            })
        };
        vec![
            case("weighted", 5, 4, 0.0, false),
            case("smoothed", 3, 7, 0.1, false),
            case("mixed", 6, 5, 0.1, true),
            case("many classes", 18, 33, 0.1, true),
            case("batch 32", 32, 10, 0.1, false).real(0),
        ]
    },
};
