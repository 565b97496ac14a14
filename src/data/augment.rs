//! Random changes to a training image that keep its label: flip, rotation, brightness, contrast.

use crate::rng::{Purpose, Rng};
use serde::{Deserialize, Serialize};

/// How strongly training images are varied. The defaults are those of RadiologyNET, drawn per image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Probability of a horizontal flip.
    pub flip: f32,
    /// Largest rotation to either side, in degrees.
    pub rotation: f32,
    /// Range of the brightness factor.
    pub brightness: [f32; 2],
    /// Range of the contrast factor about the image's mean.
    pub contrast: [f32; 2],
}

impl Default for Augment {
    fn default() -> Self {
        Augment { flip: 0.5, rotation: 15.0, brightness: [0.8, 1.2], contrast: [0.8, 1.3] }
    }
}

impl Augment {
    /// No change at all.
    pub fn none() -> Self {
        Augment { flip: 0.0, rotation: 0.0, brightness: [1.0; 2], contrast: [1.0; 2] }
    }

    /// The variation of one image: a function of seed, epoch and the record's index, and of nothing else.
    pub fn draw(&self, seed: u64, epoch: u32, index: u32) -> Variation {
        let mut rng = Rng::new(seed, Purpose::Augment, epoch, index);
        Variation {
            flip: rng.uniform() < self.flip,
            degrees: rng.range(-self.rotation, self.rotation),
            brightness: rng.range(self.brightness[0], self.brightness[1]),
            contrast: rng.range(self.contrast[0], self.contrast[1]),
        }
    }
}

/// What is done to one image, in this order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Variation {
    /// Mirror left and right.
    pub flip: bool,
    /// Rotation about the centre, counter-clockwise: bilinear, black where nothing was.
    pub degrees: f32,
    /// Factor on every value.
    pub brightness: f32,
    /// Factor on the distance to the image's mean.
    pub contrast: f32,
}

impl Variation {
    /// Applies it to a square image with values in `[0, 1]`, clamping to that range after brightness and after contrast,
    /// as torchvision does.
    #[track_caller]
    pub fn apply(&self, image: &[f32], size: usize) -> Vec<f32> {
        assert_eq!(image.len(), size * size, "Variation::apply: the image is not {size} x {size}");
        let mut out = image.to_vec();
        if self.flip {
            out.chunks_exact_mut(size).for_each(<[f32]>::reverse);
        }
        if self.degrees != 0.0 {
            out = rotate(&out, size, self.degrees);
        }
        if self.brightness != 1.0 {
            out.iter_mut().for_each(|v| *v = (*v * self.brightness).clamp(0.0, 1.0));
        }
        if self.contrast != 1.0 {
            let mean = (out.iter().map(|&v| f64::from(v)).sum::<f64>() / out.len() as f64) as f32;
            out.iter_mut().for_each(|v| *v = (mean + self.contrast * (*v - mean)).clamp(0.0, 1.0));
        }
        out
    }
}

/// Rotates counter-clockwise about the centre. Each output pixel is the bilinear mean of the four input pixels around
/// where it came from; those outside the image count as zero.
fn rotate(image: &[f32], size: usize, degrees: f32) -> Vec<f32> {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let centre = (size as f32 - 1.0) / 2.0;
    let side = size as i32;
    let at = |x: i32, y: i32| {
        let inside = (0..side).contains(&x) && (0..side).contains(&y);
        if inside { image[(y * side + x) as usize] } else { 0.0 }
    };
    let mut out = Vec::with_capacity(image.len());
    for y in 0..size {
        let dy = y as f32 - centre;
        for x in 0..size {
            let dx = x as f32 - centre;
            let (from_x, from_y) = (centre + cos * dx - sin * dy, centre + sin * dx + cos * dy);
            let (x0, y0) = (from_x.floor(), from_y.floor());
            let (fx, fy) = (from_x - x0, from_y - y0);
            let (x0, y0) = (x0 as i32, y0 as i32);
            let top = at(x0, y0) * (1.0 - fx) + at(x0 + 1, y0) * fx;
            let bottom = at(x0, y0 + 1) * (1.0 - fx) + at(x0 + 1, y0 + 1) * fx;
            out.push(top * (1.0 - fy) + bottom * fy);
        }
    }
    out
}
