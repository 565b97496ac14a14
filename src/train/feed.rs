//! Batches on a device: uploaded as they are stored, varied and normalised there.

use super::objective::Objective;
use crate::{
    Result,
    data::{Batch, Normalise},
    device::{Block, DType},
    models::Model,
    nn::Pass,
    ops::{
        augment::{Change, Edge, Input, augment, augment_masks},
        elementwise::widen,
    },
    tensor::Tensor,
};
use std::sync::Arc;

/// What a pass reads that changes from batch to batch, in memory of its own, so that a recorded step finds it again.
pub struct Inputs {
    layout: Layout,
    channels: usize,
    normalise: Normalise,
    pixels: Arc<Block>,
    changes: Arc<Block>,
    masks: Option<Arc<Block>>,
    /// What the objective compares outputs with, where that is numbers.
    numbers: Option<Arc<Block>>,
    /// The numbers beside the images, if the network takes any.
    given: Option<Arc<Block>>,
    /// The step, as kernels read it.
    pub step: Arc<Block>,
}

/// What batches must share to be read from the same memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    images: usize,
    size: usize,
    bytes: usize,
}

impl Layout {
    fn of(batch: &Batch) -> Layout {
        Layout { images: batch.len(), size: batch.size, bytes: batch.bytes }
    }
}

/// A batch as a network and its objective get it.
pub struct Fed {
    /// `[n, size, size, channels]`, varied and normalised.
    pub images: Tensor,
    /// What outputs are compared with, where something is; of their shape.
    pub targets: Option<Tensor>,
    /// The numbers beside the images, if the network takes any.
    pub given: Option<Tensor>,
}

impl Inputs {
    /// Room for a `batch` that `model` is given, and for what `objective`, if there is one, compares its outputs with.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn new(model: &Model, objective: Option<&Objective>, batch: &Batch) -> Result<Inputs> {
        let (device, wide) = (model.params.device(), model.params.dtype().wide());
        let layout @ Layout { images, size, bytes } = Layout::of(batch);
        let alloc = |bytes: usize, what| (bytes > 0).then(|| device.alloc(bytes, what)).transpose();
        let numbers = objective.map_or(0, |objective| objective.numbers(batch).len());
        Ok(Inputs {
            layout,
            channels: model.channels,
            normalise: batch.normalise,
            pixels: device.alloc(images * size * size * bytes, "images")?,
            changes: device.alloc(images * size_of::<Change>(), "changes")?,
            masks: alloc(if objective.is_some() { batch.masks.len() } else { 0 }, "masks")?,
            numbers: alloc(numbers * wide.size(), "targets")?,
            given: alloc(batch.inputs.len() * wide.size(), "numbers beside images")?,
            step: device.alloc(size_of::<u32>(), "step")?,
        })
    }

    /// Whether `batch` can be put in the same memory.
    pub fn fit(&self, batch: &Batch) -> bool {
        self.layout == Layout::of(batch) && self.normalise == batch.normalise
    }

    /// Puts `batch` and the number of its step there.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn set(&self, model: &Model, objective: Option<&Objective>, batch: &Batch, step: u64) -> Result<()> {
        let (device, wide) = (model.params.device(), model.params.dtype().wide());
        if !device.holds_values() {
            return Ok(());
        }
        device.upload(bytemuck::bytes_of(&(step as u32)), &self.step)?;
        device.upload(&batch.pixels, &self.pixels)?;
        device.upload(bytemuck::cast_slice(&batch.changes), &self.changes)?;
        if let Some(masks) = &self.masks {
            device.upload(&batch.masks, masks)?;
        }
        if let (Some(numbers), Some(objective)) = (&self.numbers, objective) {
            device.upload(&wide.encode_single(&objective.numbers(batch)), numbers)?;
        }
        match &self.given {
            Some(given) => device.upload(&wide.encode_single(&batch.inputs), given),
            None => Ok(()),
        }
    }

    /// Launches what turns it into tensors for `model`, trained for `objective`.
    pub fn feed(&self, model: &Model, pass: &Pass, objective: Option<&Objective>) -> Fed {
        let (tape, dtype) = (pass.tape(), model.params.dtype());
        let Layout { images: n, size, bytes } = self.layout;
        let pixels = tape.wrap(&[n, size, size, bytes], DType::U8, &self.pixels);
        let changes = tape.wrap(&[n, Change::LEN], DType::U32, &self.changes);
        let [mean, std] = [self.normalise.mean, self.normalise.std].map(|of| of[..self.channels].to_vec());
        let input = Input { bytes, size: (size, size), edge: Edge::Zero, mean, std, dtype };
        let images = augment(&pixels, &changes, &input);
        let wide = dtype.wide();
        let targets = match (&self.masks, &self.numbers) {
            (Some(masks), _) => {
                let shape = [n, size, size, masks.bytes() / (n * size * size)];
                Some(augment_masks(&tape.wrap(&shape, DType::U8, masks), &changes, wide))
            }
            (_, Some(numbers)) => Some(tape.wrap(&[n, numbers.bytes() / (n * wide.size())], wide, numbers)),
            _ => objective.is_some_and(Objective::reconstructs).then(|| widen(&images)),
        };
        let given = self.given.as_ref().map(|given| tape.wrap(&[n, model.inputs], wide, given));
        Fed { images, targets, given }
    }
}
