//! What a network costs, without running it: beside torchvision's published figures, and beside real steps of training.

mod common;

use common::{fail, roentgen, succeed};
use roentgen::{
    data::Batch,
    device::{
        DType, Device, Memory,
        cpu::Cpu,
        cuda::Cuda,
        dry::{Dry, Like},
    },
    models::{self, Model},
    trace::Trace,
    train::{Config, Objective, Optimiser, Precision, forecast, step::Steps},
};
use std::sync::Arc;

/// Backbone, image side, parameters, and 10⁹ multiply-adds an image: `num_params` and `_ops` of torchvision 0.29's
/// `IMAGENET1K_V1` weights.
const PUBLISHED: &[(&str, usize, usize, &str)] = &[
    ("resnet18", 224, 11_689_512, "1.814"),
    ("resnet34", 224, 21_797_672, "3.664"),
    ("resnet50", 224, 25_557_032, "4.089"),
    ("vgg16", 224, 138_357_544, "15.470"),
    ("densenet121", 224, 7_978_856, "2.834"),
    ("inception_v3", 299, 27_161_264, "5.713"),
    ("efficientnet_b3", 300, 12_233_232, "1.827"),
    ("efficientnet_b4", 380, 19_341_616, "4.394"),
    ("mobilenet_v3_small", 224, 2_542_856, "0.057"),
    ("mobilenet_v3_large", 224, 5_483_032, "0.217"),
];

#[test]
fn parameters_and_multiply_adds_are_torchvisions() {
    for name in models::names() {
        let &(_, size, parameters, macs) = PUBLISHED.iter().find(|(known, ..)| *known == name).expect(name);
        let model = Model::new(name, 1000, &Dry::new(Like::Cpu), DType::F32, 0).unwrap();
        let layers = Trace::new(&model, 1, size).unwrap().layers();
        let sum = layers.iter().map(|layer| layer.macs).sum::<u64>() as f64 / 1e9;
        assert_eq!(format!("{sum:.3}"), macs, "{name}");
        assert_eq!(model.params.parameter_count(), parameters, "{name}");
    }
}

#[test]
fn layers_are_named_and_counted_once() {
    let model = Model::new("resnet18", 7, &Dry::new(Like::Cpu), DType::F32, 0).unwrap();
    let layers = Trace::new(&model, 3, 64).unwrap().layers();
    let of = |name: &str| layers.iter().find(|layer| layer.name == name).expect(name);
    assert_eq!(of("conv1").output, [3, 32, 32, 64]);
    assert_eq!((of("conv1").kernel, of("conv1").macs), ("conv2d_fwd", 3 * 32 * 32 * 64 * 7 * 7 * 3));
    assert_eq!((of("bn1").kernel, of("bn1").parameters), ("bn_act_fwd", 128));
    assert_eq!(of("layer4.1.bn2").kernel, "bn_add_relu_fwd");
    assert_eq!((of("fc").output.as_slice(), of("fc").parameters), (&[3, 7][..], 7 * 513));
    assert_eq!(layers.iter().map(|layer| layer.parameters).sum::<usize>(), model.params.parameter_count());
}

const CLASSES: usize = 3;

/// Memory after steps of training, and how often each kernel was launched.
fn train(device: &Arc<dyn Device>, config: &Config, dtype: DType) -> (Memory, Vec<(&'static str, u64)>) {
    device.kernel_times();
    let mut model = Model::new(&config.model, CLASSES, device, dtype, 1).unwrap();
    let optimiser = Optimiser::new(&mut model, config).unwrap();
    let objective = Objective::CrossEntropy { class_weights: vec![1.0; CLASSES], label_smoothing: 0.0 };
    let mut steps = Steps::new(objective, 1);
    let Config { batch: n, size, .. } = *config;
    let batch = Batch::plain(size, (0..n * size * size).map(|i| (i % 251) as u8).collect(), vec![1; n]);
    for step in 0..3 {
        steps.train(&model, &optimiser, &batch, (step, 1e-4)).unwrap();
    }
    let launches = device.kernel_times().into_iter().map(|time| (time.name, time.launches));
    let mut launches: Vec<_> = launches.collect();
    launches.sort();
    (device.memory(), launches)
}

fn dry_is_like(real: &Arc<dyn Device>, like: Like, dtype: DType, config: &Config) {
    let (memory, launches) = train(real, config, dtype);
    let (dry_memory, dry_launches) = train(&Dry::new(like), config, dtype);
    assert_eq!(launches, dry_launches, "{}", config.model);
    let bytes = |memory: Memory| (memory.peak, memory.held, memory.in_use);
    assert_eq!(bytes(memory), bytes(dry_memory), "{}", config.model);
    let forecast = forecast(config, CLASSES, like).unwrap();
    assert_eq!((forecast.peak, forecast.held), (memory.peak, memory.held), "{}", config.model);
    assert!(forecast.peak > forecast.weights + forecast.optimiser);
}

#[test]
fn a_dry_cpu_knows_the_memory_of_training_to_the_byte() {
    for (model, size) in [("resnet18", 64), ("densenet121", 32), ("inception_v3", 75), ("mobilenet_v3_small", 64)] {
        let config = Config { model: model.into(), size, batch: 2, ..Config::default() };
        dry_is_like(&Cpu::new(4 << 30), Like::Cpu, DType::F32, &config);
    }
}

#[test]
fn a_dry_gpu_knows_the_memory_of_training_to_the_byte() {
    // Not checked memory: the guards behind its blocks take room.
    let Some(gpu) = common::gpu().map(|_| Cuda::new(0).unwrap()) else { return };
    let model = "mobilenet_v3_small".into();
    let config = Config { model, size: 32, batch: 2, precision: Some(Precision::Bf16), ..Config::default() };
    dry_is_like(&gpu, Like::Cuda, DType::BF16, &config);
}

#[test]
fn the_gradients_of_a_residual_networks_branches_meet_in_a_convolution() {
    let config = Config { model: "resnet18".into(), size: 64, batch: 2, ..Config::default() };
    for like in [Like::Cpu, Like::Cuda] {
        let (_, launches) = train(&Dry::new(like), &config, DType::F32);
        let of = |kernel| launches.iter().filter(|(name, _)| *name == kernel).map(|(_, count)| count).sum::<u64>();
        let (blocks, steps) = (8, 3);
        assert_eq!((of("conv2d_dgrad_add"), of("add")), (blocks * steps, 0), "{launches:?}");
    }
}

#[test]
fn a_backbone_is_inspected_in_a_table() {
    let output = succeed(&mut roentgen(["inspect", "resnet18", "--device", "cuda", "--batch", "64"]));
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    for words in ["layer4.1.conv2", "11689512 parameters", "1.814 billion", "a GPU in bf16, 64 images", "not counted"] {
        assert!(listed.contains(words), "{words}: {listed}");
    }
    fail(&mut roentgen(["inspect", "resnet18", "--size", "8"]), 1, &["8 px", "--size 32"]);
    fail(&mut roentgen(["inspect", "resnet18", "--size", "99999"]), 1, &["99999"]);
    let output = succeed(&mut roentgen(["inspect", "unet_resnet18", "--size", "64", "--device", "cpu"]));
    assert!(String::from_utf8_lossy(&output.stdout).contains("all tensors at the fullest moment"));
    succeed(&mut roentgen(["inspect", "unet_reconstruction", "--size", "64"]));
    // Larger than any machine, and yet told.
    succeed(&mut roentgen(["inspect", "resnet18", "--size", "4096", "--batch", "100"]));
    fail(&mut roentgen(["inspect", "resnet18", "--size", "4096", "--batch", "65536"]), 1, &["65536 images of 4096 px"]);
    fail(&mut roentgen(["inspect", "resnet18", "--device", "cpu", "--precision", "bf16"]), 1, &["bf16"]);
}
