//! The networks against torchvision, and single operations against PyTorch, on fixtures made by `scripts/make_golden.py`.

mod common;

use roentgen::{
    device::{Block, DType, Device, cpu::Cpu},
    models::Model,
    nn::{Entry, Id, Mode, Pass, Scores},
    ops::{
        activation::Act,
        elementwise::{activate, add, scale},
        loss::{one_hot, softmax_cross_entropy},
        optim::{Limits, Progress, Rule, Scalars, Update, update},
        pool::{avg_pool, max_pool},
    },
    shape::Window,
    tape::Tape,
    tensor::Tensor,
};
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeMap, rc::Rc, sync::Arc};

const CLASSES: usize = 10;

#[derive(Deserialize)]
struct Golden {
    net: String,
    norm_bias: f32,
    parameters: usize,
    state_dict: Vec<String>,
    cases: Vec<GoldenCase>,
    training: Vec<Training>,
}

#[derive(Deserialize)]
struct GoldenCase {
    mode: String,
    height: usize,
    width: usize,
    batch: usize,
    input_name: String,
    logits: Logits,
    #[serde(default)]
    auxiliary: Option<Vec<f64>>,
    loss: f64,
    loss_smoothed: f64,
    gradients: BTreeMap<String, Summary>,
    #[serde(default)]
    norms: BTreeMap<String, Summary>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Logits {
    All(Vec<f64>),
    Summary(Summary),
}

#[derive(Deserialize)]
struct Summary {
    l2: f64,
    at: Vec<usize>,
    values: Vec<f64>,
}

#[derive(Deserialize)]
struct Training {
    optimiser: String,
    rate: f64,
    weight_decay: f64,
    batch: usize,
    input_name: String,
    height: usize,
    width: usize,
    losses: Vec<f64>,
}

fn fixture<T: for<'a> Deserialize<'a>>(name: &str) -> T {
    let path = format!("{}/tests/fixtures/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Value `i` of the tensor called `name`, in [−1, 1): the integer hash that the fixtures were made with.
fn hash_values(name: &str, n: usize) -> Vec<f32> {
    let fnv = name.bytes().fold(0xCBF2_9CE4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3));
    let value = |i: u64| {
        let mut z = fnv.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        2.0 * (z >> 40) as f32 / (1 << 24) as f32 - 1.0
    };
    (0..n as u64).map(value).collect()
}

fn hash_weights(entry: &Entry, norm_bias: f32) -> Vec<f32> {
    let fan_in: usize = entry.file_shape.iter().skip(1).product();
    let spread = (3.0 / fan_in as f32).sqrt();
    let (offset, scale) = match entry.file_shape.len() {
        4 => (0.0, 1.4 * spread),
        2 => (0.0, spread),
        _ if entry.name.ends_with(".weight") || entry.name.ends_with(".running_var") => (1.0, 0.1),
        _ => (norm_bias, 0.1),
    };
    hash_values(&entry.name, entry.len()).into_iter().map(|v| offset + scale * v).collect()
}

fn cpu() -> Arc<dyn Device> {
    Cpu::new(8 << 30)
}

fn hash_model((net, norm_bias): (&str, f32), device: &Arc<dyn Device>, dtype: DType) -> Model {
    let model = Model::new(net, CLASSES, device, dtype, 0).unwrap();
    let is_norm = |bias: &str| model.params.find(&bias.replace(".bias", ".running_mean")).is_some();
    for (id, entry) in model.params.iter() {
        if entry.counter().is_none() {
            let norm_bias = if entry.name.ends_with(".bias") && is_norm(&entry.name) { norm_bias } else { 0.0 };
            model.params.set(id, &hash_weights(entry, norm_bias)).unwrap();
        }
    }
    model
}

/// The fixture's images in NHWC, `[n, h, w, 3]`.
fn images(name: &str, n: usize, h: usize, w: usize) -> Vec<f32> {
    let nchw = hash_values(name, n * 3 * h * w);
    let at = |i: usize| {
        let (image, pixel, c) = (i / (h * w * 3), i / 3 % (h * w), i % 3);
        nchw[(image * 3 + c) * h * w + pixel]
    };
    (0..nchw.len()).map(at).collect()
}

fn targets(pass: &Pass, n: usize, dtype: DType) -> Tensor {
    let labels: Vec<u32> = (0..n as u32).map(|i| (7 * i + 3) % CLASSES as u32).collect();
    one_hot_on(pass.tape(), &labels, CLASSES, dtype)
}

fn one_hot_on(tape: &Rc<Tape>, labels: &[u32], classes: usize, dtype: DType) -> Tensor {
    let shares: Vec<f64> = one_hot(labels, classes).into_iter().map(f64::from).collect();
    tape.floats(&[labels.len(), classes], dtype, &shares)
}

fn ones(pass: &Pass, dtype: DType) -> Tensor {
    pass.tape().floats(&[CLASSES], dtype, &[1.0; CLASSES])
}

#[track_caller]
fn assert_close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    let gap = norm(&mut got.iter().zip(want).map(|(a, b)| a - b)) / norm(&mut want.iter().copied()).max(1e-12);
    assert!(gap <= tolerance, "{what}: relative gap {gap:.1e} > {tolerance:.0e}\n got {got:?}\nwant {want:?}");
}

fn assert_summary(what: &str, got: &[f64], want: &Summary, tolerance: f64) {
    let gap = summary_gap(got, want);
    assert!(gap <= tolerance, "{what}: relative gap {gap:.1e} > {tolerance:.0e}");
}

/// The larger of the gaps of norm and elements, the latter on the scale of the whole: a few elements may be far smaller.
fn summary_gap(got: &[f64], want: &Summary) -> f64 {
    let l2 = got.iter().map(|x| x * x).sum::<f64>().sqrt();
    let scale = (want.l2 / (got.len() as f64).sqrt() * (want.at.len() as f64).sqrt()).max(1e-12);
    let squares = want.at.iter().zip(&want.values).map(|(&at, value)| (got[at] - value).powi(2));
    (squares.sum::<f64>().sqrt() / scale).max((l2 - want.l2).abs() / want.l2.max(1e-12))
}

fn single(values: Vec<f32>) -> Vec<f64> {
    values.into_iter().map(f64::from).collect()
}

/// Holds scores, losses and statistics against the fixture, and returns the largest gap of a gradient.
fn check_case(golden: &Golden, case: &GoldenCase, device: &Arc<dyn Device>, dtype: DType, tolerance: f64) -> f64 {
    let model = hash_model((&golden.net, golden.norm_bias), device, dtype);
    let mode = if case.mode == "train" { Mode::Train { seed: None, step: 0 } } else { Mode::Eval };
    let pass = Pass::with_recording(&model.params, mode, true);
    let (n, h, w) = (case.batch, case.height, case.width);
    let x = pass.images([n, h, w, 3], &images(&case.input_name, n, h, w)).leaf();
    let Scores { main, auxiliary } = model.scores(&pass, &x, None);
    let rows = main.len() / CLASSES;
    let logits = main.reshape(&[rows, CLASSES]);
    let loss_of = |logits| softmax_cross_entropy(logits, &targets(&pass, rows, dtype), &ones(&pass, dtype), 0.0);
    let loss = match &auxiliary {
        Some(auxiliary) => add(&loss_of(&logits), &scale(&loss_of(auxiliary), 0.4)),
        None => loss_of(&logits),
    };
    let weights: Vec<f64> = (0..CLASSES).map(|c| 0.5 + c as f64 / 9.0).collect();
    let weights = pass.tape().floats(&[CLASSES], dtype, &weights);
    let smoothed = softmax_cross_entropy(&logits, &targets(&pass, rows, dtype), &weights, 0.1);

    let name = format!("{} {} {h}x{w} {dtype:?}", golden.net, case.mode);
    let logits = logits.to_vec().unwrap();
    match &case.logits {
        Logits::All(want) => assert_close(&format!("{name} logits"), &logits, want, tolerance),
        Logits::Summary(want) => assert_summary(&format!("{name} logits"), &logits, want, tolerance),
    }
    let auxiliary = auxiliary.map(|auxiliary| auxiliary.to_vec().unwrap());
    assert_eq!(auxiliary.is_some(), case.auxiliary.is_some(), "{name}: auxiliary head");
    if let (Some(got), Some(want)) = (auxiliary, &case.auxiliary) {
        assert_close(&format!("{name} auxiliary logits"), &got, want, tolerance);
    }
    assert_close(&format!("{name} loss"), &loss.to_vec().unwrap(), &[case.loss], tolerance);
    assert_close(&format!("{name} smoothed loss"), &smoothed.to_vec().unwrap(), &[case.loss_smoothed], tolerance);

    for (buffer, want) in &case.norms {
        let got = single(model.params.get(model.params.find(buffer).unwrap()).unwrap());
        assert_summary(&format!("{name} {buffer}"), &got, want, tolerance);
    }
    let grads = pass.tape().backward(&loss).unwrap();
    let gap = |(parameter, want): (&String, &Summary)| {
        let got = if parameter == "input" {
            let nhwc = grads.of(&x).unwrap().to_vec().unwrap();
            let at = |i: usize| {
                let (image, c, pixel) = (i / (3 * h * w), i / (h * w) % 3, i % (h * w));
                nhwc[(image * h * w + pixel) * 3 + c]
            };
            (0..nhwc.len()).map(at).collect()
        } else {
            let id = model.params.find(parameter).unwrap();
            let gradient = pass.gradient(&grads, id).unwrap_or_else(|| panic!("{name}: {parameter} has no gradient"));
            single(model.params.read(id, gradient.block().unwrap()).unwrap())
        };
        let gap = summary_gap(&got, want);
        assert!(gap < FLIP, "{name} gradient of {parameter}: {gap:.1e} apart");
        gap
    };
    case.gradients.iter().map(gap).fold(0.0, f64::max)
}

#[derive(Deserialize)]
struct GradCams {
    cases: Vec<GradCam>,
}

#[derive(Deserialize)]
struct GradCam {
    net: String,
    norm_bias: f32,
    height: usize,
    width: usize,
    outputs: Vec<usize>,
    cam: Summary,
}

#[test]
fn grad_cams_equal_pytorch() {
    for case in fixture::<GradCams>("grad_cam").cases {
        for (dtype, tolerance) in [(DType::F64, 1e-6), (DType::F32, 1e-4)] {
            let model = hash_model((&case.net, case.norm_bias), &cpu(), dtype);
            let (n, h, w) = (case.outputs.len(), case.height, case.width);
            let images = model.pass(Mode::Eval).images([n, h, w, 3], &images("input", n, h, w));
            let mut direction = vec![0.0; n * CLASSES];
            case.outputs.iter().enumerate().for_each(|(i, output)| direction[i * CLASSES + output] = 1.0);
            let cam = model.grad_cam(&images, &direction).unwrap().unwrap();
            assert_summary(&format!("{} {dtype:?}", case.net), &cam, &case.cam, tolerance);
        }
    }
    let model = Model::new("unet_resnet18", 1, &cpu(), DType::F32, 0).unwrap();
    let images = model.pass(Mode::Eval).images([1, 32, 32, 3], &[0.0; 32 * 32 * 3]);
    assert_eq!(model.grad_cam(&images, &[1.0]).unwrap(), None);
}

/// Most that units within rounding of a kink move a gradient: they are open in one program and shut in the other.
const FLIP: f64 = 0.05;

/// Losses of the fixture's training run, before each step.
fn train(golden: &Golden, run: &Training, dtype: DType) -> Vec<f64> {
    let device = cpu();
    let model = hash_model((&golden.net, golden.norm_bias), &device, dtype);
    let rule = match run.optimiser.as_str() {
        "sgd" => Rule::SGD,
        "adamw" => Rule::ADAMW,
        other => panic!("no optimiser {other}"),
    };
    let zeros = |bytes: usize| -> Arc<Block> {
        let block = device.alloc(bytes, "test").unwrap();
        device.upload(&vec![0; bytes], &block).unwrap();
        block
    };
    let trained: Vec<(Id, &Entry)> = model.params.iter().filter(|(_, entry)| entry.trained()).collect();
    let states: Vec<Vec<Arc<Block>>> =
        trained.iter().map(|(_, entry)| rule.state().iter().map(|_| zeros(entry.block().bytes())).collect()).collect();
    let (n, h, w) = (run.batch, run.height, run.width);
    let images = images(&run.input_name, n, h, w);
    let mut losses = vec![];
    let scalars = Scalars::new(&*device, dtype, Progress::new(0, 1.0)).unwrap();
    scalars.set_rate(&*device, run.rate).unwrap();
    for step in 1..=run.losses.len() {
        let pass = model.pass(Mode::Train { seed: None, step: step as u32 });
        let logits = model.forward(&pass, &pass.images([n, h, w, 3], &images));
        let loss = softmax_cross_entropy(&logits, &targets(&pass, n, dtype), &ones(&pass, dtype), 0.0);
        losses.push(loss.to_vec().unwrap()[0]);
        let grads = pass.tape().backward(&loss).unwrap();
        let gradients: Vec<_> = trained.iter().map(|(id, _)| pass.gradient(&grads, *id).unwrap()).collect();
        let updates = trained.iter().zip(&states).zip(&gradients).map(|(((_, entry), state), gradient)| Update {
            value: entry.block(),
            state: state.iter().map(|block| &**block).collect(),
            gradient: gradient.block().unwrap(),
            shadow: None,
            lr_factor: 1.0,
            decay: run.weight_decay,
        });
        update(&*device, rule, Limits::default(), dtype, &scalars, &updates.collect::<Vec<_>>()).unwrap();
    }
    losses
}

fn check(net: &str) {
    let golden: Golden = fixture(net);
    let model = Model::new(net, CLASSES, &cpu(), DType::F32, 0).unwrap();
    assert_eq!(model.params.parameter_count(), golden.parameters);
    let shape = |entry: &Entry| {
        let axes: Vec<_> = entry.file_shape.iter().map(usize::to_string).collect();
        if axes.is_empty() { "scalar".to_string() } else { axes.join("x") }
    };
    let names: Vec<_> = model.params.iter().map(|(_, entry)| format!("{} {}", entry.name, shape(entry))).collect();
    assert_eq!(names, golden.state_dict);
    let gap = |case: &GoldenCase, dtype, tolerance| check_case(&golden, case, &cpu(), dtype, tolerance);
    for case in &golden.cases {
        let gap = gap(case, DType::F64, 1e-6);
        assert!(gap < 1e-6, "{net} {} {}x{}: a gradient is {gap:.1e} apart", case.mode, case.height, case.width);
    }
    // In single precision an unlucky unit moves a gradient by percents (PyTorch's as well): not in most cases.
    let gaps: Vec<f64> = golden.cases.iter().map(|case| gap(case, DType::F32, 1e-4)).collect();
    assert!(gaps.iter().filter(|gap| **gap < 1e-4).count() >= 2, "{net}: gradients are {gaps:?} apart");
    println!("{net}: gradients in single precision are {gaps:?} apart");
    for run in &golden.training {
        for (dtype, tolerance) in [(DType::F64, 1e-5), (DType::F32, 1e-3)] {
            let losses = train(&golden, run, dtype);
            for (step, (got, want)) in losses.iter().zip(&run.losses).enumerate() {
                let gap = (got - want).abs() / want.abs();
                let what = format!("{net} {} {dtype:?} step {step}", run.optimiser);
                assert!(gap < tolerance, "{what}: loss {got} instead of {want}");
            }
        }
    }
}

/// In evaluation mode, where rounding stays small, through the kernels of the GPU.
fn check_on_gpu(net: &str) {
    let Some(gpu) = common::gpu() else { return };
    let golden: Golden = fixture(net);
    let gap = check_case(&golden, &golden.cases[0], &gpu, DType::F32, 1e-4);
    // The smallest image of InceptionV3 has a unit on a kink.
    let most = if net == "inception_v3" { FLIP } else { 1e-4 };
    assert!(gap < most, "{net}: a gradient is {gap:.1e} apart");
}

macro_rules! networks {
    ($($net:ident)*) => {
        mod networks_equal_torchvision {
            $(#[test]
            fn $net() {
                super::check(stringify!($net));
            })*
        }

        mod networks_equal_torchvision_on_the_gpu {
            $(#[test]
            fn $net() {
                super::check_on_gpu(stringify!($net));
            })*
        }
    };
}

networks! {
    resnet18 resnet34 resnet50 vgg16 efficientnet_b3 efficientnet_b4 inception_v3 densenet121 mobilenet_v3_small
    mobilenet_v3_large unet_resnet18 unet_mobilenet_v3_small_bilinear unet_vgg16 unet_reconstruction
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        Value::Number(number) => vec![number.as_f64().unwrap()],
        Value::Bool(_) | Value::Null | Value::String(_) | Value::Object(_) => vec![],
    }
}

/// Values and input gradient of `f` at `x`, with 1, 2, 3, … or the given number as gradient of its result.
fn value_and_gradient(
    shape: &[usize],
    x: &[f64],
    counting: bool,
    f: impl Fn(&Tensor) -> Tensor,
) -> (Vec<f64>, Vec<f64>) {
    let tape = Tape::new(&Cpu::new(1 << 20), true);
    let x = tape.floats(shape, DType::F64, x).leaf();
    let y = f(&x);
    let gy: Vec<f64> = (0..y.len()).map(|i| if counting { (i + 1) as f64 } else { 1.0 }).collect();
    let value = y.to_vec().unwrap();
    let grads = tape.backward_from(&y, tape.floats(y.shape(), DType::F64, &gy)).unwrap();
    (value, grads.of(&x).unwrap().to_vec().unwrap())
}

#[test]
fn operations_follow_pytorch_at_kinks_ties_and_borders() {
    let ops: Value = fixture("ops");
    for (name, act) in [("relu", Act::Relu), ("hardswish", Act::HardSwish), ("hardsigmoid", Act::HardSigmoid)] {
        let x = numbers(&ops[name]["x"]);
        let (y, gx) = value_and_gradient(&[x.len()], &x, false, |x| activate(x, act));
        assert_close(name, &y, &numbers(&ops[name]["y"]), 1e-9);
        // PyTorch keeps the slope 1/6 of its hard sigmoid in single precision.
        assert_close(&format!("{name} gradient"), &gx, &numbers(&ops[name]["gradient"]), 1e-6);
    }
    let pool = |case: &Value, f: &dyn Fn(&Tensor) -> Tensor| {
        let rows = case["x"].as_array().unwrap().len();
        let x = numbers(&case["x"]);
        let (y, gx) = value_and_gradient(&[1, rows, x.len() / rows, 1], &x, true, f);
        let note = case["note"].as_str().unwrap();
        assert_close(note, &y, &numbers(&case["y"]), 1e-9);
        assert_close(note, &gx, &numbers(&case["gradient"]), 1e-9);
    };
    pool(&ops["max_pool"][0], &|x| max_pool(x, Window::square(2, 2, 0)));
    pool(&ops["max_pool"][1], &|x| max_pool(x, Window::square(3, 2, 1)));
    pool(&ops["avg_pool"][0], &|x| avg_pool(x, Window::square(3, 2, 1), true));
    pool(&ops["avg_pool"][1], &|x| avg_pool(x, Window::square(3, 2, 1), false));
}

#[test]
fn cross_entropy_follows_pytorch() {
    let ops: Value = fixture("ops");
    for case in ops["cross_entropy"].as_array().unwrap() {
        let labels: Vec<u32> = numbers(&case["labels"]).iter().map(|&x| x as u32).collect();
        let logits = numbers(&case["logits"]);
        let classes = logits.len() / labels.len();
        let weights = numbers(&case["class_weights"]);
        let weights = if weights.is_empty() { vec![1.0; classes] } else { weights };
        let smoothing = case["label_smoothing"].as_f64().unwrap() as f32;
        let (loss, gradient) = value_and_gradient(&[labels.len(), classes], &logits, false, |x| {
            let targets = one_hot_on(x.tape(), &labels, classes, DType::F64);
            softmax_cross_entropy(x, &targets, &x.tape().floats(&[classes], DType::F64, &weights), smoothing)
        });
        assert_close("loss", &loss, &numbers(&case["loss"]), 1e-7);
        assert_close("gradient of the logits", &gradient, &numbers(&case["gradient"]), 1e-7);
    }
}

#[test]
fn optimisers_follow_pytorch() {
    let ops: Value = fixture("ops");
    for case in ops["optimisers"].as_array().unwrap() {
        let rule = match case["optimiser"].as_str().unwrap() {
            "sgd" => Rule::Sgd { momentum: case["momentum"].as_f64().unwrap() },
            _ => Rule::ADAMW,
        };
        let device = Cpu::new(1 << 20);
        let tape = Tape::new(&device, false);
        let vector = |values: &[f64]| tape.floats(&[values.len()], DType::F64, values);
        let weights = vector(&numbers(&case["start"]));
        let states: Vec<_> = rule.state().iter().map(|_| vector(&vec![0.0; weights.len()])).collect();
        let scalars = Scalars::new(&*device, DType::F64, Progress::new(0, 1.0)).unwrap();
        scalars.set_rate(&*device, case["rate"].as_f64().unwrap()).unwrap();
        let steps = case["gradients"].as_array().unwrap().iter().zip(case["after"].as_array().unwrap());
        for (step, (gradient, after)) in steps.enumerate() {
            let gradient = vector(&numbers(gradient));
            let one = Update {
                value: weights.block().unwrap(),
                state: states.iter().map(|state| &**state.block().unwrap()).collect(),
                gradient: gradient.block().unwrap(),
                shadow: None,
                lr_factor: 1.0,
                decay: case["weight_decay"].as_f64().unwrap(),
            };
            update(&*device, rule, Limits::default(), DType::F64, &scalars, &[one]).unwrap();
            assert_close(&format!("{rule:?} step {step}"), &weights.to_vec().unwrap(), &numbers(after), 1e-10);
        }
    }
}
