//! What a step of training, or an evaluation, is given.

use super::normalise::Normalise;
use crate::ops::augment::Change;

/// Images of one step and what is true of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Gray values `[n, size, size]` as they are stored.
    pub pixels: Vec<u8>,
    /// Bytes of such a value: 1, or 2 in the order of the machine.
    pub bytes: usize,
    /// How each image is varied.
    pub changes: Vec<Change>,
    /// Scaling of the varied values.
    pub normalise: Normalise,
    /// Class of each image; 0 where the truth is none.
    pub labels: Vec<u32>,
    /// Class of each image as a number, or its scaled numbers `[n, k]`; nothing of masks.
    pub targets: Vec<f32>,
    /// The masks `[n, size, size, k]` of 0 and 1 before they are varied as their images, where the truth is masks.
    pub masks: Vec<u8>,
    /// Scaled numbers beside the images, `[n, inputs]`.
    pub inputs: Vec<f32>,
    /// Position of each image in the loader's records.
    pub indices: Vec<u32>,
    /// Side of the images.
    pub size: usize,
}

impl Batch {
    /// Images of 8 bit with these classes, not varied.
    pub fn plain(size: usize, pixels: Vec<u8>, labels: Vec<u32>) -> Batch {
        let (changes, indices) = (vec![Change::NONE; labels.len()], (0..labels.len() as u32).collect());
        Batch { pixels, bytes: 1, changes, labels, indices, size, ..Batch::default() }
    }

    /// Rows of numbers, one an image, mixed as the images are.
    pub fn mixed(&self, rows: &[f32]) -> Vec<f32> {
        let (width, area) = (rows.len() / self.len().max(1), self.size * self.size);
        let row = |i: usize| &rows[i * width..][..width];
        let mix = |(i, change): (usize, &Change)| {
            let (share, others) = (change.target_share(area), row(change.partner as usize));
            row(i)
                .iter()
                .zip(others)
                .map(move |(own, other)| if share == 1.0 { *own } else { share * own + (1.0 - share) * other })
        };
        self.changes.iter().enumerate().flat_map(mix).collect()
    }

    /// The label with the largest share of image `i`.
    pub fn leading_label(&self, i: usize) -> u32 {
        let own = self.changes[i].target_share(self.size * self.size) >= 0.5;
        self.labels[if own { i } else { self.changes[i].partner as usize }]
    }

    /// Number of images `n`.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }
}
