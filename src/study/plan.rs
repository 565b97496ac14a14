//! The runs of a study: which there are, what they are called, and who does them.

use super::{Outcome, Start, Status, Study};
use crate::{Error, Result, train::Config};
use sha2::{Digest, Sha256};
use std::{
    path::{Path, PathBuf},
    str::FromStr,
};
use toml::Table;

/// Runs that a study may have; more are a mistake in its file.
pub const MOST_RUNS: u64 = 100_000;

/// Hexadecimal digits of a run's name: 64 bits.
const DIGITS: usize = 16;

/// One cell of the table: indices into the lists of the study. Ordered as tables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// Of [`Study::tasks`].
    pub task: usize,
    /// Of [`Study::backbones`].
    pub backbone: usize,
    /// Of [`Study::fractions`].
    pub fraction: usize,
    /// Of [`Study::arms`].
    pub arm: usize,
}

/// One run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Its cell.
    pub cell: Cell,
    /// Its learning rate.
    pub lr: f64,
    /// Its seed.
    pub seed: u64,
    /// Its recipe, paths as the study's file has them.
    pub config: Config,
    /// Digest of the recipe.
    pub hash: String,
}

/// A pretraining with one backbone.
#[derive(Clone, Debug, PartialEq)]
pub struct Pretraining {
    /// Its name in the study.
    pub name: String,
    /// Its recipe, paths as the study's file has them.
    pub config: Config,
    /// Digest of the recipe.
    pub hash: String,
}

impl Pretraining {
    /// Its folder, below that of the study.
    pub fn place(&self) -> PathBuf {
        Path::new("pretrained").join(&self.hash)
    }

    /// The outcome of which no more is known.
    pub fn blank(&self, status: Status) -> Outcome {
        Outcome {
            task: self.name.clone(),
            arm: "pretraining".into(),
            ..Outcome::blank(&self.config, &self.hash, status)
        }
    }
}

/// The learning rate of a cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// Not all of its candidates are trained yet.
    Open,
    /// The best on validation.
    Rate(f64),
    /// No candidate came to anything, for the reason of the first.
    Failed(String),
}

/// Worker `number` of `of`, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shard {
    /// Its number.
    pub number: usize,
    /// How many there are.
    pub of: usize,
}

impl Shard {
    /// All of a study.
    pub const WHOLE: Shard = Shard { number: 1, of: 1 };
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Shard, String> {
        let numbers = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Shard { number, of }),
            _ => Err("I/N with I from 1 to N, say 2/4".into()),
        }
    }
}

/// Name of a recipe: a digest of all its keys.
pub fn hash(config: &Config) -> String {
    let text = toml::to_string(config).expect("a recipe is plain data");
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()[..DIGITS].into()
}

impl Study {
    /// Number of cells.
    pub fn size(&self) -> u64 {
        let lists = [self.tasks.len(), self.backbones.len(), self.fractions.len(), self.arms.len()];
        lists.into_iter().fold(1, |product, n| product.saturating_mul(n as u64))
    }

    /// Number of runs: for each cell one a seed, and one more for each learning rate that is not chosen.
    pub fn runs(&self) -> u64 {
        self.size().saturating_mul((self.learning_rates.len() + self.seeds.len() - 1) as u64)
    }

    /// All cells, in the order of tables.
    pub fn cells(&self) -> impl Iterator<Item = Cell> + '_ {
        let fractions = move |task, backbone| (0..self.fractions.len()).map(move |fraction| (task, backbone, fraction));
        (0..self.tasks.len())
            .flat_map(move |task| (0..self.backbones.len()).map(move |backbone| (task, backbone)))
            .flat_map(move |(task, backbone)| fractions(task, backbone))
            .flat_map(move |(task, backbone, fraction)| {
                (0..self.arms.len()).map(move |arm| Cell { task, backbone, fraction, arm })
            })
    }

    /// The shard of `of` that does a cell. Cells of one fraction, which take about as long, are dealt out in turn.
    pub fn shard_of(&self, cell: Cell, of: usize) -> usize {
        let Cell { task, backbone, fraction, arm } = cell;
        let place = ((fraction * self.tasks.len() + task) * self.backbones.len() + backbone) * self.arms.len() + arm;
        place % of + 1
    }

    /// The cells that a shard does.
    pub fn cells_of(&self, shard: Shard) -> impl Iterator<Item = Cell> + '_ {
        self.cells().filter(move |&cell| self.shard_of(cell, shard.of) == shard.number)
    }

    /// The run of `cell` at a learning rate and under a seed.
    pub fn run(&self, cell: Cell, lr: f64, seed: u64) -> Run {
        let mut grid = Table::from_iter([
            ("lr".to_string(), lr.into()),
            ("seed".to_string(), (seed as i64).into()),
            ("train_fraction".to_string(), self.fractions[cell.fraction].into()),
        ]);
        if let Some(weights) = self.weights(cell) {
            grid.insert("weights".into(), weights.to_string_lossy().into_owned().into());
        }
        let config = self.recipe((cell.task, cell.backbone, cell.arm), grid);
        Run { cell, lr, seed, hash: hash(&config), config }
    }

    /// The pretraining behind a cell's arm, if there is one.
    pub fn pretraining_of(&self, cell: Cell) -> Option<Pretraining> {
        let Start::Pretrained(pretraining) = self.arms[cell.arm].start else { return None };
        let config = self.pretraining(pretraining, cell.backbone);
        let name = self.pretrainings[pretraining].name.clone();
        Some(Pretraining { name, hash: hash(&config), config })
    }

    /// Every pretraining that an arm needs, with every backbone; each once.
    pub fn all_pretrainings(&self) -> Vec<Pretraining> {
        self.pretrainings_of((0..self.arms.len()).flat_map(|arm| {
            (0..self.backbones.len()).map(move |backbone| Cell { task: 0, backbone, fraction: 0, arm })
        }))
    }

    /// Those behind the arms of `cells`; each once.
    pub fn pretrainings_of(&self, cells: impl Iterator<Item = Cell>) -> Vec<Pretraining> {
        let mut all: Vec<Pretraining> = vec![];
        for pretraining in cells.filter_map(|cell| self.pretraining_of(cell)) {
            if all.iter().all(|known| known.hash != pretraining.hash) {
                all.push(pretraining);
            }
        }
        all
    }

    /// The outcome of a run of which no more is known.
    pub fn blank(&self, run: &Run, status: Status) -> Outcome {
        let Cell { task, arm, .. } = run.cell;
        let (task, arm) = (self.tasks[task].name.clone(), self.arms[arm].name.clone());
        Outcome { task, arm, ..Outcome::blank(&run.config, &run.hash, status) }
    }

    /// The file of weights of a cell's arm: as the study's file has it, or that of its pretraining below the study's folder.
    fn weights(&self, cell: Cell) -> Option<PathBuf> {
        match &self.arms[cell.arm].start {
            Start::Random => None,
            Start::Files(files) => Some(files[&self.backbones[cell.backbone].name].clone()),
            Start::Pretrained(_) => Some(self.pretraining_of(cell)?.place().join("best.safetensors")),
        }
    }

    /// The recipe of a run with the places that its paths mean.
    pub fn located(&self, run: &Run) -> Config {
        let located = self.located_recipe(&run.config);
        match (&self.arms[run.cell.arm].start, &run.config.weights) {
            (Start::Pretrained(_), Some(weights)) => Config { weights: Some(self.folder.join(weights)), ..located },
            _ => located,
        }
    }

    /// A recipe with the places that the paths of the study's file mean.
    pub fn located_recipe(&self, config: &Config) -> Config {
        let place = |path: &Option<PathBuf>| path.as_ref().map(|path| self.place(path));
        Config { data: place(&config.data), weights: place(&config.weights), ..config.clone() }
    }

    /// The candidates of a cell: every learning rate under the first seed.
    pub fn candidates(&self, cell: Cell) -> impl Iterator<Item = Run> + '_ {
        self.learning_rates.iter().map(move |&lr| self.run(cell, lr, self.seeds[0]))
    }

    /// The learning rate of a cell: that whose candidate has the best monitored value on validation, of equals the first.
    ///
    /// # Errors
    /// A damaged outcome.
    pub fn choice(&self, cell: Cell) -> Result<Choice> {
        if let [only] = self.learning_rates[..] {
            return Ok(Choice::Rate(only));
        }
        let mut best: Option<(f64, f64)> = None;
        let mut failure = None;
        let monitor = self.run(cell, self.learning_rates[0], self.seeds[0]).config.resolved()?.monitor()?;
        for run in self.candidates(cell) {
            let Some(outcome) = self.outcome(&run)? else { return Ok(Choice::Open) };
            // One whose test failed was trained all the same.
            match (outcome.selected_by.filter(|value| value.is_finite()), best) {
                (Some(value), Some((_, so_far))) if !monitor.improves(value, so_far) => {}
                (Some(value), _) => best = Some((run.lr, value)),
                (None, _) => {
                    let reason = match outcome.status {
                        Status::Failed(reason) => reason,
                        _ => "there is no validation to choose by".into(),
                    };
                    failure.get_or_insert(reason);
                }
            }
        }
        Ok(match best {
            Some((lr, _)) => Choice::Rate(lr),
            None => Choice::Failed(failure.unwrap_or_default()),
        })
    }

    /// Folder of a run.
    pub fn run_folder(&self, run: &Run) -> PathBuf {
        self.folder.join(Outcome::folder(&run.hash))
    }

    /// The outcome of a run, if it has one yet.
    ///
    /// # Errors
    /// A damaged outcome.
    pub fn outcome(&self, run: &Run) -> Result<Option<Outcome>> {
        Outcome::read(&self.run_folder(run))
    }

    /// Refuses a grid that nobody means.
    ///
    /// # Errors
    /// More than [`MOST_RUNS`] runs.
    pub fn check_size(&self) -> Result<()> {
        if self.runs() <= MOST_RUNS {
            return Ok(());
        }
        let lengths = [
            ("tasks", self.tasks.len()),
            ("backbones", self.backbones.len()),
            ("arms", self.arms.len()),
            ("fractions", self.fractions.len()),
            ("seeds", self.seeds.len()),
            ("learning rates", self.learning_rates.len()),
        ];
        let lengths: Vec<_> = lengths.map(|(what, n)| format!("{n} {what}")).into();
        Err(Error::unusable(
            format!("the study has {} runs: {}", self.runs(), lengths.join(", ")),
            format!("at most {MOST_RUNS}: fewer of these, or several studies"),
        ))
    }
}
