//! Before anything runs: whether everything that a study names is there and fits, and what it will cost.

use super::{Arm, Cell, Start, Study};
use crate::{
    Error, Result,
    data::{Dataset, Split, split},
    device::{DType, Device, cpu::Cpu},
    models::{Ends, Model},
    train::{Config, Verified, speed},
    weights::{self, Archive},
};
use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    sync::Arc,
};

/// What a study will cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cost {
    /// Pretrainings.
    pub pretrainings: u64,
    /// Runs.
    pub runs: u64,
    /// Hours on this device, one run at a time, if none stops early.
    pub hours: f64,
    /// Bytes of all that is kept.
    pub bytes: f64,
}

/// Images a second that a network is taken to evaluate, as a multiple of those that it trains: a step backward takes about twice
/// one forward.
const FORWARD: f64 = 3.0;

/// Bytes of what a run keeps beside its weights: report, predictions, manifest.
const BESIDE_WEIGHTS: f64 = 1e6;

/// `e`, said of `part` of a study.
pub(super) fn of(part: String) -> impl Fn(Error) -> Error {
    move |e| match e {
        Error::Unusable { problem, remedy } => Error::Unusable { problem: format!("{part}: {problem}"), remedy },
        other => other,
    }
}

/// Images in each split, and the number of classes, labels, numbers or structures.
struct Images {
    splits: [usize; 3],
    names: usize,
}

impl Images {
    /// Those that `config` has, the training fraction taken.
    fn of(config: &Config) -> Result<Images> {
        let config = config.clone().resolved()?;
        let mut dataset = Verified::list(&config)?;
        split::assign(&mut dataset, &config.split, config.split_seed.unwrap_or(config.seed))?;
        split::keep_fraction(&mut dataset, config.train_fraction, config.seed)?;
        Ok(Images { splits: Split::ALL.map(|split| count(&dataset, split)), names: dataset.classes.len() })
    }
}

fn count(dataset: &Dataset, split: Split) -> usize {
    dataset.of(Some(split)).count()
}

impl Study {
    /// Refuses what cannot work, before anything runs: every recipe is checked, every dataset listed and split, every file of
    /// weights tried on its network. No image is read.
    ///
    /// # Errors
    /// The first that is wrong, named.
    pub fn check(&self) -> Result<()> {
        self.check_size()?;
        let backbones = 0..self.backbones.len();
        for (p, pretraining) in self.pretrainings.iter().enumerate() {
            let named = of(format!("the pretraining {}", pretraining.name));
            for backbone in backbones.clone() {
                self.pretraining(p, backbone).check().map_err(&named)?;
            }
            Images::of(&self.located_recipe(&self.pretraining(p, 0))).map_err(&named)?;
        }
        for (t, task) in self.tasks.iter().enumerate() {
            let named = of(format!("the task {}", task.name));
            for cell in self.cells().filter(|cell| cell.task == t) {
                for &lr in &self.learning_rates {
                    self.run(cell, lr, self.seeds[0]).config.check().map_err(&named)?;
                }
                // Arms and backbones have the same images.
                if (cell.arm, cell.backbone) == (0, 0) {
                    self.check_images(cell).map_err(&named)?;
                }
            }
        }
        for (a, arm) in self.arms.iter().enumerate() {
            for backbone in backbones.clone() {
                let cell = Cell { task: 0, backbone, fraction: 0, arm: a };
                self.check_weights(arm, cell).map_err(of(format!("the arm {}", arm.name)))?;
            }
        }
        Ok(())
    }

    fn check_images(&self, cell: Cell) -> Result<()> {
        let run = self.run(cell, self.learning_rates[0], self.seeds[0]);
        let [_, validation, test] = Images::of(&self.located(&run))?.splits;
        if test == 0 {
            return Err(Error::unusable(
                "there are no test images",
                "a test split in the data, or a share of them: split.test",
            ));
        }
        if validation == 0 && self.learning_rates.len() > 1 {
            return Err(Error::unusable(
                "there are no validation images to choose the learning rate by",
                "a share of them, split.validation, or a single learning rate",
            ));
        }
        Ok(())
    }

    /// Tries the weights of an arm on their network, whose head they need not have.
    fn check_weights(&self, arm: &Arm, cell: Cell) -> Result<()> {
        let Start::Files(files) = &arm.start else { return Ok(()) };
        let backbone = &self.backbones[cell.backbone].name;
        let archive = Archive::read(&self.place(&files[backbone]))?;
        let config = self.run(cell, self.learning_rates[0], self.seeds[0]).config;
        let device: Arc<dyn Device> = Cpu::new(usize::MAX);
        let ends = Ends { channels: config.channels, inputs: 0, classes: 1 };
        let model = Model::between(backbone, ends, &device, DType::F32, 0)?;
        weights::load_matching(&model.params, &archive, config.transfer()).map(drop)
    }

    /// What all runs will cost: by a few timed steps of each backbone and image size.
    ///
    /// # Errors
    /// As [`Study::check`]; a failure of the device.
    pub fn cost(&self, device: &Arc<dyn Device>) -> Result<Cost> {
        let mut cost = Cost { runs: self.runs(), ..Cost::default() };
        let (mut networks, mut data) = (HashMap::new(), HashMap::new());
        // Trains `times` networks and tests `tested` of them.
        let mut add = |config: &Config, times: u64, tested: u64| -> Result<()> {
            let key = format!("{} {:?} {}", Verified::key(config), config.split, config.train_fraction);
            let Images { splits: [train, validation, test], names } =
                *remembered(&mut data, key, || Images::of(config))?;
            let (times, tested) = (times as f64, tested as f64);
            let (speed, parameters) =
                *remembered(&mut networks, (config.model.clone(), config.size, config.batch), || {
                    let parameters = Model::new(&config.model, names, device, DType::F32, 0)?.params.parameter_count();
                    Ok((speed(config, names, device)?, parameters as f64))
                })?;
            let epochs = times * f64::from(config.epochs);
            let forward = epochs * validation as f64 + tested * (test + validation) as f64;
            cost.hours += (epochs * train as f64 + forward / FORWARD) / speed / 3600.0;
            cost.bytes += times * (size_of::<f32>() as f64 * parameters + BESIDE_WEIGHTS);
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

/// The value of `key`, made at the first call.
fn remembered<K: Eq + Hash, V>(known: &mut HashMap<K, V>, key: K, make: impl FnOnce() -> Result<V>) -> Result<&V> {
    Ok(match known.entry(key) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(make()?),
    })
}
