//! Augmentation on the device: from bytes to the normalised input of a network in one launch. It has no gradient.

use crate::{
    device::{DType, Grid, cpu::parallel},
    kernel,
    rng::{Purpose, philox, unit},
    shape::{int, nhwc},
    tensor::{Tensor, launch},
};
use bytemuck::{Pod, Zeroable};
use std::f64::consts::TAU;

/// What happens to one image, in this order: the affine map, gamma, contrast, brightness, noise, cutout.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Change {
    /// From output to input, as rows of a 2×3 matrix: takes (x, y, 1), with x to the right and y downwards in pixels from
    /// the centre of the output, to pixels from the centre of the input.
    pub affine: [[f32; 3]; 2],
    /// Exponent of intensities in [0, 1].
    pub gamma: f32,
    /// Factor of the difference from middle grey.
    pub contrast: f32,
    /// Added to intensities.
    pub brightness: f32,
    /// Standard deviation of Gaussian noise, of intensities.
    pub noise: f32,
    /// Rows and columns, [first, end) each, of a box of the output that becomes the mean intensity.
    pub cutout: [[f32; 2]; 2],
}

impl Change {
    /// Numbers of a change.
    pub const LEN: usize = size_of::<Change>() / size_of::<f32>();

    /// No change: the centre of the image at its own scale.
    pub const NONE: Change = Change {
        affine: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
        gamma: 1.0,
        contrast: 1.0,
        brightness: 0.0,
        noise: 0.0,
        cutout: [[0.0; 2]; 2],
    };

    /// The numbers, for a tensor `[n, Change::LEN]`.
    pub fn row(&self) -> [f32; Change::LEN] {
        bytemuck::cast(*self)
    }
}

/// What surrounds an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Edge {
    /// Black.
    Zero = 0,
    /// Its outermost pixels, repeated.
    Repeat = 1,
}

/// The input that a network wants.
#[derive(Clone, Debug)]
pub struct Input {
    /// Height and width.
    pub size: (usize, usize),
    /// What surrounds an image.
    pub edge: Edge,
    /// Mean intensity of each channel; three of them for a grey image repeat it.
    pub mean: Vec<f32>,
    /// Standard deviation of the intensities of each channel.
    pub std: Vec<f32>,
    /// Type of the result.
    pub dtype: DType,
}

/// Channels at most: of one draw of the generator come the noises of so many.
const CHANNELS: usize = 3;

/// Images `[n, h, w, k]` to `[n, oh, ow, c]`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Augment {
    n: i32,
    h: i32,
    w: i32,
    k: i32,
    oh: i32,
    ow: i32,
    c: i32,
    edge: i32,
    mean: [f32; CHANNELS],
    std: [f32; CHANNELS],
}

impl Augment {
    /// Intensity of an image at (x, y), by bilinear interpolation.
    fn sample(&self, image: &[u8], channel: usize, x: f64, y: f64) -> f64 {
        // Further out nothing changes, and what is no number becomes the outside.
        let inside = |at: f64, size: i32| if at > -1.0 { at.min(f64::from(size)) } else { -1.0 };
        let (x, y) = (inside(x, self.w), inside(y, self.h));
        let pixel = |dx: i32, dy: i32| {
            let (mut i, mut j) = (y.floor() as i32 + dy, x.floor() as i32 + dx);
            if self.edge == Edge::Repeat as i32 {
                (i, j) = (i.clamp(0, self.h - 1), j.clamp(0, self.w - 1));
            }
            let there = (0..self.h).contains(&i) && (0..self.w).contains(&j);
            if there { f64::from(image[(i * self.w + j) as usize * self.k as usize + channel]) / 255.0 } else { 0.0 }
        };
        let (right, down) = (x - x.floor(), y - y.floor());
        let mix = |dy| pixel(0, dy) * (1.0 - right) + pixel(1, dy) * right;
        mix(0) * (1.0 - down) + mix(1) * down
    }
}

/// Independent standard normals of a pixel (Box and Muller 1958).
fn normals(pixel: usize, key: [u32; 2]) -> [f64; CHANNELS] {
    let words = philox([pixel as u32, 0, 0, Purpose::Noise as u32], key);
    let [u, v, s, t] = words.map(|word| f64::from(unit(word)));
    let radius = |u: f64| (-2.0 * (1.0 - u).ln()).sqrt();
    [radius(u) * (TAU * v).cos(), radius(u) * (TAU * v).sin(), radius(s) * (TAU * t).cos()]
}

kernel!(AUGMENT = "augment", |p: Augment, [images: u8, changes, keys: u32] -> [y]| {
    let [h, w, k, oh, ow, c] = [p.h, p.w, p.k, p.oh, p.ow, p.c].map(|x| x as usize);
    let centre = |size: usize| 0.5 * (size as f64 - 1.0);
    parallel::pieces(y, ow * c, |line, y| {
        let (n, row) = (line / oh, line % oh);
        let image = &images[n * h * w * k..][..h * w * k];
        let change: [f64; Change::LEN] = std::array::from_fn(|i| changes[n * Change::LEN + i].f64());
        let [a, b, right, d, e, down, gamma, contrast, brightness, sigma, top, bottom, start, end] = change;
        let dy = row as f64 - centre(oh);
        for (col, y) in y.chunks_exact_mut(c).enumerate() {
            let dx = col as f64 - centre(ow);
            let (sx, sy) = (a * dx + b * dy + right + centre(w), d * dx + e * dy + down + centre(h));
            let noise = if sigma > 0.0 { normals(row * ow + col, [keys[2 * n], keys[2 * n + 1]]) } else { [0.0; CHANNELS] };
            let cut = top <= row as f64 && (row as f64) < bottom && start <= col as f64 && (col as f64) < end;
            for (channel, y) in y.iter_mut().enumerate() {
                let from = channel.min(k - 1);
                let v = p.sample(image, from, sx, sy);
                let v = if gamma == 1.0 { v } else { v.powf(gamma) };
                let v = (v - 0.5) * contrast + 0.5 + brightness + sigma * noise[from];
                let [mean, std] = [p.mean, p.std].map(|of| f64::from(of[channel]));
                *y = if cut { T::ZERO } else { T::of((v.clamp(0.0, 1.0) - mean) / std) };
            }
        }
    });
}, grid |dtype| Grid::lines((p.n * p.oh) as usize, p.ow as usize, 1, dtype));

/// Images `[n, h, w, 1 or 3]` of bytes, changed and normalised: `[n, oh, ow, c]`, where c is the number of means.
///
/// `changes` is `[n, Change::LEN]` in [`DType::wide`] of the result's type, a [`Change`] for each image; `keys` `[n, 2]`
/// (u32) are what the noise of an image is a function of.
#[track_caller]
pub fn augment(images: &Tensor, changes: &Tensor, keys: &Tensor, input: &Input) -> Tensor {
    let [n, h, w, k] = nhwc(images.shape(), "augment");
    let ((oh, ow), c) = (input.size, input.mean.len());
    assert_eq!(images.dtype(), DType::U8, "augment: images are bytes");
    assert!((k == c || k == 1) && (1..=CHANNELS).contains(&c) && input.std.len() == c, "augment: {k} to {input:?}");
    assert!(
        changes.shape() == [n, Change::LEN] && changes.dtype() == input.dtype.wide(),
        "augment: changes {changes:?} of {images:?}"
    );
    assert!(keys.shape() == [n, 2] && keys.dtype() == DType::U32, "augment: keys {keys:?} of {images:?}");
    int(h * w * k); // an image is indexed by 32 bits
    let of = |values: &[f32]| std::array::from_fn(|i| values.get(i).copied().unwrap_or(1.0));
    let (mean, std) = (of(&input.mean), of(&input.std));
    let [n, h, w, k, oh, ow, c] = [n, h, w, k, oh, ow, c].map(int);
    let p = Augment { n, h, w, k, oh, ow, c, edge: input.edge as i32, mean, std };
    let y = images.tape().empty(&[n, oh, ow, c].map(|x| x as usize), input.dtype, "augment");
    launch(&AUGMENT, &p, &[images, changes, keys], &[&y]);
    y
}
