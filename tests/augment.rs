//! Augmentation on the device against computations by hand.

use roentgen::{
    device::{DType, cpu::Cpu},
    ops::augment::{Change, Edge, Input, augment},
    tape::Tape,
};

const GREY: [u8; 6] = [0, 51, 102, 153, 204, 255];

/// What becomes of images `[n, h, w, k]` with one change each.
fn run(shape: [usize; 4], pixels: &[u8], changes: &[Change], input: &Input) -> Vec<f64> {
    let tape = Tape::new(&Cpu::new(1 << 26), false);
    let images = tape.upload(&shape, DType::U8, pixels);
    let numbers: Vec<f64> = changes.iter().flat_map(Change::row).map(f64::from).collect();
    let changes = tape.floats(&[changes.len(), Change::LEN], input.dtype.wide(), &numbers);
    let keys: Vec<u32> = (0..2 * shape[0] as u32).collect();
    let keys = tape.upload(&[shape[0], 2], DType::U32, bytemuck::cast_slice(&keys));
    augment(&images, &changes, &keys, input).to_vec().unwrap()
}

fn input(size: (usize, usize), edge: Edge) -> Input {
    Input { size, edge, mean: vec![0.0], std: vec![1.0], dtype: DType::F64 }
}

/// The 2×3 image of [`GREY`] after a change.
fn grey(change: Change, size: (usize, usize), edge: Edge) -> Vec<f64> {
    run([1, 2, 3, 1], &GREY, &[change], &input(size, edge))
}

#[track_caller]
fn assert_close(got: &[f64], want: &[f64]) {
    let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-6;
    assert!(got.len() == want.len() && got.iter().zip(want).all(near), "{got:?}, expected {want:?}");
}

#[test]
fn without_a_change_it_normalises() {
    assert_close(&grey(Change::NONE, (2, 3), Edge::Zero), &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
    let colours = Input { mean: vec![0.5, 0.25, 0.0], std: vec![0.5, 1.0, 2.0], ..input((1, 2), Edge::Zero) };
    assert_close(&run([1, 1, 2, 1], &[0, 255], &[Change::NONE], &colours), &[-1.0, -0.25, 0.0, 1.0, 0.75, 0.5]);
    let pixels = [0, 51, 102, 153, 204, 255];
    assert_close(&run([1, 1, 2, 3], &pixels, &[Change::NONE], &colours), &[-1.0, -0.05, 0.2, 0.2, 0.55, 0.5]);
}

#[test]
fn geometry() {
    let affine = |affine| Change { affine, ..Change::NONE };
    let flip = affine([[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]);
    assert_close(&grey(flip, (2, 3), Edge::Zero), &[0.4, 0.2, 0.0, 1.0, 0.8, 0.6]);
    // A quarter turn: what was the bottom of the left column comes first.
    let turn = affine([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]);
    assert_close(&grey(turn, (3, 2), Edge::Zero), &[0.6, 0.0, 0.8, 0.2, 1.0, 0.4]);
    let half = affine([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]);
    assert_close(&grey(half, (2, 3), Edge::Zero), &[0.1, 0.3, 0.2, 0.7, 0.9, 0.5]);
    assert_close(&grey(half, (2, 3), Edge::Repeat), &[0.1, 0.3, 0.4, 0.7, 0.9, 1.0]);
    // Three pixels to six: the centres of the new ones lie a quarter off.
    let double = affine([[0.5, 0.0, 0.0], [0.0, 1.0, 0.0]]);
    assert_close(&grey(double, (2, 6), Edge::Repeat)[..6], &[0.0, 0.05, 0.15, 0.25, 0.35, 0.4]);
    let far = affine([[1.0, 0.0, 1e9], [0.0, 1.0, f32::NAN]]);
    assert_close(&grey(far, (1, 1), Edge::Zero), &[0.0]);
    assert_close(&grey(far, (1, 1), Edge::Repeat), &[0.4]);
}

#[test]
fn intensities() {
    let change = Change { gamma: 2.0, contrast: 0.5, brightness: 0.1, ..Change::NONE };
    let want: Vec<f64> = (0..6).map(|i| f64::from(i) / 5.0).map(|v| (v * v - 0.5) * 0.5 + 0.6).collect();
    assert_close(&grey(change, (2, 3), Edge::Zero), &want);
    let bright = Change { brightness: 0.5, ..Change::NONE };
    assert_close(&grey(bright, (2, 3), Edge::Zero), &[0.5, 0.7, 0.9, 1.0, 1.0, 1.0]);
    let cut = Change { cutout: [[1.0, 2.0], [0.0, 2.0]], ..Change::NONE };
    assert_close(&grey(cut, (2, 3), Edge::Zero), &[0.0, 0.2, 0.4, 0.0, 0.0, 1.0]);
}

#[test]
fn noise_is_a_function_of_the_key() {
    let change = Change { noise: 0.1, ..Change::NONE };
    let (size, middle) = (64 * 64, vec![128; 2 * 64 * 64 * 3]);
    let three = Input { mean: vec![0.0; 3], std: vec![1.0; 3], ..input((64, 64), Edge::Zero) };
    let both = run([2, 64, 64, 3], &middle, &[change, change], &three);
    assert_eq!(both, run([2, 64, 64, 3], &middle, &[change, change], &three));
    assert_ne!(both[..3 * size], both[3 * size..]);
    for channel in 0..3 {
        let z: Vec<f64> = both.iter().skip(channel).step_by(3).map(|v| (v - 128.0 / 255.0) / 0.1).collect();
        let mean = z.iter().sum::<f64>() / z.len() as f64;
        let variance = z.iter().map(|z| z * z).sum::<f64>() / z.len() as f64;
        assert!(mean.abs() < 0.05 && (variance - 1.0).abs() < 0.05, "channel {channel}: {mean}, {variance}");
    }
    // Channels are independent, and a grey image stays grey.
    let product: f64 = both.chunks(3).map(|z| (z[0] - 128.0 / 255.0) * (z[1] - 128.0 / 255.0) / 0.01).sum();
    assert!((product / (2 * size) as f64).abs() < 0.05);
    let grey = run([1, 64, 64, 1], &middle[..size], &[change], &three);
    assert!(grey.chunks(3).all(|z| z[0] == z[1] && z[1] == z[2]) && grey[0] != grey[3]);
}
