//! Before anything runs: whether everything that a study names is there and fits.

use super::{Arm, Cell, Start, Study};
use crate::{
    Error, Result,
    data::{Dataset, Split, split},
    device::{DType, Device, cpu::Cpu},
    models::{Ends, Model},
    train::{Config, Verified},
    weights::{self, Archive},
};
use std::{collections::HashMap, sync::Arc};

/// `e`, said of `part` of a study.
pub(super) fn of(part: String) -> impl Fn(Error) -> Error {
    move |e| match e {
        Error::Unusable { problem, remedy } => Error::Unusable { problem: format!("{part}: {problem}"), remedy },
        other => other,
    }
}

/// Images in each split, and the number of classes, labels, numbers or structures.
pub(super) struct Images {
    pub(super) splits: [usize; 3],
    pub(super) names: usize,
}

impl Images {
    /// Those that `config` has, the training fraction taken.
    pub(super) fn of(config: &Config) -> Result<Images> {
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
        self.check_distinct()?;
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

    /// Refuses names that come to the same: their runs would be one, and compared with themselves.
    fn check_distinct(&self) -> Result<()> {
        let mut known: HashMap<String, Cell> = HashMap::new();
        // Fractions differ, and nothing else depends on them.
        for cell in self.cells().filter(|cell| cell.fraction == 0) {
            let run = self.run(cell, self.learning_rates[0], self.seeds[0]);
            let Some(other) = known.insert(run.hash, cell) else { continue };
            let (what, one, two) = match other.task == cell.task {
                true => ("arms", &self.arms[other.arm].name, &self.arms[cell.arm].name),
                false => ("tasks", &self.tasks[other.task].name, &self.tasks[cell.task].name),
            };
            return Err(Error::unusable(
                format!("the {what} {one} and {two} come to the same recipe, so they would share their runs"),
                "leave one of them out, or give it what it is to differ in",
            ));
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
}
