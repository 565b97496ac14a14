//! Networks as ONNX files, which onnxruntime, OpenVINO, TensorRT and browsers run.
//!
//! A pass in evaluation mode is traced and its launches are translated one by one. Launches and not operations, because
//! nothing that a network computes can bypass them: a kernel without a translation is an error and never a gap.
//! Images become NCHW, as is usual there; weights keep torch's names and layout.

mod graph;
pub mod proto;

use crate::{
    Error, Result,
    device::{
        DType,
        dry::{Dry, Like},
    },
    models::{Ends, Model},
    nn::{Layout, Params},
    ops::{
        activation::Act,
        bias::Bias,
        conv::Conv,
        elementwise::Activate,
        norm::Norm,
        pool::{Pool, overlapped},
        resample::{Bilinear, Shift},
        slice::Copy,
    },
    trace::{Launched, Trace},
};
use graph::{Graph, Part, float, int, ints, word};
use prost::Message;

/// Version of the operators: the first whose `Resize` leaves the batch alone.
const OPSET: i64 = 18;
/// Version of the format that came with that opset.
const IR_VERSION: i64 = 8;
/// Name of the input, `[N, 3, size, size]`.
pub const INPUT: &str = "images";
/// Name of the second input of a network that takes numbers beside images, `[N, numbers]`, scaled as in its training.
pub const GIVEN: &str = "inputs";
/// Name of the output: scores `[N, classes]`, before any softmax.
pub const OUTPUT: &str = "logits";
/// Images of the traced pass: not 1, so that a tensor that mixes images cannot pass for one that does not.
const TRACED: usize = 2;

/// `model` as an ONNX file for any number of images of side `size`, with `notes` in its metadata.
///
/// # Errors
/// Images that are too small, a kernel that has no translation, or a failure of the device.
pub fn encode(model: &Model, size: usize, notes: &[(&str, String)]) -> Result<Vec<u8>> {
    model.check_size(size)?;
    let ends = Ends { channels: model.channels, inputs: model.inputs, classes: model.classes };
    let dry = Model::between(&model.name, ends, &Dry::new(Like::Cpu), DType::F32, 0)?;
    Ok(translate(&Trace::new(&dry, TRACED, size)?, &model.params, &model.name, notes)?.encode_to_vec())
}

/// The network called `name` that `trace` followed over more than one image, with the values of `params`.
///
/// # Errors
/// A kernel that has no translation, or a failure of the device.
pub fn translate(trace: &Trace, params: &Params, name: &str, notes: &[(&str, String)]) -> Result<proto::Model> {
    let mut graph = Graph::new(trace, params, INPUT);
    if let Some(given) = &trace.given {
        graph.define(given, GIVEN.into());
    }
    for launched in &trace.launches {
        if let Some(name) = append(&mut graph, launched)? {
            graph.define(&launched.outs[0], name);
        }
    }
    let metadata = notes.iter().map(|(key, value)| proto::Entry { key: (*key).into(), value: value.clone() });
    Ok(proto::Model {
        ir_version: IR_VERSION,
        producer_name: env!("CARGO_PKG_NAME").into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(graph.finish(name, OUTPUT)?),
        opset_import: vec![proto::OperatorSet { domain: String::new(), version: OPSET }],
        metadata_props: metadata.collect(),
    })
}

fn unsupported(what: &str) -> Error {
    let problem = format!("the network cannot be exported: there is no ONNX for {what}");
    Error::unusable(problem, "another backbone; the weights themselves are in the safetensors file")
}

/// The parameter struct of a launch.
fn params<P: bytemuck::AnyBitPattern>(launched: &Launched) -> P {
    bytemuck::pod_read_unaligned(&launched.params)
}

/// Appends what a launch does; the name of its first result, `None` if that is not there yet.
fn append(graph: &mut Graph, launched: &Launched) -> Result<Option<String>> {
    let (ins, y) = (&launched.ins[..], &launched.outs[0]);
    let name = match launched.kernel.name {
        "conv2d_fwd" => convolution(graph, launched, 1)?,
        "depthwise_fwd" => convolution(graph, launched, params::<Conv>(launched).c)?,
        // Forward, the gradient of a convolution's image is a transposed convolution.
        "conv2d_dgrad" => {
            let p: Conv = params(launched);
            let (x, w) = (graph.input(&ins[0])?, graph.parameter(&ins[1])?.0);
            let covered = |small: i32, stride: i32, kernel: i32, pad: i32| (small - 1) * stride + kernel - 2 * pad;
            let rest = [p.h - covered(p.oh, p.stride_h, p.r, p.pad_h), p.w - covered(p.ow, p.stride_w, p.s, p.pad_w)];
            let attributes = vec![
                ints("kernel_shape", &[p.r, p.s]),
                ints("strides", &[p.stride_h, p.stride_w]),
                ints("pads", &[p.pad_h, p.pad_w, p.pad_h, p.pad_w]),
                ints("output_padding", &rest),
            ];
            graph.node("ConvTranspose", &[&x, &w], attributes)
        }
        "bn_running_stats" => {
            let (mean, var) = (graph.parameter(&ins[0])?.0, graph.parameter(&ins[1])?.0);
            graph.statistics.insert(y.address(), (mean, var, params::<Norm>(launched).eps));
            return Ok(None);
        }
        "bn_act_fwd" => {
            let u = normalised(graph, launched)?;
            activated(graph, u, params::<Norm>(launched).act)?
        }
        "bn_add_relu_fwd" => {
            let u = normalised(graph, launched)?;
            let residual = graph.input(&ins[4])?;
            let sum = graph.node("Add", &[&u, &residual], vec![]);
            graph.node("Relu", &[&sum], vec![])
        }
        "bias_act_fwd" => {
            let u = biased(graph, launched)?;
            activated(graph, u, params::<Bias>(launched).act)?
        }
        "activate_fwd" => {
            let x = graph.input(&ins[0])?;
            activated(graph, x, params::<Activate>(launched).act)?
        }
        "add" => {
            let (a, b) = (graph.input(&ins[0])?, graph.input(&ins[1])?);
            graph.node("Add", &[&a, &b], vec![])
        }
        "scale_channels_fwd" => {
            let &[n, c] = &ins[1].shape[..] else { return Err(unsupported("a gate of images")) };
            let (x, gate) = (graph.input(&ins[0])?, graph.viewed(&ins[1], &[n, 1, 1, c])?);
            graph.node("Mul", &[&x, &gate], vec![])
        }
        "linear_fwd" => linear(graph, launched)?,
        "max_pool_fwd" => {
            let x = graph.input(&ins[0])?;
            graph.node("MaxPool", &[&x], window(&params(launched)))
        }
        "avg_pool_fwd" => {
            let p: Pool = params(launched);
            let x = graph.input(&ins[0])?;
            graph.node(
                "AveragePool",
                &[&x],
                window(&p).into_iter().chain([int("count_include_pad", p.count_pad)]).collect(),
            )
        }
        "global_avg_pool_fwd" => {
            let x = graph.input(&ins[0])?;
            let mean = graph.node("GlobalAveragePool", &[&x], vec![]);
            graph.node("Flatten", &[&mean], vec![int("axis", 1)])
        }
        "adaptive_avg_pool_fwd" => adaptive_pool(graph, launched)?,
        "upsample_nearest_fwd" => {
            let mode =
                [("mode", "nearest"), ("coordinate_transformation_mode", "asymmetric"), ("nearest_mode", "floor")];
            resize(graph, launched, &mode)?
        }
        "bilinear_fwd" => {
            let aligned = params::<Bilinear>(launched).aligns_corners();
            let coordinates = if aligned { "align_corners" } else { "half_pixel" };
            resize(graph, launched, &[("mode", "linear"), ("coordinate_transformation_mode", coordinates)])?
        }
        "crop_or_pad" => {
            let p: Shift = params(launched);
            let x = graph.input(&ins[0])?;
            // Pads that are negative crop.
            let pads = [0, 0, -p.top, -p.left, 0, 0, p.oh + p.top - p.h, p.ow + p.left - p.w].map(i64::from);
            let pads = graph.integers(&pads);
            graph.node("Pad", &[&x, &pads], vec![])
        }
        "copy_channels" => return copy_channels(graph, launched),
        other => return Err(unsupported(&format!("the kernel {other}"))),
    };
    Ok(Some(name))
}

fn convolution(graph: &mut Graph, launched: &Launched, group: i32) -> Result<String> {
    let p: Conv = params(launched);
    let (x, w) = (graph.input(&launched.ins[0])?, graph.parameter(&launched.ins[1])?.0);
    let attributes = vec![
        ints("kernel_shape", &[p.r, p.s]),
        ints("strides", &[p.stride_h, p.stride_w]),
        ints("pads", &[p.pad_h, p.pad_w, p.pad_h, p.pad_w]),
        int("group", group),
    ];
    Ok(graph.node("Conv", &[&x, &w], attributes))
}

/// Batch normalisation of the first input.
fn normalised(graph: &mut Graph, launched: &Launched) -> Result<String> {
    let [y, stats, weight, bias, ..] = &launched.ins[..] else {
        unreachable!("{} reads four tensors", launched.kernel.name)
    };
    let p: Norm = params(launched);
    let y = if p.c < p.width { graph.so_far(y, p.c as usize)? } else { graph.input(y)? };
    let (weight, bias) = (graph.parameter(weight)?.0, graph.parameter(bias)?.0);
    let statistics = graph.statistics.get(&stats.address()).cloned();
    let (mean, var, eps) = statistics.ok_or_else(|| unsupported("statistics of the batch"))?;
    Ok(graph.node("BatchNormalization", &[&y, &weight, &bias, &mean, &var], vec![float("epsilon", eps)]))
}

/// The first input, which a convolution has just made for this launch alone, with the bias that ONNX's convolutions have.
fn biased(graph: &mut Graph, launched: &Launched) -> Result<String> {
    let x = graph.input(&launched.ins[0])?;
    let bias = graph.parameter(&launched.ins[1])?.0;
    let alone = graph.readers(&launched.ins[0]) == 1;
    match graph.nodes.last_mut() {
        Some(node) if alone && node.output[0] == x && node.op_type.starts_with("Conv") && node.input.len() == 2 => {
            node.input.push(bias);
            Ok(x)
        }
        _ => Err(unsupported("a bias that follows no convolution")),
    }
}

fn activated(graph: &mut Graph, u: String, act: i32) -> Result<String> {
    Ok(match act {
        n if n == Act::Identity as i32 => u,
        n if n == Act::Relu as i32 => graph.node("Relu", &[&u], vec![]),
        n if n == Act::HardSwish as i32 => graph.node("HardSwish", &[&u], vec![]),
        n if n == Act::HardSigmoid as i32 => {
            graph.node("HardSigmoid", &[&u], vec![float("alpha", 1.0 / 6.0), float("beta", 0.5)])
        }
        n if n == Act::Silu as i32 => {
            let gate = graph.node("Sigmoid", &[&u], vec![]);
            graph.node("Mul", &[&u, &gate], vec![])
        }
        n if n == Act::Sigmoid as i32 => graph.node("Sigmoid", &[&u], vec![]),
        n => return Err(unsupported(&format!("activation {n}"))),
    })
}

fn linear(graph: &mut Graph, launched: &Launched) -> Result<String> {
    let [x, w, b] = &launched.ins[..] else { unreachable!("a linear layer reads three tensors") };
    let (mut weight, entry) = graph.parameter(w)?;
    if entry.file_shape.len() != 2 {
        weight = graph.node("Flatten", &[&weight], vec![int("axis", 1)]);
    }
    // Weights that are reordered for a flattened image of the engine's layout are, in a file, for one of torch's.
    let flattened = if entry.layout == Layout::Same { None } else { graph.flattened(x) };
    let x = match flattened {
        Some(x) => x,
        None => graph.input(x)?,
    };
    let bias = graph.parameter(b)?.0;
    Ok(graph.node("Gemm", &[&x, &weight, &bias], vec![int("transB", 1)]))
}

/// Kernel, strides and padding of a pooling window, with as much padding behind the image as its last position needs.
fn window(p: &Pool) -> Vec<proto::Attribute> {
    let behind =
        |out: i32, stride: i32, kernel: i32, size: i32, pad: i32| pad.max((out - 1) * stride + kernel - size - pad);
    let (below, right) = (behind(p.oh, p.stride_h, p.r, p.h, p.pad_h), behind(p.ow, p.stride_w, p.s, p.w, p.pad_w));
    vec![
        ints("kernel_shape", &[p.r, p.s]),
        ints("strides", &[p.stride_h, p.stride_w]),
        ints("pads", &[p.pad_h, p.pad_w, below, right]),
    ]
}

/// ONNX has no such operator, so the cells' means are products with matrices from both sides.
fn adaptive_pool(graph: &mut Graph, launched: &Launched) -> Result<String> {
    let x = graph.input(&launched.ins[0])?;
    let (from, to) = (&launched.ins[0].shape, &launched.outs[0].shape);
    let share = |cell: usize, pixel: usize, cells: usize, pixels: usize| {
        let pixels = overlapped(cell, cells, pixels);
        if pixels.contains(&pixel) { 1.0 / pixels.len() as f32 } else { 0.0 }
    };
    let (h, w, oh, ow) = (from[1], from[2], to[1], to[2]);
    let rows: Vec<f32> = (0..oh * h).map(|i| share(i / h, i % h, oh, h)).collect();
    let cols: Vec<f32> = (0..w * ow).map(|i| share(i % ow, i / ow, ow, w)).collect();
    let rows = graph.floats(format!("rows{h}to{oh}"), &[oh, h], &rows);
    let cols = graph.floats(format!("columns{w}to{ow}"), &[w, ow], &cols);
    let lines = graph.node("MatMul", &[&rows, &x], vec![]);
    Ok(graph.node("MatMul", &[&lines, &cols], vec![]))
}

/// Interpolation of height and width, in this mode.
fn resize(graph: &mut Graph, launched: &Launched, mode: &[(&str, &str)]) -> Result<String> {
    let x = graph.input(&launched.ins[0])?;
    let to = &launched.outs[0].shape;
    let sizes = graph.integers(&[to[1] as i64, to[2] as i64]);
    let mode = mode.iter().map(|(key, value)| word(key, value));
    Ok(graph.node("Resize", &[&x, "", "", &sizes], mode.chain([ints("axes", &[2, 3])]).collect()))
}

/// A range of channels, or a part of a concatenation.
fn copy_channels(graph: &mut Graph, launched: &Launched) -> Result<Option<String>> {
    let (p, y): (Copy, _) = (params(launched), &launched.outs[0]);
    let mut name = graph.input(&launched.ins[0])?;
    if p.width < p.x_c {
        let [from, to, axis] = [p.x_from, p.x_from + p.width, 1].map(|x| graph.integers(&[x.into()]));
        name = graph.node("Slice", &[&name, &from, &to, &axis], vec![]);
    }
    if p.width == p.y_c {
        return Ok(Some(name));
    }
    let parts = graph.parts.entry(y.address()).or_default();
    parts.push(Part { from: p.y_from as usize, width: p.width as usize, name });
    if parts.iter().map(|part| part.width).sum::<usize>() < p.y_c as usize {
        return Ok(None);
    }
    let whole = graph.so_far(y, p.y_c as usize)?;
    graph.parts.remove(&y.address());
    Ok(Some(whole))
}
