//! Every network learns: one batch to a loss near zero. U-Nets take images of any size, all of them any number of channels.

use roentgen::{
    data::{Augment, Batch},
    device::{DType, cpu::Cpu},
    models::{self, Ends, Model},
    nn::Mode,
    rng::{Purpose, Rng},
    train::{
        Config, Mirrors, Objective, Optimiser, Optimizer,
        step::{self, Steps},
    },
};

const CLASSES: usize = 3;
const IMAGES: usize = 6;

fn batch(size: usize) -> Batch {
    let mut rng = Rng::new(11, Purpose::Test, 0, 0);
    let pixels = (0..IMAGES * size * size).map(|_| rng.bits() as u8).collect();
    Batch::plain(size, pixels, (0..IMAGES as u32).map(|i| i % CLASSES as u32).collect())
}

/// Trains on one batch until its loss is below a thousandth.
fn overfits(net: &str, size: usize, rate: f64) {
    let config = Config { model: net.into(), optimizer: Optimizer::AdamW, weight_decay: 0.0, ..Config::default() };
    let mut model = Model::new(net, CLASSES, &Cpu::new(8 << 30), DType::F32, 1).unwrap();
    let optimiser = Optimiser::new(&mut model, &config).unwrap();
    let objective = Objective::CrossEntropy { class_weights: vec![1.0; CLASSES], label_smoothing: 0.0 };
    let mut run = Steps::new(objective, 1).without_omissions();
    let batch = batch(size);
    let mut losses = vec![];
    for step in 0..120 {
        let loss = run.train(&model, &optimiser, &batch, (step, rate)).unwrap().loss;
        losses.push(loss);
        if loss < 1e-3 {
            println!("{net}: {} steps, first loss {}", losses.len(), losses[0]);
            return;
        }
    }
    panic!("{net} does not learn a batch: {losses:?}");
}

macro_rules! overfit {
    ($($net:ident at $size:literal, $rate:literal)*) => {
        mod one_batch_is_learnt_by {
            $(#[test]
            fn $net() {
                super::overfits(stringify!($net), $size, $rate);
            })*
        }

        #[test]
        fn every_backbone_is_tried() {
            assert!(models::names().eq([$(stringify!($net)),*]));
        }
    };
}

overfit! {
    resnet18 at 32, 1e-3
    resnet34 at 32, 1e-3
    resnet50 at 32, 1e-3
    vgg16 at 32, 1e-4
    densenet121 at 32, 1e-3
    inception_v3 at 75, 1e-3
    efficientnet_b3 at 32, 1e-3
    efficientnet_b4 at 32, 1e-3
    mobilenet_v3_small at 32, 1e-3
    mobilenet_v3_large at 32, 1e-3
}

#[test]
fn unets_score_every_pixel_of_images_of_any_size() {
    let device = Cpu::new(4 << 30);
    let backbones: Vec<&str> = models::names().collect();
    let names = backbones.iter().map(|name| format!("unet_{name}"));
    for name in names.chain(["unet_resnet18_bilinear".into(), "unet_reconstruction".into()]) {
        let model = Model::new(&name, 2, &device, DType::F32, 0).unwrap();
        let (h, w) = (model.least_size + 6, model.least_size + 19);
        let pass = model.pass(Mode::Eval);
        let scores = model.forward(&pass, &pass.images([1, h, w, 3], &vec![0.5; h * w * 3]));
        assert_eq!(scores.shape(), [1, h, w, 2], "{name}");
        assert!(scores.to_vec().unwrap().iter().all(|score| score.is_finite()), "{name}");
    }
}

#[test]
fn networks_take_images_of_one_channel() {
    let device = Cpu::new(4 << 30);
    for name in models::names().filter(|name| *name != "vgg16").chain(["unet_vgg16", "unet_reconstruction"]) {
        let model = Model::between(name, Ends { channels: 1, inputs: 0, classes: 2 }, &device, DType::F32, 0).unwrap();
        let side = model.least_size;
        let pass = model.pass(Mode::Eval);
        let scores = model.forward(&pass, &pass.images([1, side, side, 1], &vec![0.5; side * side]));
        assert!(scores.to_vec().unwrap().iter().all(|score| score.is_finite()), "{name}");
    }
}

#[test]
fn outputs_for_mirror_images_are_mirrored_back() {
    assert!(Mirrors::drawn_by(&Augment::none()).is_err());
    let augment = Augment { flip: 0.5, flip_vertical: 0.5, ..Augment::none() };
    let mirrors = Mirrors::drawn_by(&augment).unwrap();
    let size = 64;
    let Batch { pixels, labels, .. } = batch(size);
    // Where pixel `i` of one output an image, or of one a pixel, comes from.
    let mirrored = |i: usize, [across, down]: [bool; 2], size: usize| {
        let (image, row, col) = (i / (size * size), i / size % size, i % size);
        let (row, col) = (if down { size - 1 - row } else { row }, if across { size - 1 - col } else { col });
        (image * size + row) * size + col
    };
    for (name, side) in [("resnet18", 1), ("unet_mobilenet_v3_small", size)] {
        let model = Model::new(name, 1, &Cpu::new(4 << 30), DType::F32, 1).unwrap();
        let look = |flip| {
            let pixels = (0..pixels.len()).map(|i| pixels[mirrored(i, flip, size)]).collect();
            let seen = step::look(&model, None, &Batch::plain(size, pixels, labels.clone())).unwrap();
            let outputs = seen.outputs.to_vec().unwrap();
            (0..outputs.len()).map(move |i| outputs[mirrored(i, flip, side)]).collect::<Vec<_>>()
        };
        let looks = [[false, false], [true, false], [false, true], [true, true]].map(look);
        let apart = looks[0].iter().zip(&looks[1]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(apart > 1e-3, "{name} says the same of mirror images: the test shows nothing");
        let plain = Batch::plain(size, pixels.clone(), labels.clone());
        let seen = step::look(&model, None, &plain).unwrap();
        let mean = mirrors.mean(&model, &plain, &seen).unwrap();
        assert_eq!(mean.len(), looks[0].len(), "{name}");
        for (i, mean) in mean.iter().enumerate() {
            let by_hand = looks.iter().map(|look| look[i]).sum::<f64>() / 4.0;
            assert!((mean - by_hand).abs() < 1e-2 * apart, "{name}, {i}: {mean}, not {by_hand}");
        }
    }
}
