//! Exported networks: well formed by themselves, and equal to what onnxruntime computed from the very same file.
//!
//! `cargo test --test onnx -- --ignored` writes every backbone and a network of every operation with our scores to
//! `target/onnx`; `scripts/check_onnx.py` compares onnxruntime's and renews the fixture.

mod common;

use common::{fail, make_images, quick, roentgen, succeed};
use prost::Message;
use roentgen::{
    device::{
        DType, Device,
        cpu::Cpu,
        dry::{Dry, Like},
    },
    models::{self, Ends, Model},
    nn::{
        Builder, Id, Init, Kind, Mode, Params, Pass,
        layers::{BatchNorm, Linear, Style},
    },
    ops::{
        activation::Act,
        bias::bias_act,
        conv::{conv2d, transposed::conv_transpose2d},
        depthwise::depthwise,
        elementwise::{activate, add, scale_channels},
        linear::linear,
        norm::{batch_norm, batch_norm_add_relu},
        pool::{adaptive_avg_pool, avg_pool, global_avg_pool, max_pool},
        resample::{bilinear, crop_or_pad, upsample_nearest},
        slice::{channels, concat},
    },
    shape::Window,
    tensor::Tensor,
    trace::Trace,
    weights::onnx::{self, proto},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

/// Checks what every ONNX graph must be: tensors are made once and before they are read, and one of them is the output.
fn check_form(graph: &proto::Graph) {
    let mut made: BTreeSet<&str> = graph.input.iter().map(|input| &*input.name).collect();
    for tensor in &graph.initializer {
        let len: i64 = tensor.dims.iter().product();
        let size = if tensor.data_type == proto::FLOAT { 4 } else { 8 };
        assert_eq!(tensor.raw_data.len() as i64, len * size, "{}", tensor.name);
        assert!(made.insert(&tensor.name), "{} is there twice", tensor.name);
    }
    for node in &graph.node {
        for input in node.input.iter().filter(|input| !input.is_empty()) {
            assert!(made.contains(&**input), "{} reads {input} too early", node.name);
        }
        for output in &node.output {
            assert!(made.insert(output), "{output} is made twice");
        }
    }
    assert!(made.contains(&*graph.output[0].name) && graph.output.len() == 1);
    let read: BTreeSet<&str> = graph.node.iter().flat_map(|node| &node.input).map(|name| &**name).collect();
    for tensor in &graph.initializer {
        assert!(read.contains(&*tensor.name), "nothing reads {}", tensor.name);
    }
}

/// Extents of an input or output, 0 for those that are open.
fn extents(info: &proto::ValueInfo) -> Vec<i64> {
    let tensor = info.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
    tensor.shape.as_ref().unwrap().dim.iter().map(|dim| dim.dim_value.unwrap_or(0)).collect()
}

#[test]
fn every_backbone_is_exported_whole() {
    for name in models::names() {
        let model = Model::new(name, 5, &Dry::new(Like::Cpu), DType::F32, 0).unwrap();
        let size = model.least_size.next_multiple_of(32);
        let trace = Trace::new(&model, 2, size).unwrap();
        let file = onnx::translate(&trace, &model.params, name, &[("classes", "a".into())]).unwrap();
        assert_eq!((file.ir_version, file.opset_import[0].version), (8, 18));
        assert_eq!((&*file.metadata_props[0].key, &*file.metadata_props[0].value), ("classes", "a"));
        let graph = file.graph.unwrap();
        check_form(&graph);
        assert_eq!((&*graph.input[0].name, &*graph.output[0].name), ("images", "logits"));
        assert_eq!(extents(&graph.input[0]), [0, 3, size as i64, size as i64]);
        assert_eq!(extents(&graph.output[0]), [0, 5]);
        // What is not read in evaluation may be missing, nothing else; and all in torch's shapes.
        let operands = trace.launches.iter().flat_map(|launched| &launched.ins);
        for (_, entry) in operands.filter_map(|operand| trace.parameter(operand)) {
            let stored = graph.initializer.iter().find(|tensor| tensor.name == entry.name).expect(&entry.name);
            assert_eq!(stored.dims, entry.file_shape.iter().map(|&x| x as i64).collect::<Vec<_>>(), "{}", entry.name);
        }
    }
}

#[test]
fn numbers_beside_images_are_a_second_input() {
    let ends = Ends { channels: 3, inputs: 2, classes: 5 };
    let model = Model::between("mobilenet_v3_small", ends, &Dry::new(Like::Cpu), DType::F32, 0).unwrap();
    let graph = proto::Model::decode(&*onnx::encode(&model, 64, &[]).unwrap()).unwrap().graph.unwrap();
    check_form(&graph);
    let inputs: Vec<_> = graph.input.iter().map(|input| (&*input.name, extents(input))).collect();
    assert_eq!(inputs, [("images", vec![0, 3, 64, 64]), ("inputs", vec![0, 2])]);
    assert!(graph.node.iter().any(|node| node.input[0] == "inputs" && node.input[1] == "inputs.weight"));
}

/// A network of every operation that has a translation.
struct Every {
    conv: [Id; 2],
    depthwise: Id,
    up: [Id; 2],
    norms: [BatchNorm; 2],
    squeeze: Linear,
    excite: Linear,
    /// Over pixels in our order, and over pixels that a file has in torch's.
    heads: (Linear, [Id; 2]),
}

/// A batch of its images.
const IMAGES: [usize; 4] = [3, 9, 8, 3];

impl Every {
    fn new(b: &mut Builder) -> Every {
        let init = Init::Constant(0.0);
        let bias = |b: &mut Builder, name: &str, c| b.floats(name, &[c], Kind::Undecayed, init);
        Every {
            conv: [b.conv("conv.weight", [4, 3, 3, 3], init), bias(b, "conv.bias", 4)],
            depthwise: b.depthwise("depthwise.weight", [4, 3, 5], init),
            up: [b.conv("up.weight", [4, 2, 2, 6], init), bias(b, "up.bias", 6)],
            norms: ["bn1", "bn2"].map(|name| BatchNorm::new(b, name, 4, Style { eps: 1e-3, ..Style::DEFAULT })),
            squeeze: Linear::pointwise(b, "squeeze", (7, 2), init, init),
            excite: Linear::pointwise(b, "excite", (2, 7), init, init),
            heads: (
                Linear::new(b, "ours", (2 * 3 * 7, 4), init, init),
                [b.conv("torchs.weight", [4, 2, 3, 7], init), bias(b, "torchs.bias", 4)],
            ),
        }
    }

    fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let same = |r, s, stride| Window { kernel: (r, s), stride, pad: (r / 2, s / 2) };
        let [w, b] = self.conv.map(|id| pass.param(id));
        let a = bias_act(&conv2d(x, &w, same(3, 3, (1, 1))), &b, Act::Silu);
        let y = depthwise(&a, &pass.param(self.depthwise), same(3, 5, (1, 1)));
        let y = batch_norm(&y, &pass.batch_norm(&self.norms[0]), Act::HardSwish);
        let y = batch_norm_add_relu(&y, &pass.batch_norm(&self.norms[1]), &a);
        let small = max_pool(&y, same(3, 3, (2, 2)));
        let [w, b] = self.up.map(|id| pass.param(id));
        let up = bias_act(&conv_transpose2d(&small, &w, Window::square(2, 2, 0)), &b, Act::Sigmoid);
        let part = channels(&crop_or_pad(&up, (9, 9), (1, -1)), 1..4);
        let joined = concat(&[&part, &bilinear(&y, (9, 9), false)]);
        let pooled = avg_pool(&joined, same(3, 3, (2, 1)), true);
        let pooled = add(&pooled, &avg_pool(&joined, same(3, 3, (2, 1)), false));
        let large = bilinear(&upsample_nearest(&pooled, 2), (7, 8), true);
        let squeezed = activate(&self.squeeze.forward(pass, &global_avg_pool(&large)), Act::Relu);
        let gate = activate(&self.excite.forward(pass, &squeezed), Act::HardSigmoid);
        let cells = adaptive_avg_pool(&scale_channels(&large, &gate), (2, 3));
        let flat = cells.reshape(&[x.shape()[0], 2 * 3 * 7]);
        let (ours, torchs) = &self.heads;
        let [w, b] = torchs.map(|id| pass.param(id));
        add(&ours.forward(pass, &flat), &linear(&flat, &w.reshape(&[4, 2 * 3 * 7]), &b))
    }
}

/// Sets every parameter to numbers that are the same on every machine, not far from what networks have.
fn fill(params: &Params) {
    for (place, (id, entry)) in params.iter().enumerate().filter(|(_, (_, entry))| entry.kind != Kind::Counter) {
        let fan_in = entry.file_shape[1..].iter().product::<usize>().max(4) as f32;
        let scale = if entry.kind == Kind::Weight { (6.0 / fan_in).sqrt() } else { 0.2 };
        // Variances and the factors of normalisation are positive.
        let around = if entry.name.ends_with("running_var") || entry.shape.len() == 1 && entry.name.ends_with("weight")
        {
            1.0
        } else {
            0.0
        };
        let value = |i: usize| around + scale * (((i + place) * 7919 % 1009) as f32 / 504.0 - 1.0);
        params.set(id, &(0..entry.len()).map(value).collect::<Vec<_>>()).unwrap();
    }
}

/// Images in the order NHWC.
fn images(shape: [usize; 4]) -> Vec<f32> {
    (0..shape.iter().product()).map(|i: usize| (i * 7907 % 997) as f32 / 498.0 - 1.0).collect()
}

fn every(device: &Arc<dyn Device>) -> (Every, Params) {
    let mut builder = Builder::default();
    let network = Every::new(&mut builder);
    let params = Params::new(builder, device, DType::F32, 0).unwrap();
    fill(&params);
    (network, params)
}

/// The file of the network of every operation, and our scores of its images.
fn export_every() -> (proto::Model, Vec<f64>) {
    let (network, params) = every(&Cpu::new(1 << 30));
    let pass = Pass::new(&params, Mode::Eval);
    let scores = network.forward(&pass, &pass.images(IMAGES, &images(IMAGES))).to_vec().unwrap();
    let (network, dry) = every(&Dry::new(Like::Cpu));
    let trace = Trace::of(&dry, IMAGES, |pass, images| network.forward(pass, images)).unwrap();
    (onnx::translate(&trace, &params, "every", &[]).unwrap(), scores)
}

fn fingerprint(graph: &proto::Graph) -> String {
    Sha256::digest(graph.encode_to_vec()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_operation_means_in_onnxruntime_what_it_means_here() {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/onnx.json")).unwrap();
    let (file, scores) = export_every();
    let graph = file.graph.unwrap();
    check_form(&graph);
    // A change of the file needs onnxruntime's word again: scripts/check_onnx.py.
    assert_eq!(fingerprint(&graph), fixture["sha256"], "this is not the graph that onnxruntime has run");
    let theirs: Vec<f64> = serde_json::from_value(fixture["logits"].clone()).unwrap();
    let largest = theirs.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
    assert_eq!(scores.len(), theirs.len());
    for (ours, theirs) in scores.iter().zip(&theirs) {
        assert!((ours - theirs).abs() < 1e-5 * largest, "{ours}, in onnxruntime {theirs}");
    }
}

#[test]
fn what_has_no_translation_is_named() {
    let (network, params) = every(&Dry::new(Like::Cpu));
    let refused = |network: &dyn Fn(&Pass, &Tensor) -> Tensor, words: &str| {
        let trace = Trace::of(&params, IMAGES, network).unwrap();
        let error = onnx::translate(&trace, &params, "odd", &[]).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    let bias = |pass: &Pass, x: &Tensor| bias_act(x, &pass.param(network.up[1]), Act::Relu);
    refused(
        &|_, x| {
            roentgen::ops::loss::softmax_cross_entropy(
                &x.reshape(&[x.len() / 3, 3]),
                &x.tape().floats(&[x.len() / 3, 3], DType::F32, &vec![0.0; x.len()]),
                &x.tape().floats(&[3], DType::F32, &[1.0; 3]),
                0.0,
            )
        },
        "softmax_cross_entropy",
    );
    refused(&|pass, x| bias(pass, &activate(&concat(&[x, x]), Act::Relu)), "a bias that follows no convolution");
    refused(&|_, x| activate(&x.reshape(&[1, 27, 8, 3]), Act::Relu), "mixes images");
    refused(&|_, x| add(x, &x.like("nowhere")), "a tensor from elsewhere");
}

#[test]
fn a_run_is_exported_with_its_classes() {
    let dir = tempfile::tempdir().unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_string();
    let [data, run, out] = ["data", "run", "net.onnx"].map(|name| text(&dir.path().join(name)));
    make_images(Path::new(&data), &["left", "right"], 8);
    succeed(&mut roentgen(quick(&data, &run).into_iter().chain(["--epochs", "1", "--normalise", "imagenet"])));
    succeed(&mut roentgen(["weights", "export", &run, &out]));
    let file = proto::Model::decode(&*fs::read(&out).unwrap()).unwrap();
    let note = |key: &str| file.metadata_props.iter().find(|entry| entry.key == key).unwrap().value.clone();
    assert_eq!((note("classes"), note("size")), (r#"["left","right"]"#.into(), "32".into()));
    assert_eq!(note("mean"), json!([0.485f32, 0.456f32, 0.406f32]).to_string());
    let graph = file.graph.unwrap();
    check_form(&graph);
    assert_eq!(extents(&graph.output[0]), [0, 2]);
    // The weights are the checkpoint's.
    let weights = roentgen::weights::Archive::read(&Path::new(&run).join("best.safetensors")).unwrap();
    let stored = &graph.initializer.iter().find(|tensor| tensor.name == "features.0.0.weight").unwrap().raw_data;
    let roentgen::weights::Values::F32(values) = &weights.tensors["features.0.0.weight"].values else { panic!() };
    assert_eq!(bytemuck::pod_collect_to_vec::<u8, f32>(stored), *values);

    fail(&mut roentgen(["weights", "export", &run, &out]), 1, &["already there", "--force"]);
    fail(&mut roentgen(["weights", "export", "resnet81", &out, "--force"]), 1, &["resnet81", "resnet18"]);
    fail(&mut roentgen(["weights", "export", &run, &out, "--force", "--size", "16"]), 1, &["16 px", "32"]);
    let nowhere = text(&dir.path().join("missing/net.onnx"));
    fail(&mut roentgen(["weights", "export", &run, &nowhere]), 1, &["missing"]);
}

/// Writes what `scripts/check_onnx.py` compares.
#[test]
#[ignore = "for scripts/check_onnx.py"]
fn write_networks_and_scores() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/onnx");
    fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, file: &[u8], facts: Value| {
        fs::write(folder.join(format!("{name}.onnx")), file).unwrap();
        fs::write(folder.join(format!("{name}.json")), facts.to_string()).unwrap();
    };
    let (file, scores) = export_every();
    let sha256 = fingerprint(file.graph.as_ref().unwrap());
    write(
        "every",
        &file.encode_to_vec(),
        json!({ "shape": IMAGES, "images": images(IMAGES), "logits": scores, "sha256": sha256 }),
    );
    let unets = ["unet_resnet18", "unet_resnet18_bilinear", "unet_vgg16", "unet_reconstruction"];
    let backbones = models::names().map(|name| (name, 1000, 0));
    for (name, classes, inputs) in backbones.chain(unets.map(|name| (name, 2, 0))).chain([("resnet18", 2, 3)]) {
        let ends = Ends { channels: 3, inputs, classes };
        let model = Model::between(name, ends, &Cpu::new(16 << 30), DType::F32, 1).unwrap();
        fill(&model.params);
        let size = model.least_size.next_multiple_of(32) + 32;
        let shape = [3, size, size, 3];
        let pass = model.pass(Mode::Eval);
        let beside = images([shape[0], inputs, 1, 1]);
        let values: Vec<f64> = beside.iter().copied().map(f64::from).collect();
        let given = (inputs > 0).then(|| pass.tape().floats(&[shape[0], inputs], DType::F32, &values));
        let scores = model.scores(&pass, &pass.images(shape, &images(shape)), given.as_ref()).main.to_vec().unwrap();
        let file = onnx::encode(&model, size, &[]).unwrap();
        let name = if inputs > 0 { format!("{name}_with_numbers") } else { name.into() };
        write(&name, &file, json!({ "shape": shape, "images": images(shape), "inputs": beside, "logits": scores }));
    }
}
