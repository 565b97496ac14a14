//! Augmentation on the device against computations by hand; tests/data has it against torchvision.

use roentgen::{
    device::{DType, cpu::Cpu},
    ops::augment::{Change, Edge, Input, Rectangle, augment, augment_masks},
    tape::Tape,
};

const GRAY: [u8; 6] = [0, 51, 102, 153, 204, 255];

/// What becomes of images `[n, h, w, k]` with one change each.
fn run(shape: [usize; 4], pixels: &[u8], changes: &[Change], input: &Input) -> Vec<f64> {
    let tape = Tape::new(&Cpu::new(1 << 26), false);
    let images = tape.upload(&shape, DType::U8, pixels);
    let changes = tape.upload(&[changes.len(), Change::LEN], DType::U32, bytemuck::cast_slice(changes));
    augment(&images, &changes, input).to_vec().unwrap()
}

fn input(size: (usize, usize), edge: Edge) -> Input {
    Input { bytes: 1, size, edge, mean: vec![0.0], std: vec![1.0], dtype: DType::F64 }
}

/// The 2×3 image of [`GRAY`] after a change.
fn gray(change: Change, size: (usize, usize), edge: Edge) -> Vec<f64> {
    run([1, 2, 3, 1], &GRAY, &[change], &input(size, edge))
}

#[track_caller]
fn assert_close(got: &[f64], want: &[f64]) {
    let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-6;
    assert!(got.len() == want.len() && got.iter().zip(want).all(near), "{got:?}, expected {want:?}");
}

#[test]
fn without_a_change_it_normalises() {
    assert_close(&gray(Change::NONE, (2, 3), Edge::Zero), &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
    let colours = Input { mean: vec![0.5, 0.25, 0.0], std: vec![0.5, 1.0, 2.0], ..input((1, 2), Edge::Zero) };
    assert_close(&run([1, 1, 2, 1], &[0, 255], &[Change::NONE], &colours), &[-1.0, -0.25, 0.0, 1.0, 0.75, 0.5]);
    let pixels = [0, 51, 102, 153, 204, 255];
    assert_close(&run([1, 1, 2, 3], &pixels, &[Change::NONE], &colours), &[-1.0, -0.05, 0.2, 0.2, 0.55, 0.5]);
    // Two bytes a value.
    let wide = Input { bytes: 2, ..input((1, 2), Edge::Zero) };
    let pixels = [13107u16.to_ne_bytes(), 65535u16.to_ne_bytes()].concat();
    assert_close(&run([1, 1, 2, 2], &pixels, &[Change::NONE], &wide), &[0.2, 1.0]);
}

#[test]
fn geometry() {
    let affine = |affine| Change { affine, ..Change::NONE };
    let flip = affine([[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]);
    assert_close(&gray(flip, (2, 3), Edge::Zero), &[0.4, 0.2, 0.0, 1.0, 0.8, 0.6]);
    // A quarter turn: what was the bottom of the left column comes first.
    let turn = affine([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]);
    assert_close(&gray(turn, (3, 2), Edge::Zero), &[0.6, 0.0, 0.8, 0.2, 1.0, 0.4]);
    let half = affine([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]);
    assert_close(&gray(half, (2, 3), Edge::Zero), &[0.1, 0.3, 0.2, 0.7, 0.9, 0.5]);
    assert_close(&gray(half, (2, 3), Edge::Repeat), &[0.1, 0.3, 0.4, 0.7, 0.9, 1.0]);
    let far = affine([[1.0, 0.0, 1e9], [0.0, 1.0, f32::NAN]]);
    assert_close(&gray(far, (1, 1), Edge::Zero), &[0.0]);
    assert_close(&gray(far, (1, 1), Edge::Repeat), &[0.4]);
}

#[test]
fn intensities() {
    let change = Change { brightness: 1.5, contrast: 0.5, pivot: 0.4, gamma: 2.0, ..Change::NONE };
    let want: Vec<f64> =
        (0..6).map(|i| (1.5 * f64::from(i) / 5.0).min(1.0)).map(|v| (0.4 + (v - 0.4) * 0.5).powi(2)).collect();
    assert_close(&gray(change, (2, 3), Edge::Zero), &want);
    let cut = Change { cutout: Rectangle { rows: [1, 2], cols: [0, 2] }, ..Change::NONE };
    assert_close(&gray(cut, (2, 3), Edge::Zero), &[0.0, 0.2, 0.4, 0.0, 0.0, 1.0]);
    // What is cut out is the mean, 0 for the network.
    let scaled = Input { mean: vec![0.5], std: vec![0.5], ..input((2, 3), Edge::Zero) };
    assert_close(&run([1, 2, 3, 1], &GRAY, &[cut], &scaled), &[-1.0, -0.6, -0.2, 0.0, 0.0, 1.0]);
}

#[test]
fn mixtures() {
    let (mut pixels, white) = (GRAY.to_vec(), vec![255; 6]);
    pixels.extend(&white);
    let two = |first: Change, second: Change| run([2, 2, 3, 1], &pixels, &[first, second], &input((2, 3), Edge::Zero));
    let flip = Change { affine: [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], ..Change::NONE };
    let dark = Change { brightness: 0.5, ..Change::NONE };
    // Three quarters of the flipped image, a quarter of its partner as that is varied itself.
    let mixed = two(Change { partner: 1, share: 0.75, ..flip }, dark);
    assert_close(&mixed[..6], &[0.425, 0.275, 0.125, 0.875, 0.725, 0.575]);
    assert_close(&mixed[6..], &[0.5; 6]);
    let patch = Rectangle { rows: [0, 2], cols: [1, 2] };
    let cut = Change { partner: 1, patch, ..Change::NONE };
    assert_close(&two(cut, dark)[..6], &[0.0, 0.5, 0.4, 0.6, 0.5, 1.0]);
    assert!((cut.target_share(6) - 2.0 / 3.0).abs() < 1e-6 && flip.target_share(6) == 1.0);
}

#[test]
fn masks_take_the_nearest_pixel() {
    let tape = Tape::new(&Cpu::new(1 << 20), false);
    let mask = [1, 0, 0, 1, 0, 0, /* the second row */ 1, 1, 0, 0, 0, 1];
    let masks = tape.upload(&[1, 2, 3, 2], DType::U8, &mask);
    let moved = |change: Change| {
        let changes = tape.upload(&[1, Change::LEN], DType::U32, bytemuck::bytes_of(&change));
        augment_masks(&masks, &changes, DType::F32).to_vec().unwrap()
    };
    let unchanged: Vec<f64> = mask.iter().map(|&m| f64::from(m)).collect();
    // Only geometry moves a mask.
    assert_eq!(
        moved(Change { brightness: 0.1, cutout: Rectangle { rows: [0, 2], cols: [0, 3] }, ..Change::NONE }),
        unchanged
    );
    let near = Change { affine: [[1.0, 0.0, 0.4], [0.0, 1.0, -0.4]], ..Change::NONE };
    assert_eq!(moved(near), unchanged);
    let far = Change { affine: [[1.0, 0.0, 0.6], [0.0, 1.0, 0.0]], ..Change::NONE };
    assert_eq!(moved(far), [0., 1., 0., 0., 0., 0., 0., 0., 0., 1., 0., 0.]);
}

#[test]
fn noise_is_a_function_of_the_key() {
    let change = |key| Change { noise: 0.1, key, ..Change::NONE };
    let (size, middle) = (64 * 64, vec![128; 2 * 64 * 64 * 3]);
    let three = Input { mean: vec![0.0; 3], std: vec![1.0; 3], ..input((64, 64), Edge::Zero) };
    let both = run([2, 64, 64, 3], &middle, &[change([0, 1]), change([2, 3])], &three);
    assert_eq!(both, run([2, 64, 64, 3], &middle, &[change([0, 1]), change([2, 3])], &three));
    assert_ne!(both[..3 * size], both[3 * size..]);
    for channel in 0..3 {
        let z: Vec<f64> = both.iter().skip(channel).step_by(3).map(|v| (v - 128.0 / 255.0) / 0.1).collect();
        let mean = z.iter().sum::<f64>() / z.len() as f64;
        let variance = z.iter().map(|z| z * z).sum::<f64>() / z.len() as f64;
        assert!(mean.abs() < 0.05 && (variance - 1.0).abs() < 0.05, "channel {channel}: {mean}, {variance}");
    }
    // Channels are independent, and a gray image stays gray.
    let product: f64 = both.chunks(3).map(|z| (z[0] - 128.0 / 255.0) * (z[1] - 128.0 / 255.0) / 0.01).sum();
    assert!((product / (2 * size) as f64).abs() < 0.05);
    let gray = run([1, 64, 64, 1], &middle[..size], &[change([0, 1])], &three);
    assert!(gray.chunks(3).all(|z| z[0] == z[1] && z[1] == z[2]) && gray[0] != gray[3]);
}
