//! Before anything runs: whether everything that a study names is there and fits.

use super::{Cell, Start, Study};
use crate::{
    Error, Result,
    data::{Record, Split, sampling::Sequence, split},
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

/// The images of a recipe.
pub(super) struct Images {
    /// How many are in each split.
    pub(super) splits: [usize; 3],
    /// Training images that an epoch shows, where it is not the steps that are given.
    pub(super) epoch: usize,
    /// Outputs of a network for them.
    pub(super) outputs: usize,
}

impl Images {
    /// Those that `config` has, the training fraction taken.
    pub(super) fn of(config: &Config) -> Result<Images> {
        let config = config.clone().resolved()?;
        let mut dataset = Verified::list(&config)?;
        split::assign(&mut dataset, &config.split, config.splits_seed())?;
        split::keep_fraction(&mut dataset, config.train_fraction, config.seed)?;
        let labels = dataset.of(Some(Split::Train)).map(Record::label);
        Ok(Images {
            epoch: Sequence::new(labels, config.sampling, config.seed).whole(),
            splits: Split::ALL.map(|split| dataset.of(Some(split)).count()),
            outputs: config.outputs(&dataset.classes),
        })
    }
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
        let mut outputs = vec![];
        for (t, task) in self.tasks.iter().enumerate() {
            let named = of(format!("the task {}", task.name));
            for cell in self.cells().filter(|cell| cell.task == t) {
                for &lr in &self.learning_rates {
                    self.run(cell, lr, self.seeds[0]).config.check().map_err(&named)?;
                }
                // Arms and backbones have the same images.
                if (cell.arm, cell.backbone) == (0, 0) {
                    let images = self.check_images(cell).map_err(&named)?;
                    // All fractions have the same.
                    outputs.resize(t + 1, images.outputs);
                }
            }
        }
        for (a, arm) in self.arms.iter().enumerate() {
            let Start::Files(files) = &arm.start else { continue };
            let named = of(format!("the arm {}", arm.name));
            for backbone in backbones.clone() {
                let archive = Archive::read(&self.place(&files[&self.backbones[backbone].name])).map_err(&named)?;
                for (task, &outputs) in outputs.iter().enumerate() {
                    let cell = Cell { task, backbone, fraction: 0, arm: a };
                    self.check_weights(&archive, cell, outputs).map_err(&named)?;
                }
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

    fn check_images(&self, cell: Cell) -> Result<Images> {
        let run = self.run(cell, self.learning_rates[0], self.seeds[0]);
        let images = Images::of(&self.located(&run))?;
        let [_, validation, test] = images.splits;
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
        Ok(images)
    }

    /// Tries the weights of an arm on the network of a cell, whose head they need not have.
    fn check_weights(&self, archive: &Archive, cell: Cell, outputs: usize) -> Result<()> {
        let config = self.run(cell, self.learning_rates[0], self.seeds[0]).config.resolved()?;
        let device: Arc<dyn Device> = Cpu::new(usize::MAX);
        let ends = Ends { channels: config.channels, inputs: config.columns.inputs.len(), classes: outputs };
        let model = Model::between(&config.model, ends, &device, DType::F32, 0)?;
        weights::load_matching(&model.params, archive, config.transfer()).map(drop)
    }
}
