//! What a network says of an image together with its mirror images.

use super::step::{Seen, look};
use crate::{
    Error, Result,
    data::{Augment, Batch, Geometry},
    models::Model,
    ops::augment::Change,
};

/// The mirror images that a network is shown beside the image itself.
#[derive(Clone, Debug, Default)]
pub struct Mirrors(Vec<[bool; 2]>);

impl Mirrors {
    /// No mirror image.
    pub const NONE: Mirrors = Mirrors(vec![]);

    /// Those that a network has been trained on by `augment`: across, down, or both.
    ///
    /// # Errors
    /// A recipe that mirrored nothing.
    pub fn drawn_by(augment: &Augment) -> Result<Mirrors> {
        let (across, down) = (augment.flip > 0.0, augment.flip_vertical > 0.0);
        let drawn = |flip: &[bool; 2]| (across || !flip[0]) && (down || !flip[1]);
        let flips: Vec<_> = [[true, false], [false, true], [true, true]].into_iter().filter(drawn).collect();
        match flips.is_empty() {
            true => {
                Err(Error::unusable("the network was trained on no mirror images".to_string(), "leave --mirrors out"))
            }
            false => Ok(Mirrors(flips)),
        }
    }

    /// The outputs for the images of `batch`, `[n, outputs]` or `[n, size, size, outputs]`: the mean of those for the images,
    /// which are `seen`, and of those for their mirror images, mirrored back.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn mean(&self, model: &Model, batch: &Batch, seen: &Seen) -> Result<Vec<f64>> {
        let mut mean = seen.outputs.to_vec()?;
        let share = 1.0 / (1 + self.0.len()) as f64;
        mean.iter_mut().for_each(|x| *x *= share);
        for &flip in &self.0 {
            let change = Change { affine: Geometry { flip, ..Geometry::NONE }.affine(), ..Change::NONE };
            let mirrored = Batch { changes: vec![change; batch.len()], ..batch.clone() };
            let outputs = look(model, None, &mirrored)?.outputs;
            // An output for an image is one for each of its pixels, of which there is one.
            let (height, width) = match outputs.shape() {
                &[_, height, width, _] => (height, width),
                _ => (1, 1),
            };
            let pixel = outputs.shape()[outputs.shape().len() - 1];
            let values = outputs.to_vec()?;
            for (i, to) in mean.chunks_exact_mut(pixel).enumerate() {
                let (image, row, col) = (i / (height * width), i / width % height, i % width);
                let row = if flip[1] { height - 1 - row } else { row };
                let col = if flip[0] { width - 1 - col } else { col };
                let from = &values[((image * height + row) * width + col) * pixel..][..pixel];
                to.iter_mut().zip(from).for_each(|(to, from)| *to += share * from);
            }
        }
        Ok(mean)
    }
}
