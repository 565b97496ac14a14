//! Random changes to a training image that keep its label, or mix it with another's: what is drawn for each coming of an image.
//! [`crate::ops::augment`] says what the changes do.

use super::sampling::Turn;
use crate::{
    Error, Result,
    ops::augment::{Change, Rectangle},
    rng::{Purpose, Rng},
};
use serde::{Deserialize, Serialize};

/// How strongly training images are varied. The defaults are those of RadiologyNET, drawn per image; what it does not have is off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Probability of a horizontal flip.
    pub flip: f32,
    /// Probability of a vertical flip.
    pub flip_vertical: f32,
    /// Largest rotation to either side, in degrees.
    pub rotation: f32,
    /// Largest shift in either direction, as a share of the side.
    pub translation: f32,
    /// Range of the factor of sizes.
    pub scale: [f32; 2],
    /// Largest angle of horizontal shear to either side, in degrees.
    pub shear: f32,
    /// Range of the brightness factor.
    pub brightness: [f32; 2],
    /// Range of the contrast factor about the image's mean.
    pub contrast: [f32; 2],
    /// Range of the exponent of intensities.
    pub gamma: [f32; 2],
    /// Largest standard deviation of Gaussian noise, of intensities in [0, 1].
    pub noise: f32,
    /// Largest side of a square that is cut out, as a share of the image's.
    pub cutout: f32,
    /// Parameter α of the Beta distribution of shares in mixup; 0 for none. Of both mixup and CutMix each image gets one.
    pub mixup: f32,
    /// The same of CutMix.
    pub cutmix: f32,
}

impl Default for Augment {
    fn default() -> Self {
        Augment { flip: 0.5, rotation: 15.0, brightness: [0.8, 1.2], contrast: [0.8, 1.3], ..Augment::none() }
    }
}

/// Largest α: beyond it mixtures are all but even, and drawing them takes long.
const MOST_ALPHA: f32 = 4.0;
/// Shares of a smaller one are 0 and 1 in single precision, and drawing them would never end.
const LEAST_ALPHA: f32 = 0.02;

impl Augment {
    /// No change at all.
    pub fn none() -> Self {
        Augment {
            flip: 0.0,
            flip_vertical: 0.0,
            rotation: 0.0,
            translation: 0.0,
            scale: [1.0; 2],
            shear: 0.0,
            brightness: [1.0; 2],
            contrast: [1.0; 2],
            gamma: [1.0; 2],
            noise: 0.0,
            cutout: 0.0,
            mixup: 0.0,
            cutmix: 0.0,
        }
    }

    /// Whether images are mixed.
    pub fn mixes(&self) -> bool {
        self.mixup > 0.0 || self.cutmix > 0.0
    }

    /// An error that names the first setting that makes no sense.
    pub fn check(&self) -> Result<()> {
        let up_to = [
            ("flip", self.flip, 1.0, "a probability"),
            ("flip_vertical", self.flip_vertical, 1.0, "a probability"),
            ("rotation", self.rotation, 180.0, "degrees"),
            ("translation", self.translation, 1.0, "a share of the side"),
            ("shear", self.shear, 60.0, "degrees"),
            ("noise", self.noise, 1.0, "a standard deviation"),
            ("cutout", self.cutout, 1.0, "a share of the side"),
            ("mixup", self.mixup, MOST_ALPHA, "a parameter of the Beta distribution"),
            ("cutmix", self.cutmix, MOST_ALPHA, "a parameter of the Beta distribution"),
        ];
        if let Some((key, value, most, what)) =
            up_to.into_iter().find(|&(_, value, most, _)| !(0.0..=most).contains(&value))
        {
            return Err(Error::unusable(
                format!("augment.{key} cannot be {value}"),
                format!("{what} from 0 to {most}"),
            ));
        }
        let tiny = |alpha: f32| alpha > 0.0 && alpha < LEAST_ALPHA;
        if tiny(self.mixup) || tiny(self.cutmix) {
            return Err(Error::unusable(
                format!("augment.mixup and augment.cutmix cannot be between 0 and {LEAST_ALPHA}"),
                format!("0 for none, or at least {LEAST_ALPHA}"),
            ));
        }
        let ranges = [
            ("scale", self.scale, 0.1),
            ("brightness", self.brightness, 0.0),
            ("contrast", self.contrast, 0.0),
            ("gamma", self.gamma, 0.1),
        ];
        let rises = |[low, high]: [f32; 2], least| least <= low && low <= high && high <= 10.0;
        match ranges.into_iter().find(|&(_, range, least)| !rises(range, least)) {
            Some((key, range, least)) => Err(Error::unusable(
                format!("augment.{key} cannot be {range:?}"),
                format!("two rising factors from {least} to 10, say [0.8, 1.2]"),
            )),
            None => Ok(()),
        }
    }

    /// The change of an image whose side is `size` and whose mean intensity is `mean`, at one of its turns: a function of these
    /// and the seed, and of nothing else. Its partner, if it is mixed, is still to be named.
    pub fn draw(&self, seed: u64, turn: Turn, size: usize, mean: f32) -> Change {
        if *self == Augment::none() {
            return Change::NONE;
        }
        let mut rng = Rng::new(seed, Purpose::Augment, turn.pass, turn.record);
        let mut geometry = Geometry::NONE;
        geometry.flip[0] = rng.uniform() < self.flip;
        geometry.degrees = rng.range(-self.rotation, self.rotation);
        let brightness = rng.range(self.brightness[0], self.brightness[1]);
        let contrast = rng.range(self.contrast[0], self.contrast[1]);
        geometry.flip[1] = rng.uniform() < self.flip_vertical;
        geometry.shift = [(); 2].map(|()| rng.range(-self.translation, self.translation) * size as f32);
        geometry.scale = rng.range(self.scale[0], self.scale[1]);
        geometry.shear = rng.range(-self.shear, self.shear);
        let mut change = Change {
            affine: geometry.affine(),
            brightness,
            contrast,
            pivot: mean * brightness,
            gamma: rng.range(self.gamma[0], self.gamma[1]),
            noise: rng.range(0.0, self.noise),
            key: [rng.bits(), rng.bits()],
            ..Change::NONE
        };
        if self.cutout > 0.0 {
            let side = rng.range(0.0, self.cutout);
            change.cutout = square(&mut rng, side, size);
        }
        match (self.mixup > 0.0, self.cutmix > 0.0) {
            (false, false) => {}
            (true, cutmix) if !cutmix || rng.below(2) == 0 => change.share = beta(&mut rng, self.mixup),
            _ => {
                let side = (1.0 - beta(&mut rng, self.cutmix)).sqrt();
                change.patch = square(&mut rng, side, size);
            }
        }
        change
    }
}

/// A square whose side is a share of the image's, anywhere in it, cut off at its edges (DeVries and Taylor 2017).
fn square(rng: &mut Rng, side: f32, size: usize) -> Rectangle {
    let mut span = || {
        let middle = rng.uniform();
        [middle - side / 2.0, middle + side / 2.0].map(|end| (end.clamp(0.0, 1.0) * size as f32).round() as u32)
    };
    Rectangle { rows: span(), cols: span() }
}

/// A number from the distribution Beta(α, α) (Jöhnk 1964).
fn beta(rng: &mut Rng, alpha: f32) -> f32 {
    loop {
        let [x, y] = [(); 2].map(|()| rng.uniform().powf(1.0 / alpha));
        if x + y > 0.0 && x + y <= 1.0 {
            return x / (x + y);
        }
    }
}

/// Where an image is moved: flipped, then scaled, sheared, turned about its centre, and shifted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geometry {
    /// Whether left and right, and top and bottom, change places.
    pub flip: [bool; 2],
    /// Turn counter-clockwise.
    pub degrees: f32,
    /// Shift to the right and down, in pixels.
    pub shift: [f32; 2],
    /// Factor of sizes.
    pub scale: f32,
    /// Angle by which columns lean, with torchvision's sign.
    pub shear: f32,
}

impl Geometry {
    /// No move.
    pub const NONE: Geometry = Geometry { flip: [false; 2], degrees: 0.0, shift: [0.0; 2], scale: 1.0, shear: 0.0 };

    /// The map from output to input, as [`Change::affine`] has it: the steps backwards.
    pub fn affine(&self) -> [[f32; 3]; 2] {
        let (sin, cos) = f64::from(self.degrees).to_radians().sin_cos();
        let lean = f64::from(self.shear).to_radians().tan();
        let signs = self.flip.map(|flip| if flip { -1.0 } else { 1.0 } / f64::from(self.scale));
        let [right, down] = self.shift.map(f64::from);
        // Turned back, then [1, lean; 0, 1], then scaled and flipped back.
        let turned = [[cos, -sin], [sin, cos]];
        let leant = [[cos + lean * sin, lean * cos - sin], turned[1]];
        let row = |[a, b]: [f64; 2], sign: f64| [sign * a, sign * b, -sign * (a * right + b * down)].map(|x| x as f32);
        [row(leant[0], signs[0]), row(leant[1], signs[1])]
    }
}
