//! What a study compares, as its file declares it.

use crate::{Error, Result, models, train::Config};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};
use toml::{Table, Value};

/// A study: every arm on every task with every backbone, training fraction and seed, at the learning rate that is best on
/// validation. Recipes are in layers, later ones over earlier: that of the study, the backbone, the task, the arm.
#[derive(Clone, Debug)]
pub struct Study {
    /// What it is to answer.
    pub question: String,
    /// The backbones.
    pub backbones: Vec<Named>,
    /// The tasks.
    pub tasks: Vec<Named>,
    /// The arms; the baseline first.
    pub arms: Vec<Arm>,
    /// The recipes by which arms are pretrained.
    pub pretrainings: Vec<Named>,
    /// Shares of the training images, rising.
    pub fractions: Vec<f64>,
    /// The learning rates to choose from.
    pub learning_rates: Vec<f64>,
    /// Seeds of the runs.
    pub seeds: Vec<u64>,
    /// Seed of the splits.
    pub split_seed: u64,
    /// Where its runs and tables go.
    pub folder: PathBuf,
    /// Recipe of all.
    recipe: Table,
    /// What the paths of the file are relative to.
    base: PathBuf,
}

/// Part of a recipe, by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its keys.
    pub recipe: Table,
}

/// What the weights are before training.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    /// Its name.
    pub name: String,
    /// Where the weights come from.
    pub start: Start,
    /// Keys of the recipe that go with them, say their normalisation.
    pub recipe: Table,
}

/// Where weights come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// Random numbers.
    Random,
    /// A file, for each backbone by name.
    Files(BTreeMap<String, PathBuf>),
    /// The pretraining of this number.
    Pretrained(usize),
}

/// The file. Read with `R` = [`Config`] it is checked key by key, with `R` = [`Table`] it says which keys were given.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "R: Deserialize<'de> + Default"))]
struct Declared<R> {
    question: String,
    out: Option<PathBuf>,
    baseline: Option<String>,
    backbones: BTreeMap<String, R>,
    tasks: BTreeMap<String, R>,
    arms: BTreeMap<String, DeclaredArm<R>>,
    #[serde(default)]
    pretrain: BTreeMap<String, R>,
    #[serde(default)]
    recipe: R,
    learning_rates: Vec<f64>,
    #[serde(default = "whole")]
    fractions: Vec<f64>,
    seeds: Vec<u64>,
    #[serde(default = "first")]
    split_seed: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "R: Deserialize<'de> + Default"))]
struct DeclaredArm<R> {
    weights: Option<Weights>,
    pretrained: Option<String>,
    #[serde(default)]
    recipe: R,
}

/// One file for the only backbone, or one for each.
#[derive(Deserialize)]
#[serde(untagged)]
enum Weights {
    One(PathBuf),
    Each(BTreeMap<String, PathBuf>),
}

fn whole() -> Vec<f64> {
    vec![1.0]
}

fn first() -> u64 {
    1
}

/// Keys that the grid gives to every run.
const OF_THE_GRID: [&str; 6] = ["model", "lr", "seed", "split_seed", "train_fraction", "weights"];

/// The study of the sample inside the program.
const SAMPLE: &str = include_str!("sample.toml");

fn refuse<T>(problem: impl Into<String>, remedy: impl Into<String>) -> Result<T> {
    Err(Error::unusable(problem, remedy))
}

impl Study {
    /// Reads the study that the file `path` declares. Its results go to `out`, or where the file says, or to `NAME.results`
    /// beside it. Nothing but the file is looked at; see [`Study::check`].
    ///
    /// # Errors
    /// A file that cannot be read; a key that is unknown or missing or has a wrong value, with its line; names that do not
    /// fit together.
    pub fn read(path: &Path, out: Option<&Path>) -> Result<Study> {
        let text = fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
        let base = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let study = Study::parse(&text, &path.display().to_string(), &base, &path.with_extension("results"))?;
        Ok(match out {
            Some(out) => Study { folder: out.into(), ..study },
            None => study,
        })
    }

    /// The study of the sample inside the program, with its results in `out`.
    ///
    /// # Errors
    /// None, unless the program was built from a broken file.
    pub fn sample(out: &Path) -> Result<Study> {
        Study::parse(SAMPLE, "the study of the sample", Path::new(""), out)
    }

    fn parse(text: &str, shown: &str, base: &Path, folder: &Path) -> Result<Study> {
        let _: Declared<Config> = typed(text, shown)?;
        let Declared::<Table> {
            question,
            out,
            baseline,
            backbones,
            tasks,
            arms,
            pretrain,
            recipe,
            learning_rates,
            fractions,
            seeds,
            split_seed,
        } = typed(text, shown)?;
        let named = |recipes: BTreeMap<String, Table>| -> Vec<Named> {
            recipes.into_iter().map(|(name, recipe)| Named { name, recipe }).collect()
        };
        let mut study = Study {
            question,
            backbones: named(backbones),
            tasks: named(tasks),
            arms: vec![],
            pretrainings: named(pretrain),
            fractions,
            learning_rates,
            seeds,
            split_seed,
            folder: out.map_or_else(|| folder.into(), |out| base.join(out)),
            recipe,
            base: base.into(),
        };
        for (name, arm) in arms {
            let start = study.start(&name, arm.weights, arm.pretrained)?;
            study.arms.push(Arm { name, start, recipe: arm.recipe });
        }
        study.order_arms(baseline)?;
        study.fractions.sort_by(f64::total_cmp);
        study.check_names()?;
        Ok(study)
    }

    /// Where the weights of the arm `name` come from.
    fn start(&self, name: &str, weights: Option<Weights>, pretrained: Option<String>) -> Result<Start> {
        let backbones = || self.backbones.iter().map(|backbone| backbone.name.clone());
        let files = match (weights, pretrained) {
            (None, None) => return Ok(Start::Random),
            (Some(_), Some(_)) => {
                return refuse(format!("the arm {name} has both weights and pretrained"), "one of the two");
            }
            (None, Some(pretrained)) => {
                let index = self.pretrainings.iter().position(|p| p.name == pretrained);
                let declared = names(&self.pretrainings);
                return index.map(Start::Pretrained).ok_or_else(|| {
                    let problem = format!("the arm {name} is pretrained by {pretrained:?}, which is not declared");
                    let declared = if declared.is_empty() {
                        "none is declared".into()
                    } else {
                        format!("declared are: {declared}")
                    };
                    Error::unusable(problem, format!("a section [pretrain.{pretrained}]; {declared}"))
                });
            }
            (Some(Weights::One(file)), None) if self.backbones.len() == 1 => {
                backbones().map(|backbone| (backbone, file.clone())).collect()
            }
            (Some(Weights::One(_)), None) => {
                return refuse(
                    format!("the arm {name} has one file of weights for {} backbones", self.backbones.len()),
                    "weights = { resnet18 = \"FILE\", … }, one for each",
                );
            }
            (Some(Weights::Each(files)), None) => files,
        };
        if let Some(lacking) = backbones().find(|backbone| !files.contains_key(backbone)) {
            return refuse(format!("the arm {name} has no weights for {lacking}"), "a file for each backbone");
        }
        Ok(Start::Files(files))
    }

    /// Puts the baseline first: the one that is named, else the first with random weights, else the first.
    fn order_arms(&mut self, baseline: Option<String>) -> Result<()> {
        let position = match &baseline {
            Some(name) => self.arms.iter().position(|arm| arm.name == *name),
            None => self.arms.iter().position(|arm| arm.start == Start::Random).or(Some(0)),
        };
        match position {
            Some(position) if position < self.arms.len() => self.arms[..=position].rotate_right(1),
            Some(_) => {}
            None => return refuse(format!("there is no arm {:?}", baseline.unwrap_or_default()), "the name of an arm"),
        }
        Ok(())
    }

    fn check_names(&self) -> Result<()> {
        for (what, empty) in [
            ("backbones", self.backbones.is_empty()),
            ("tasks", self.tasks.is_empty()),
            ("arms", self.arms.is_empty()),
            ("learning_rates", self.learning_rates.is_empty()),
            ("fractions", self.fractions.is_empty()),
            ("seeds", self.seeds.is_empty()),
        ] {
            if empty {
                return refuse(format!("the study has no {what}"), "at least one");
            }
        }
        if let Some(backbone) = self.backbones.iter().find(|backbone| models::is_dense(&backbone.name).is_none()) {
            return Err(models::unknown(&backbone.name));
        }
        let bits = |numbers: &[f64]| numbers.iter().map(|number| number.to_bits()).collect::<BTreeSet<_>>().len();
        let distinct = [
            ("learning_rates", bits(&self.learning_rates), self.learning_rates.len()),
            ("fractions", bits(&self.fractions), self.fractions.len()),
            ("seeds", self.seeds.iter().collect::<BTreeSet<_>>().len(), self.seeds.len()),
        ];
        if let Some((what, ..)) = distinct.into_iter().find(|(_, distinct, all)| distinct != all) {
            return refuse(format!("{what} has a number twice"), "each once");
        }
        let of_runs =
            |what: &'static str| move |named: &Named| (format!("{what}.{}", named.name), named.recipe.clone());
        let tables = (self.backbones.iter().map(of_runs("backbones")))
            .chain(self.tasks.iter().map(of_runs("tasks")))
            .chain(self.arms.iter().map(|arm| (format!("arms.{}.recipe", arm.name), arm.recipe.clone())))
            .chain([("recipe".to_string(), self.recipe.clone())]);
        for (table, recipe) in tables {
            if let Some(key) = OF_THE_GRID.iter().find(|key| recipe.contains_key(**key)) {
                return refuse(format!("[{table}] sets {key}, which the study gives to every run"), "leave it out");
            }
        }
        match self.pretrainings.iter().find(|pretraining| pretraining.recipe.contains_key("model")) {
            Some(Named { name, .. }) => {
                refuse(format!("[pretrain.{name}] sets model, but is done with every backbone"), "leave it out")
            }
            None => Ok(()),
        }
    }

    /// The recipe of a pretraining with a backbone, or to reconstruct images with a U-Net over it; paths as the file has them.
    pub fn pretraining(&self, pretraining: usize, backbone: usize) -> Config {
        let Named { name, recipe } = &self.backbones[backbone];
        let own = &self.pretrainings[pretraining].recipe;
        let reconstructs = own.get("task").and_then(Value::as_str) == Some("reconstruction");
        let model = if reconstructs { format!("unet_{name}") } else { name.clone() };
        let layers =
            [self.recipe.clone(), recipe.clone(), own.clone(), Table::from_iter([("model".into(), model.into())])];
        Config::layered(layers, Config::pretraining_defaults).expect("the task of a checked recipe")
    }

    /// The recipe of a task, backbone and arm under what the grid gives, paths as the file has them.
    pub(super) fn recipe(&self, (task, backbone, arm): (usize, usize, usize), grid: Table) -> Config {
        let (backbone, task, arm) = (&self.backbones[backbone], &self.tasks[task], &self.arms[arm]);
        let mut given = Table::from_iter([
            ("model".to_string(), backbone.name.clone().into()),
            ("split_seed".to_string(), (self.split_seed as i64).into()),
        ]);
        given.extend(grid);
        // Weights that fill a part of the network are no arm of a comparison, unless the arm says so.
        let strict = Table::from_iter([("strict".to_string(), (arm.start != Start::Random).into())]);
        let layers =
            [strict, self.recipe.clone(), backbone.recipe.clone(), task.recipe.clone(), arm.recipe.clone(), given];
        Config::layered(layers, Config::finetuning_defaults).expect("these defaults always are")
    }

    /// The place that a path of the file means.
    pub(super) fn place(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }
}

/// Their names, in words.
fn names(of: &[Named]) -> String {
    of.iter().map(|named| named.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// What the file declares.
fn typed<R: for<'de> Deserialize<'de> + Default>(text: &str, shown: &str) -> Result<Declared<R>> {
    toml::from_str(text).map_err(|e| {
        let problem = format!("{shown} cannot be used: {}", e.to_string().trim_end());
        Error::unusable(
            problem,
            "docs/study.md lists the keys of a study; those of a recipe are in the config.toml of any run",
        )
    })
}
