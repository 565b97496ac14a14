//! The CUDA kernel of augmentation against the CPU in f64; it has no gradient, so `tests/gpu.rs` does not know it.

use roentgen::{
    device::{DType, Device, cpu::Cpu, cuda::Cuda},
    ops::augment::{Change, Edge, Input, augment},
    rng::{Purpose, Rng},
    tape::Tape,
};
use std::sync::Arc;

/// Grey and coloured images with a change each, in `dtype`.
fn run(device: &Arc<dyn Device>, dtype: DType, (k, c): (usize, usize), edge: Edge) -> Vec<f64> {
    let tape = Tape::new(device, false);
    let mut rng = Rng::new(1, Purpose::Test, 0, 0);
    let (n, h, w) = (5, 13, 17);
    let pixels: Vec<u8> = (0..n * h * w * k).map(|_| rng.bits() as u8).collect();
    let mut change = |i: usize| {
        // Multiples of 1/8, whose products with positions are exact in single precision.
        let mut near = |x: f32| x + (rng.below(5) as f32 - 2.0) / 8.0;
        Change {
            affine: [[near(1.0), near(0.0), near(1.0)], [near(0.0), near(-1.0), near(0.0)]],
            gamma: if i == 0 { 1.0 } else { 0.75 },
            contrast: near(1.0),
            brightness: near(0.0) / 2.0,
            noise: if i.is_multiple_of(2) { 0.0 } else { 0.125 },
            cutout: [[2.0, 5.0], [3.0, 9.0]],
        }
    };
    let numbers: Vec<f64> = (0..n).flat_map(|i| change(i).row()).map(f64::from).collect();
    let images = tape.upload(&[n, h, w, k], DType::U8, &pixels);
    let changes = tape.floats(&[n, Change::LEN], dtype.wide(), &numbers);
    let keys: Vec<u32> = (0..2 * n as u32).collect();
    let keys = tape.upload(&[n, 2], DType::U32, bytemuck::cast_slice(&keys));
    let (mean, std) = (vec![0.485, 0.456, 0.406], vec![0.229, 0.224, 0.225]);
    let input = Input { size: (11, 20), edge, mean: mean[..c].to_vec(), std: std[..c].to_vec(), dtype };
    augment(&images, &changes, &keys, &input).to_vec().unwrap()
}

#[test]
fn augmentation_equals_the_cpu_in_f64() {
    let gpu = match Cuda::checked(0) {
        Ok(gpu) => gpu,
        Err(e) => {
            assert!(std::env::var_os("REQUIRE_SIM").is_none(), "{e}");
            return eprintln!("skipped: {e}");
        }
    };
    let cpu = Cpu::new(1 << 26);
    for channels in [(3, 3), (1, 3), (1, 1)] {
        for edge in [Edge::Zero, Edge::Repeat] {
            let want = run(&cpu, DType::F64, channels, edge);
            for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 4e-6), (DType::BF16, 4e-3), (DType::F16, 6e-4)]
            {
                let got = run(&gpu, dtype, channels, edge);
                let squares = |of: &mut dyn Iterator<Item = f64>| of.map(|x| x * x).sum::<f64>();
                let error =
                    squares(&mut got.iter().zip(&want).map(|(a, b)| a - b)) / squares(&mut want.iter().copied());
                assert!(error.sqrt() <= tolerance, "{channels:?}, {edge:?}, {dtype:?}: {:.1e}", error.sqrt());
            }
        }
    }
    gpu.sync().unwrap();
}
