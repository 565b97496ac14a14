//! Checkpoints: weights, optimiser and run state in one safetensors file, replaced by one rename.
//!
//! The state in the file's metadata is what counts; the JSON written beside it is for people.

use super::{
    Precision,
    optimiser::Optimiser,
    state::{FORMAT, RunState},
};
use crate::{
    Error, Result,
    device::Device,
    files::write_atomic,
    models::Model,
    ops::optim::Progress,
    weights::{self, Archive, OPTIMISER, Stored, Tensors, Values},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Name of the loss scale, the steps since it changed and the steps skipped.
const SCALE: &str = "optimizer.scale";

/// Writes the weights of `model`, `state` and, to go on from, the state of `optimiser` to `path`.
///
/// # Errors
/// A failure of the device, or a file that cannot be written; what was there is then untouched.
pub fn save(path: &Path, model: &Model, optimiser: Option<&Optimiser>, state: &RunState) -> Result<()> {
    let mut tensors = weights::tensors(&model.params)?;
    if let Some(optimiser) = optimiser {
        tensors.extend(optimiser_tensors(model, optimiser)?);
    }
    let text = serde_json::to_string(state).expect("a run state is plain data");
    write_atomic(path, &weights::encode(&tensors, &text))?;
    let pretty = serde_json::to_string_pretty(state).expect("a run state is plain data");
    write_atomic(&path.with_extension("json"), pretty.as_bytes())
}

fn optimiser_tensors(model: &Model, optimiser: &Optimiser) -> Result<Tensors> {
    let params = &model.params;
    let mut tensors = Tensors::new();
    for (name, id, block) in optimiser.remembered() {
        let entry = params.entry(id);
        let stored = Stored { shape: entry.file_shape.clone(), values: Values::F32(params.read(id, block)?) };
        tensors.insert(format!("{OPTIMISER}{name}.{}", entry.name), stored);
    }
    let Progress { scale, clean, skipped, .. } = optimiser.scalars().progress(&**params.device())?;
    let values = Values::F32([scale, clean, skipped].map(|x| x as f32).to_vec());
    tensors.insert(SCALE.into(), Stored { shape: vec![3], values });
    Ok(tensors)
}

/// A checkpoint, read.
pub struct Checkpoint {
    archive: Archive,
    /// The state of its run.
    pub state: RunState,
}

impl Checkpoint {
    /// Reads a checkpoint: a file, or the best one of a run folder.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or is no checkpoint of this program.
    pub fn open(path: &Path) -> Result<Checkpoint> {
        let archive = Archive::read(path)?;
        let shown = archive.path.display();
        let Some(text) = &archive.state else {
            return Err(Error::unusable(
                format!("{shown} holds weights, but not what they were trained for"),
                "use them as a start: roentgen finetune --weights FILE",
            ));
        };
        let other = |e: String| {
            Error::unusable(
                format!("{shown} was written by another version of roentgen ({e})"),
                "use that version, or start from its weights: roentgen finetune --weights FILE",
            )
        };
        let state: RunState = serde_json::from_str(text).map_err(|e| other(e.to_string()))?;
        if state.format != FORMAT {
            return Err(other(format!("format {}, not {FORMAT}", state.format)));
        }
        Ok(Checkpoint { archive, state })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.archive.path
    }

    /// Its tensors.
    pub fn tensors(&self) -> &Tensors {
        &self.archive.tensors
    }

    /// The network with the checkpoint's weights, in the precision of its run if the device has it, else in its best.
    ///
    /// # Errors
    /// Tensors that are not those of the network, naming the first; a failure of the device.
    pub fn model(&self, device: &Arc<dyn Device>) -> Result<Model> {
        let RunState { config, .. } = &self.state;
        let asked = config.precision.filter(|p| device.precisions().contains(&p.dtype()));
        let dtype = Precision::resolve(asked, &**device)?.dtype();
        let model = self.state.network(device, dtype)?;
        self.restore(&model)?;
        Ok(model)
    }

    /// Sets the weights of `model` to the checkpoint's.
    ///
    /// # Errors
    /// As [`Checkpoint::model`].
    pub fn restore(&self, model: &Model) -> Result<()> {
        weights::load(&model.params, &self.archive, OPTIMISER)
    }

    /// Sets the state of `optimiser`, made for `model` and the same recipe, to the checkpoint's.
    ///
    /// # Errors
    /// A state that is missing or has another shape; a failure of the device.
    pub fn restore_optimiser(&self, model: &Model, optimiser: &Optimiser) -> Result<()> {
        for (name, id, block) in optimiser.remembered() {
            let entry = model.params.entry(id);
            let values = self.state_of(&format!("{OPTIMISER}{name}.{}", entry.name), &entry.file_shape)?;
            model.params.write(id, values, block)?;
        }
        let values: Vec<f64> = self.state_of(SCALE, &[3])?.iter().copied().map(f64::from).collect();
        let (scale, clean, skipped) = (values[0], values[1], values[2]);
        let mut progress = Progress::new(self.state.step, scale);
        progress.step -= skipped;
        (progress.clean, progress.skipped) = (clean, skipped);
        optimiser.scalars().set_progress(&**model.params.device(), progress)
    }

    /// The floats of the optimiser's tensor `name`, which must have this shape.
    fn state_of(&self, name: &str, shape: &[usize]) -> Result<&[f32]> {
        match self.archive.tensors.get(name) {
            Some(Stored { shape: found, values: Values::F32(values) }) if found == shape => Ok(values),
            _ => Err(Error::unusable(
                format!("{} cannot be gone on from: {name} is missing or misshapen", self.path().display()),
                "the last.safetensors of the run",
            )),
        }
    }
}

/// The checkpoint file that `path` means: itself, or the best one in it.
pub fn file_of(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(weights::BEST) } else { path.into() }
}
