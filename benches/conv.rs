//! GFLOP/s of the CPU convolutions at layers of real networks, batch 8; `peer/conv.py` prints PyTorch's for the same rows.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use roentgen::{
    device::cpu::MOMENT_ROWS,
    ops::{
        conv::{
            Conv,
            cpu::{conv2d_dgrad, conv2d_fwd, conv2d_wgrad},
        },
        depthwise::cpu::{depthwise_dgrad, depthwise_fwd, depthwise_wgrad},
    },
};
use std::time::Duration;

const BATCH: i32 = 8;

/// Input channels, output channels, kernel, stride, size of the input.
const DENSE: [(i32, i32, i32, i32, i32); 11] = [
    (64, 64, 3, 1, 56),
    (64, 128, 3, 2, 56),
    (128, 128, 3, 1, 28),
    (256, 256, 3, 1, 14),
    (512, 512, 3, 1, 7),
    (64, 128, 1, 2, 56),
    (3, 64, 7, 2, 224),
    (16, 72, 1, 1, 56),
    (96, 576, 1, 1, 7),
    (24, 88, 1, 1, 28),
    (240, 40, 1, 1, 14),
];

/// Channels, kernel, stride, size of the input.
const DEPTHWISE: [(i32, i32, i32, i32); 5] =
    [(72, 3, 2, 56), (88, 3, 1, 28), (240, 5, 1, 14), (576, 5, 1, 7), (144, 3, 1, 56)];

type Forward = fn(&Conv, &[f32], &[f32], &mut [f32], Option<&mut [f32]>);
type Gradient = fn(&Conv, &[f32], &[f32], &mut [f32]);

fn shape(c: i32, k: i32, kernel: i32, stride: i32, size: i32) -> Conv {
    let pad = kernel / 2;
    let out = (size + 2 * pad - kernel) / stride + 1;
    Conv {
        n: BATCH,
        h: size,
        w: size,
        c,
        k,
        r: kernel,
        s: kernel,
        oh: out,
        ow: out,
        stride_h: stride,
        stride_w: stride,
        pad_h: pad,
        pad_w: pad,
    }
}

fn name(p: &Conv) -> String {
    let stride = if p.stride_h == 1 { String::new() } else { format!("/{}", p.stride_h) };
    format!("{}-{} {}x{}{stride} @{}", p.c, p.k, p.r, p.s, p.h)
}

fn values(len: i32) -> Vec<f32> {
    (0..len).map(|i| (i % 251) as f32 / 251.0 - 0.5).collect()
}

fn measure(criterion: &mut Criterion, p: Conv, depthwise: bool) {
    let pixels = p.n * p.oh * p.ow;
    let channels = if depthwise { 1 } else { p.c };
    let (x, w, g) = (values(p.n * p.h * p.w * p.c), values(p.k * p.r * p.s * channels), values(pixels * p.k));
    let (mut y, mut gx, mut gw) = (g.clone(), x.clone(), w.clone());
    let mut moments = vec![0.0; (pixels as usize).div_ceil(MOMENT_ROWS) * 2 * p.k as usize];
    let flops = 2 * pixels as u64 * (p.k * p.r * p.s * channels) as u64;
    let kind = if depthwise { "depthwise" } else { "dense" };
    let mut group = criterion.benchmark_group(format!("{kind} {}", name(&p)));
    group.throughput(Throughput::Elements(flops)).sample_size(10).measurement_time(Duration::from_millis(500));
    group.warm_up_time(Duration::from_millis(200));
    let (fwd, dgrad, wgrad): (Forward, Gradient, Gradient) = if depthwise {
        (depthwise_fwd, depthwise_dgrad, depthwise_wgrad)
    } else {
        (conv2d_fwd, conv2d_dgrad, conv2d_wgrad)
    };
    group.bench_function("fwd", |b| b.iter(|| fwd(&p, &x, &w, &mut y, None)));
    group.bench_function("fwd with moments", |b| b.iter(|| fwd(&p, &x, &w, &mut y, Some(&mut moments))));
    group.bench_function("dgrad", |b| b.iter(|| dgrad(&p, &g, &w, &mut gx)));
    group.bench_function("wgrad", |b| b.iter(|| wgrad(&p, &x, &g, &mut gw)));
}

fn convolutions(criterion: &mut Criterion) {
    for (c, k, kernel, stride, size) in DENSE {
        measure(criterion, shape(c, k, kernel, stride, size), false);
    }
    for (c, kernel, stride, size) in DEPTHWISE {
        measure(criterion, shape(c, c, kernel, stride, size), true);
    }
}

criterion_group!(benches, convolutions);
criterion_main!(benches);
