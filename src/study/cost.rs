//! What a study will cost, before it is begun.

use super::{Study, check::Images};
use crate::{
    Result,
    device::{DType, Device},
    files::write_atomic,
    models::Model,
    train::{Config, Pace, Verified, pace},
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
    /// Bytes of all that is kept.
    pub bytes: f64,
}

/// Images a second that a network is taken to evaluate, as a multiple of those that it trains: a step backward takes about twice
/// one forward.
const FORWARD: f64 = 3.0;

/// Bytes of what a run keeps beside its weights: report, predictions, manifest.
const BESIDE_WEIGHTS: f64 = 1e6;

/// What an epoch writes, each file in multiples of the weights: the last checkpoint with what AdamW remembers, the best, the state of
/// either and the log.
const WRITES: [usize; 5] = [3, 1, 0, 0, 0];

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
            let key = format!("{} {:?} {}", Verified::key(config), config.split, config.train_fraction);
            let Images { splits: [train, validation, test], names } =
                *remembered(&mut data, key, || Images::of(config))?;
            let (times, tested) = (times as f64, tested as f64);
            let (Pace { images, begin }, writing, bytes) =
                *remembered(&mut networks, (config.model.clone(), config.size, config.batch), || {
                    let parameters = Model::new(&config.model, names, device, DType::F32, 0)?.params.parameter_count();
                    let bytes = size_of::<f32>() * parameters;
                    Ok((pace(config, names, device)?, writing(&self.folder, bytes)?, bytes as f64))
                })?;
            let epochs = times * f64::from(config.epochs);
            let forward = epochs * validation as f64 + tested * (test + validation) as f64;
            // What a run writes at its beginning and end counts as one epoch more.
            let seconds =
                (epochs * train as f64 + forward / FORWARD) / images + times * begin + (epochs + times) * writing;
            cost.hours += seconds / 3600.0;
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

/// Seconds that it takes to write what an epoch writes of a network of so many bytes, where `folder` is or will be.
fn writing(folder: &Path, bytes: usize) -> Result<f64> {
    let place = folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    let file = place.join(format!(".{}.roentgen", std::process::id()));
    let contents = WRITES.map(|times| vec![0; times * bytes]);
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
