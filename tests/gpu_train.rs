//! Whole training steps on the GPU or its simulator: as the CPU trains, recorded as launched, and in half precision.

mod common;

use roentgen::{
    data::{Augment, Batch, sampling::Turn},
    device::{DType, Device, cpu::Cpu},
    models::{Ends, Model},
    ops::augment::Change,
    rng::{Purpose, Rng},
    task::Loss,
    train::{Config, Objective, Optimiser, Optimizer, step::Steps},
    weights,
};
use std::sync::Arc;

const CLASSES: usize = 3;
/// Images of a batch: few, since the simulator computes on the host.
const IMAGES: usize = 4;
const RATE: f64 = 3e-5;
/// Four steps: the first two are launched, the third is recorded, the fourth replayed.
const STEPS: u32 = 4;

fn batch(step: u32, size: usize) -> Batch {
    let mut rng = Rng::new(7, Purpose::Test, step, 0);
    let pixels = (0..IMAGES * size * size).map(|_| rng.bits() as u8).collect();
    // Everything that a step reads anew changes from step to step.
    let augment = Augment { gamma: [0.8, 1.2], noise: 0.05, cutout: 0.4, mixup: 1.0, ..Augment::default() };
    let turn = |record| Turn { record, pass: step };
    let mut changes: Vec<Change> = (0..IMAGES as u32).map(|i| augment.draw(3, turn(i), size, 0.5)).collect();
    changes.iter_mut().zip(1..).for_each(|(change, next)| change.partner = next % IMAGES as u32);
    let targets = (0..IMAGES * CLASSES).map(|_| rng.uniform() - 0.5).collect();
    Batch { targets, changes, ..Batch::plain(size, pixels, (0..IMAGES as u32).map(|i| i % CLASSES as u32).collect()) }
}

/// Losses of `steps` steps, and the network after them.
fn train(device: &Arc<dyn Device>, net: &str, size: usize, dtype: DType) -> (Vec<f64>, Model) {
    let objective = Objective::CrossEntropy { class_weights: vec![1.0; CLASSES], label_smoothing: 0.0 };
    train_for(objective, 0, device, net, size, dtype)
}

/// The same for another objective, with so many numbers beside each image.
fn train_for(
    objective: Objective,
    inputs: usize,
    device: &Arc<dyn Device>,
    net: &str,
    size: usize,
    dtype: DType,
) -> (Vec<f64>, Model) {
    let config = Config { model: net.into(), optimizer: Optimizer::Sgd, ..Config::default() };
    let mut model = Model::between(net, Ends { channels: 3, inputs, classes: CLASSES }, device, dtype, 1).unwrap();
    let optimiser = Optimiser::new(&mut model, &config).unwrap();
    let mut run = Steps::new(objective, 1);
    let batch = |step, size| Batch { inputs: vec![step as f32; IMAGES * inputs], ..batch(step, size) };
    let one = |step| run.train(&model, &optimiser, &batch(step, size), (u64::from(step), RATE)).unwrap().loss;
    let losses = (0..STEPS).map(one).collect();
    (losses, model)
}

fn values(model: &Model) -> weights::Tensors {
    weights::tensors(&model.params).unwrap()
}

fn check(net: &str, size: usize, dtype: DType, tolerance: f64) {
    let Some(gpu) = common::gpu() else { return };
    let (expected, _) = train(&Cpu::new(2 << 30), net, size, dtype);
    let (losses, recorded) = train(&gpu, net, size, dtype);
    for (step, (loss, expected)) in losses.iter().zip(&expected).enumerate() {
        let error = (loss - expected).abs() / expected;
        assert!(
            error < tolerance,
            "{net}, {dtype:?}, step {step}: loss {loss}, on the CPU {expected}, {error:.1e} apart"
        );
    }
    // A device that measures kernels does not record.
    let launching = common::gpu().expect("it was there a moment ago");
    launching.kernel_times();
    let (launched_losses, launched) = train(&launching, net, size, dtype);
    assert!(launching.kernel_times().len() > 10, "the steps were not launched");
    assert_eq!(losses, launched_losses, "{net}: the recorded step has other losses");
    assert!(values(&recorded) == values(&launched), "{net}: the recorded step leaves other values");
    drop((recorded, launched));
    gpu.sync().unwrap();
    assert_eq!(gpu.memory().in_use, 0, "{net}: memory is left in use");
    // The pool of a recorded step counts, but ends with it.
    let (recording, launching) = (gpu.memory(), launching.memory());
    assert!(
        recording.peak >= launching.peak,
        "{net}: a recorded step takes {recording:?}, a launched one {launching:?}"
    );
}

#[test]
fn resnet18_trains_as_on_the_cpu() {
    // With 16 pixels a channel in the last maps; with 4, rounding grows a hundredfold a step.
    check("resnet18", 64, DType::F32, 1e-4);
}

#[test]
fn resnet18_trains_as_on_the_cpu_in_f64() {
    check("resnet18", 32, DType::F64, 1e-8);
}

#[test]
fn mobilenet_v3_small_trains_as_on_the_cpu() {
    check("mobilenet_v3_small", 32, DType::F32, 1e-4);
}

/// Targets and the numbers beside the images change from step to step, in a recorded step too.
#[test]
fn other_objectives_train_as_on_the_cpu() {
    let Some(gpu) = common::gpu() else { return };
    let sigmoid = |loss| Objective::Sigmoid { loss, weights: vec![0.5; CLASSES], positive: vec![2.0; CLASSES] };
    for (objective, inputs) in [(Objective::Distance(Loss::Huber), 2), (sigmoid(Loss::Focal), 0)] {
        let net = "mobilenet_v3_small";
        let (expected, _) = train_for(objective.clone(), inputs, &Cpu::new(2 << 30), net, 32, DType::F32);
        for (dtype, tolerance) in [(DType::F32, 1e-4), (DType::F16, 0.02)] {
            let (losses, _) = train_for(objective.clone(), inputs, &gpu, net, 32, dtype);
            for (loss, expected) in losses.iter().zip(&expected) {
                let error = (loss - expected).abs() / expected;
                assert!(error < tolerance, "{objective:?}, {dtype:?}: {losses:?}, on the CPU {expected:?}");
            }
        }
    }
}

/// The first step of a network and the loss after it, in double precision: on images this small the last batch norms see four
/// values a channel, and multiply rounding.
fn one_step(net: &str, size: usize) {
    let Some(gpu) = common::gpu() else { return };
    let losses = |device: &Arc<dyn Device>| {
        let config = Config { model: net.into(), optimizer: Optimizer::Sgd, ..Config::default() };
        let mut model = Model::new(net, CLASSES, device, DType::F64, 1).unwrap();
        let optimiser = Optimiser::new(&mut model, &config).unwrap();
        let objective = Objective::CrossEntropy { class_weights: vec![1.0; CLASSES], label_smoothing: 0.0 };
        let mut run = Steps::new(objective, 1);
        let mut one = |step| run.train(&model, &optimiser, &batch(0, size), (step, RATE)).unwrap().loss;
        [one(0), one(1)]
    };
    let (expected, found) = (losses(&Cpu::new(8 << 30)), losses(&gpu));
    for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let error = (found - expected).abs() / expected;
        assert!(error < 1e-6, "{net}, step {step}: loss {found}, on the CPU {expected}, {error:.1e} apart");
    }
}

macro_rules! one_step {
    ($($net:ident at $size:literal)*) => {
        mod one_step_is_as_on_the_cpu_of {
            $(#[test]
            fn $net() {
                super::one_step(stringify!($net), $size);
            })*
        }
    };
}

one_step! {
    resnet34 at 32
    resnet50 at 32
    vgg16 at 32
    densenet121 at 32
    inception_v3 at 75
    efficientnet_b3 at 32
    efficientnet_b4 at 32
    mobilenet_v3_large at 32
}

#[test]
fn half_precision_trains() {
    let Some(gpu) = common::gpu() else { return };
    let (expected, _) = train(&Cpu::new(2 << 30), "mobilenet_v3_small", 32, DType::F32);
    for dtype in [DType::BF16, DType::F16] {
        let (losses, model) = train(&gpu, "mobilenet_v3_small", 32, dtype);
        let error = (losses[0] - expected[0]).abs() / expected[0];
        assert!(error < 0.01, "{dtype:?}: first loss {}, in f32 {}", losses[0], expected[0]);
        assert!(losses.iter().all(|loss| loss.is_finite()), "{dtype:?}: {losses:?}");
        // The filters that kernels read are the rounded values that the optimiser moved.
        for (id, entry) in model.params.iter() {
            let Some(shadow) = entry.shadow() else { continue };
            let mut bytes = vec![0; shadow.bytes()];
            gpu.download(shadow, &mut bytes).unwrap();
            let mut kept = vec![0; entry.block().bytes()];
            gpu.download(entry.block(), &mut kept).unwrap();
            let rounded = dtype.decode(&dtype.encode(&DType::F32.decode(&kept)));
            assert!(dtype.decode(&bytes) == rounded, "{dtype:?}: {} is stale ({id:?})", entry.name);
        }
    }
}
