//! Every network learns: one batch to a loss near zero. U-Nets take images of any size, all of them any number of channels.

use roentgen::{
    data::Batch,
    device::{DType, cpu::Cpu},
    models::{self, Ends, Model},
    nn::Mode,
    rng::{Purpose, Rng},
    train::{Config, Objective, Optimiser, Optimizer, step::Steps},
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
