//! Every network learns: one batch to a loss near zero. U-Nets take images of any size, all of them any number of channels.

use roentgen::{
    data::{Augment, Batch},
    device::{DType, cpu::Cpu},
    models::{self, Ends, Model},
    nn::Mode,
    rng::{Purpose, Rng},
    tape::Tape,
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

/// InceptionV3 does not pad, so that its maps end before the image does.
#[test]
fn unets_see_images_to_their_edges() {
    for backbone in models::names() {
        let name = format!("unet_{backbone}");
        let model = Model::new(&name, 1, &Cpu::new(4 << 30), DType::F32, 0).unwrap();
        let side = model.least_size + 2;
        let look = |seed| {
            let mut rng = Rng::new(seed, Purpose::Test, 0, 0);
            let values: Vec<f32> = (0..side * side * 3).map(|_| rng.uniform()).collect();
            let pass = model.pass(Mode::Eval);
            model.forward(&pass, &pass.images([1, side, side, 3], &values)).to_vec().unwrap()
        };
        let (a, b) = (look(1), look(2));
        let edge = side - 1;
        let alike = (0..side).flat_map(|i| [i * side + edge, edge * side + i]).filter(|&at| a[at] == b[at]).count();
        assert_eq!(alike, 0, "{name}: pixels of the last row and column that say the same of two images");
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
fn frozen_statistics_stay_and_what_nothing_trains_is_an_error() {
    let trained = |net: &str, size, freeze: &[&str]| {
        let freeze = freeze.iter().map(|glob| glob.to_string()).collect();
        let config = Config { model: net.into(), freeze, ..Config::default() };
        let mut model = Model::new(net, CLASSES, &Cpu::new(4 << 30), DType::F32, 1).unwrap();
        let optimiser = Optimiser::new(&mut model, &config).unwrap();
        let objective = Objective::CrossEntropy { class_weights: vec![1.0; CLASSES], label_smoothing: 0.0 };
        let stepped = Steps::new(objective, 1).train(&model, &optimiser, &batch(size), (0, 1e-3));
        stepped.map(|_| model)
    };
    let mean = |model: Model| model.params.get(model.params.find("bn1.running_mean").unwrap()).unwrap();
    assert!(mean(trained("resnet18", 32, &["fc.bias"]).unwrap()).iter().all(|&x| x != 0.0));
    assert!(mean(trained("resnet18", 32, &["*running*"]).unwrap()).iter().all(|&x| x == 0.0));
    // The auxiliary head alone is left, which images of this size do not reach.
    let refused = trained("inception_v3", 75, &["Conv*", "Mixed*", "fc.*"]).map(drop).unwrap_err().to_string();
    assert!(refused.contains("nothing to train"), "{refused}");
}

/// The mean of the mean losses of batches is that of all images, also with weights.
#[test]
fn a_loss_over_batches_is_that_of_all_images() {
    let objective = Objective::CrossEntropy { class_weights: vec![10.0, 0.1, 1.0], label_smoothing: 0.1 };
    let labels = [0, 1, 2, 1, 1];
    let tape = Tape::new(&Cpu::new(1 << 20), false);
    let mut rng = Rng::new(12, Purpose::Test, 0, 0);
    let outputs: Vec<f64> = (0..labels.len() * CLASSES).map(|_| f64::from(rng.range(-2.0, 2.0))).collect();
    let sum = |range: std::ops::Range<usize>| {
        let (labels, n) = (&labels[range.clone()], range.len());
        let outputs = tape.floats(&[n, CLASSES], DType::F64, &outputs[range.start * CLASSES..range.end * CLASSES]);
        let targets: Vec<f64> =
            (0..n * CLASSES).map(|i| f64::from(labels[i / CLASSES] as usize == i % CLASSES)).collect();
        let targets = tape.floats(&[n, CLASSES], DType::F64, &targets);
        let weight = objective.weight(labels);
        (objective.loss(&outputs, &targets).to_vec().unwrap()[0] * weight, weight)
    };
    let (all, weight) = sum(0..5);
    let parts = [sum(0..2), sum(2..3), sum(3..5)];
    let mean = parts.iter().map(|part| part.0).sum::<f64>() / parts.iter().map(|part| part.1).sum::<f64>();
    assert!((mean - all / weight).abs() < 1e-12, "{mean}, of all at once {}", all / weight);
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
