//! Losses, each with its gradient in the same launch.

use super::{Case, Spec};
use crate::{
    device::{Grid, Real},
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

impl CrossEntropy {
    /// Weight of a class in a sample's loss: that of its target, and the smoothed share of all.
    fn share<T: Real>(&self, target: T, weight: T) -> f64 {
        let smoothing = f64::from(self.smoothing);
        (target.f64() * (1.0 - smoothing) + smoothing / f64::from(self.classes)) * weight.f64()
    }

    /// A block for each row.
    fn grid(&self) -> Grid {
        Grid::new([self.n as usize, 1, 1], CROSS_ENTROPY_THREADS)
    }
}

/// Threads of a CUDA block; `CROSS_ENTROPY_THREADS` in `kernels/loss.cu` must agree.
const CROSS_ENTROPY_THREADS: usize = 128;
/// What is known of a row before all are added up; `LossRow` in `kernels/loss.cu` must agree.
const ROW: usize = 5;

kernel!(CROSS_ENTROPY_ROWS = "softmax_cross_entropy_rows", |p: CrossEntropy, [logits, targets, weights] -> [rows]| {
    let classes = p.classes as usize;
    let all = logits.chunks_exact(classes).zip(targets.chunks_exact(classes));
    for ((z, t), row) in all.zip(rows.chunks_exact_mut(ROW)) {
        let largest = z.iter().fold(f64::NEG_INFINITY, |max, z| max.max(z.f64()));
        let log_sum = z.iter().map(|z| (z.f64() - largest).exp()).sum::<f64>().ln();
        let share = |c: usize| p.share(t[c], weights[c]);
        let mass: f64 = (0..classes).map(share).sum();
        let weight: f64 = t.iter().zip(weights).map(|(t, w)| t.f64() * w.f64()).sum();
        let loss: f64 = (0..classes).map(|c| share(c) * (largest + log_sum - z[c].f64())).sum();
        row.copy_from_slice(&[largest, log_sum, mass, weight, loss].map(T::of));
    }
}, grid |_| p.grid());

kernel!(CROSS_ENTROPY = "softmax_cross_entropy", |p: CrossEntropy, [logits, targets, weights, rows] -> [loss, glogits]| {
    let classes = p.classes as usize;
    let sum = |i: usize| rows.chunks_exact(ROW).map(|row| row[i].f64()).sum::<f64>();
    let (weight, total) = (sum(3), sum(4));
    loss[0] = T::of(total / weight);
    let all = logits.chunks_exact(classes).zip(glogits.chunks_exact_mut(classes)).zip(targets.chunks_exact(classes));
    for (((z, g), t), row) in all.zip(rows.chunks_exact(ROW)) {
        let [largest, log_sum, mass] = [row[0].f64(), row[1].f64(), row[2].f64()];
        for c in 0..classes {
            g[c] = T::of((mass * (z[c].f64() - largest - log_sum).exp() - p.share(t[c], weights[c])) / weight);
        }
    }
}, grid |_| p.grid());

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
    let rows = logits.empty_wide(&[n, ROW], "softmax_cross_entropy");
    launch(&CROSS_ENTROPY_ROWS, &p, &[logits, targets, weights], &[&rows]);
    let (loss, glogits) = (logits.empty_wide(&[1], "softmax_cross_entropy"), logits.like("softmax_cross_entropy"));
    launch(&CROSS_ENTROPY, &p, &[logits, targets, weights, &rows], &[&loss, &glogits]);
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
            case("many classes", 3, 133, 0.1, true),
            case("many rows", 131, 3, 0.1, false),
            case("batch 32", 32, 10, 0.1, false).real(),
        ]
    },
};
