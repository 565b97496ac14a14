//! What a study will cost, before it is begun.

use super::{Study, check::Images};
use crate::{
    Result,
    device::{DType, Device},
    files::write_atomic,
    models::Model,
    train::{Config, Verified, pace},
};
use std::{
    collections::{HashMap, hash_map::Entry},
    fs,
    hash::Hash,
    path::Path,
    sync::Arc,
    time::Instant,
};

/// What a study will cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cost {
    /// Pretrainings.
    pub pretrainings: u64,
    /// Runs.
    pub runs: u64,
    /// Hours on this device, one run at a time, if none stops early: networks built, trained, validated, tested and written.
    /// Reading images and making reports are not in it.
    pub hours: f64,
    /// Images of all steps, each as often as it comes.
    pub trained: f64,
    /// Images that are looked at without training, likewise.
    pub evaluated: f64,
    /// Bytes of all that is kept.
    pub bytes: f64,
}

/// Images a second that a network is taken to evaluate, as a multiple of those that it trains: a step backward takes about twice
/// one forward.
const FORWARD: f64 = 3.0;

/// Bytes of what a run keeps beside its weights: report, predictions, manifest.
const BESIDE_WEIGHTS: f64 = 1e6;

/// What an epoch writes, each file in multiples of the weights: the best, their state and the log.
const OF_AN_EPOCH: [usize; 3] = [1, 0, 0];

/// What is written to go on from, in the same way: the weights with what AdamW remembers of each, and the state.
const TO_GO_ON: [usize; 2] = [3, 0];

/// Share of its time that a run saves to go on from, at most: it waits for so long until it does so again.
const SAVING: f64 = 1.0 / 20.0;

impl Study {
    /// What all runs will cost: by a few timed steps of each backbone and image size, and by writing its checkpoints once.
    ///
    /// # Errors
    /// As [`Study::check`]; a failure of the device; a place for the results that cannot be written.
    pub fn cost(&self, device: &Arc<dyn Device>) -> Result<Cost> {
        let mut cost = Cost { runs: self.runs(), ..Cost::default() };
        let (mut networks, mut data) = (HashMap::new(), HashMap::new());
        // Trains `times` networks and tests `tested` of them.
        let mut add = |config: &Config, times: u64, tested: u64| -> Result<()> {
            let config = &config.clone().resolved()?;
            let Config { model, split, sampling, train_fraction, size, batch, .. } = config;
            let key = format!("{} {split:?} {sampling:?} {train_fraction}", Verified::key(config));
            let images = remembered(&mut data, key, || Images::of(config))?;
            let ([_, validation, test], outputs) = (images.splits, images.outputs);
            let Work { trained, looks } = Work::of(config, images);
            let (times, tested) = (times as f64, tested as f64);
            let (pace, [of_an_epoch, to_go_on], bytes) =
                *remembered(&mut networks, (model.clone(), *size, *batch), || {
                    let parameters = Model::new(model, outputs, device, DType::F32, 0)?.params.parameter_count();
                    let bytes = size_of::<f32>() * parameters;
                    let writing =
                        [writing(&self.folder, bytes, &OF_AN_EPOCH)?, writing(&self.folder, bytes, &TO_GO_ON)?];
                    Ok((pace(config, outputs, device)?, writing, bytes as f64))
                })?;
            let evaluated = times * looks * validation as f64 + tested * (test + validation) as f64;
            let computing = (times * trained + evaluated / FORWARD) / pace.images;
            let saving = (times * looks * to_go_on).min(computing * SAVING);
            // The first look and the end save however short the run is.
            let always = times * (f64::from(config.epochs) * of_an_epoch + 2.0 * to_go_on);
            cost.hours += (times * pace.begin + computing + saving + always) / 3600.0;
            cost.trained += times * trained;
            cost.evaluated += evaluated;
            cost.bytes += times * (bytes + BESIDE_WEIGHTS);
            Ok(())
        };
        for cell in self.cells() {
            let run = self.run(cell, self.learning_rates[0], self.seeds[0]);
            add(&self.located(&run), self.runs() / self.size(), self.seeds.len() as u64)?;
        }
        let pretrainings = self.all_pretrainings();
        for pretraining in &pretrainings {
            add(&self.located_recipe(&pretraining.config), 1, 1)?;
        }
        cost.pretrainings = pretrainings.len() as u64;
        Ok(cost)
    }
}

/// What training by a recipe does.
struct Work {
    /// Images of its steps.
    trained: f64,
    /// Looks at the validation split.
    looks: f64,
}

impl Work {
    /// That of the resolved `config` on `images`, dealt to epochs and looks as [`crate::train::Session`] does.
    fn of(config: &Config, images: &Images) -> Work {
        let batch = config.batch.min(images.splits[0]).max(1);
        let steps = config.epoch_steps().unwrap_or(images.epoch / batch);
        let every = (config.validate_every * steps as f64).round().max(1.0);
        let epochs = f64::from(config.epochs);
        let all = config.steps.map_or(epochs * steps as f64, |steps| steps as f64);
        Work { trained: all * batch as f64, looks: epochs * (steps as f64 / every).ceil() }
    }
}

/// Seconds that it takes to write `files`, in multiples of `bytes`, where `folder` is or will be.
fn writing(folder: &Path, bytes: usize, files: &[usize]) -> Result<f64> {
    let place = folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    let file = place.join(format!(".{}.roentgen", std::process::id()));
    let contents: Vec<Vec<u8>> = files.iter().map(|times| vec![0; times * bytes]).collect();
    let start = Instant::now();
    let written = contents.iter().try_for_each(|content| write_atomic(&file, content));
    let seconds = start.elapsed().as_secs_f64();
    // Nothing is there if it could not be written.
    let _ = fs::remove_file(&file);
    written.map(|()| seconds)
}

/// The value of `key`, made at the first call.
fn remembered<K: Eq + Hash, V>(known: &mut HashMap<K, V>, key: K, make: impl FnOnce() -> Result<V>) -> Result<&V> {
    Ok(match known.entry(key) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(make()?),
    })
}
