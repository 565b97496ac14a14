//! Random changes to a training image that keep its label: flip, rotation, brightness, contrast.

use crate::{
    Error, Result,
    rng::{Purpose, Rng},
};
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

    /// An error that names the first setting that makes no sense.
    pub fn check(&self) -> Result<()> {
        let refuse = |setting: String, remedy| Err(Error::unusable(format!("augmentation: {setting}"), remedy));
        let ordered = |[low, high]: [f32; 2]| 0.0 <= low && low <= high && high.is_finite();
        if !(0.0..=1.0).contains(&self.flip) {
            refuse(format!("flip = {} is no probability", self.flip), "a number from 0 to 1")
        } else if !(0.0..=180.0).contains(&self.rotation) {
            refuse(format!("rotation = {} is no angle in degrees", self.rotation), "a number from 0 to 180")
        } else if !ordered(self.brightness) {
            refuse(format!("brightness = {:?} is no range of factors", self.brightness), "two numbers, say [0.8, 1.2]")
        } else if !ordered(self.contrast) {
            refuse(format!("contrast = {:?} is no range of factors", self.contrast), "two numbers, say [0.8, 1.3]")
        } else {
            Ok(())
        }
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

impl Variation {
    /// Moves a mask `[size, size, k]` of 0 and 1 as [`Variation::apply`] moves its image: each pixel is that of the nearest
    /// centre.
    #[track_caller]
    pub fn apply_mask(&self, mask: &[u8], size: usize, k: usize) -> Vec<u8> {
        assert_eq!(mask.len(), size * size * k, "Variation::apply_mask: the mask is not {size} x {size} x {k}");
        let mut out = mask.to_vec();
        if self.flip {
            for row in out.chunks_exact_mut(size * k) {
                row.reverse();
                row.chunks_exact_mut(k).for_each(<[u8]>::reverse);
            }
        }
        if self.degrees == 0.0 {
            return out;
        }
        let flipped = out.clone();
        let (sin, cos) = f64::from(self.degrees).to_radians().sin_cos();
        let half = (size as f64 - 1.0) / 2.0;
        for (i, pixel) in out.chunks_exact_mut(k).enumerate() {
            let (dy, dx) = ((i / size) as f64 - half, (i % size) as f64 - half);
            let (x, y) = ((half + cos * dx - sin * dy).round(), (half + sin * dx + cos * dy).round());
            let inside = |v: f64| (0.0..size as f64).contains(&v);
            match inside(x) && inside(y) {
                true => pixel.copy_from_slice(&flipped[(y as usize * size + x as usize) * k..][..k]),
                false => pixel.fill(0),
            }
        }
        out
    }
}

/// Rotates counter-clockwise about the centre. Each output pixel is the bilinear mean of the four input pixels around
/// where it came from; those outside the image count as zero.
fn rotate(image: &[f32], size: usize, degrees: f32) -> Vec<f32> {
    // A black frame, one pixel wide on top and left and two on the others, stands for all that is outside.
    let stride = size + 3;
    let mut framed = vec![0.0; stride * stride];
    for (y, row) in image.chunks_exact(size).enumerate() {
        framed[(y + 1) * stride + 1..][..size].copy_from_slice(row);
    }
    // Coordinates in the framed image, as integers with 32 binary places: exact steps, and no float-to-integer conversion.
    let one = (1u64 << 32) as f64;
    let fixed = |v: f64| (v * one).round() as i64;
    let (sin, cos) = f64::from(degrees).to_radians().sin_cos();
    let half = (size as f64 - 1.0) / 2.0;
    let last = fixed(size as f64 + 1.0);
    let in_frame = |from: i64| from.clamp(0, last);
    let (step_x, step_y) = (fixed(cos), fixed(sin));
    let fraction = |from: i64| (from as u32 >> 8) as i32 as f32 * (1.0 / (1 << 24) as f32);
    let mut out = vec![0.0; image.len()];
    for (y, row) in out.chunks_exact_mut(size).enumerate() {
        let dy = y as f64 - half;
        let mut from_x = fixed(half + 1.0 - cos * half - sin * dy);
        let mut from_y = fixed(half + 1.0 - sin * half + cos * dy);
        for value in row {
            let (x, y) = (in_frame(from_x), in_frame(from_y));
            let start = (y >> 32) as usize * stride + (x >> 32) as usize;
            let (top, bottom) = (&framed[start..start + 2], &framed[start + stride..start + stride + 2]);
            let mix = |pair: &[f32]| pair[0] + (pair[1] - pair[0]) * fraction(x);
            *value = mix(top) + (mix(bottom) - mix(top)) * fraction(y);
            from_x += step_x;
            from_y += step_y;
        }
    }
    out
}
