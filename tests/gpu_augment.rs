//! The CUDA kernels of augmentation against the CPU in f64; they have no gradient, so `tests/gpu.rs` does not know them.

mod common;

use common::cases::distance;
use roentgen::{
    device::{DType, Device, cpu::Cpu},
    ops::augment::{Change, Edge, Input, Rectangle, augment, augment_masks},
    rng::{Purpose, Rng},
    tape::Tape,
};
use std::sync::Arc;

const N: usize = 5;
const H: usize = 13;
const W: usize = 17;

/// A change for each of `N` images.
fn changes() -> Vec<Change> {
    let mut rng = Rng::new(1, Purpose::Test, 0, 0);
    let mut change = |i: usize| {
        // Multiples of 1/8, whose products with positions are exact in single precision.
        let mut near = |x: f32| x + (rng.below(5) as f32 - 2.0) / 8.0;
        Change {
            affine: [[near(1.0), near(0.0), near(1.0)], [near(0.0), near(-1.0), near(0.0)]],
            brightness: near(1.0),
            contrast: if i == 1 { 1.0 } else { near(1.0) },
            pivot: near(0.5),
            gamma: if i == 0 { 1.0 } else { 0.75 },
            noise: if i.is_multiple_of(2) { 0.0 } else { 0.125 },
            key: [i as u32, 7],
            cutout: Rectangle { rows: [2, 5], cols: [3, 9] },
            partner: (i as u32 + 1) % N as u32,
            share: if i < 2 { 0.75 } else { 1.0 },
            patch: if i > 2 { Rectangle { rows: [4, 9], cols: [1, 12] } } else { Rectangle::default() },
        }
    };
    (0..N).map(&mut change).collect()
}

/// Gray and coloured images of `bytes` bytes a value, changed, in `dtype`.
fn images(device: &Arc<dyn Device>, dtype: DType, (bytes, k, c): (usize, usize, usize), edge: Edge) -> Vec<f64> {
    let tape = Tape::new(device, false);
    let mut rng = Rng::new(2, Purpose::Test, 0, 0);
    let pixels: Vec<u8> = (0..N * H * W * k * bytes).map(|_| rng.bits() as u8).collect();
    let images = tape.upload(&[N, H, W, k * bytes], DType::U8, &pixels);
    let changes = tape.upload(&[N, Change::LEN], DType::U32, bytemuck::cast_slice(&changes()));
    let (mean, std) = (vec![0.485, 0.456, 0.406], vec![0.229, 0.224, 0.225]);
    let input = Input { bytes, size: (11, 20), edge, mean: mean[..c].to_vec(), std: std[..c].to_vec(), dtype };
    augment(&images, &changes, &input).to_vec().unwrap()
}

#[test]
fn images_equal_the_cpu_in_f64() {
    let Some(gpu) = common::gpu() else { return };
    let cpu = Cpu::new(1 << 26);
    for kind in [(1, 3, 3), (1, 1, 3), (1, 1, 1), (2, 1, 3), (2, 1, 1)] {
        for edge in [Edge::Zero, Edge::Repeat] {
            let want = images(&cpu, DType::F64, kind, edge);
            for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 4e-6), (DType::BF16, 4e-3), (DType::F16, 6e-4)]
            {
                let error = distance(&images(&gpu, dtype, kind, edge), &want);
                assert!(error <= tolerance, "{kind:?}, {edge:?}, {dtype:?}: {error:.1e}");
            }
        }
    }
    gpu.sync().unwrap();
}

#[test]
fn masks_equal_the_cpu() {
    let Some(gpu) = common::gpu() else { return };
    let masks = |device: &Arc<dyn Device>, dtype| {
        let tape = Tape::new(device, false);
        let mut rng = Rng::new(3, Purpose::Test, 0, 0);
        let marked: Vec<u8> = (0..N * H * W * 2).map(|_| rng.below(2) as u8).collect();
        let masks = tape.upload(&[N, H, W, 2], DType::U8, &marked);
        let changes = tape.upload(&[N, Change::LEN], DType::U32, bytemuck::cast_slice(&changes()));
        augment_masks(&masks, &changes, dtype).to_vec().unwrap()
    };
    let want = masks(&Cpu::new(1 << 26), DType::F64);
    assert!(want.contains(&1.0) && want.contains(&0.0));
    for dtype in [DType::F64, DType::F32, DType::BF16, DType::F16] {
        assert_eq!(masks(&gpu, dtype), want, "{dtype:?}");
    }
    gpu.sync().unwrap();
}
