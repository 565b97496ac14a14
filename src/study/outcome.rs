//! What one run of a study came to: all that tables, statistics and the study's report read of it.

use crate::{
    Error, Result,
    data::Split,
    files::write_atomic,
    metrics::Measures,
    report::EpochRecord,
    task::{Monitor, Task},
    train::Config,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// One run. Paths are relative to the folder of the study, so that it can be moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Digest of the resolved recipe; the run is in `runs/<hash>`.
    pub hash: String,
    /// Name of the task in the study.
    pub task: String,
    /// Name of the arm: what the weights were before training.
    pub arm: String,
    /// Backbone.
    pub model: String,
    /// Share of the training images that was used, in (0, 1].
    pub fraction: f64,
    /// Seed of initial weights, training subset, order and augmentation. The splits are the same under every seed.
    pub seed: u64,
    /// Highest learning rate.
    pub lr: f64,
    /// How far it came.
    pub status: Status,
    /// The task's own metric: what arms are compared by.
    pub metric: Metric,
    /// Its value on the test split; `None` unless done, and where it does not exist.
    pub value: Option<f64>,
    /// Every metric on the test split by name, `metric` among them; empty unless done. Those that do not exist are left out.
    pub measures: BTreeMap<String, f64>,
    /// What was monitored on the validation split, at the best epoch: the learning rate is chosen by it.
    pub selected_by: Option<f64>,
    /// The best epoch, from 1; its weights are tested.
    pub best_epoch: Option<u32>,
    /// The validation split, epoch by epoch.
    pub curve: Curve,
    /// Images trained on.
    pub train_images: usize,
    /// Images tested on.
    pub test_images: usize,
    /// Wall time of training and validation, in seconds.
    pub seconds: f64,
    /// Energy that the device drew in that time, in joules; `None` where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joules: Option<f64>,
    /// Wall time of the pretraining behind the arm's weights, shared by all its runs; `None` where the study did none.
    pub pretraining_seconds: Option<f64>,
    /// Digest of the data: the same for all arms of a task, fraction and seed.
    pub data: String,
    /// Digest of the validation and test splits among them: the same for all runs of a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<String>,
    /// Digest of the file of weights that it started from, if from one.
    pub start: Option<String>,
    /// Its table of predictions, `path,split[,group],…` with a row a case; `None` unless done. Rows of the test split are in
    /// the same order for all runs of a task.
    pub predictions: Option<PathBuf>,
}

/// How far a run came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Trained, the test split untouched: one of the learning rates to choose from.
    Trained,
    /// Trained and tested.
    Done,
    /// Given up, for this reason.
    Failed(String),
}

/// A metric by name and direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metric {
    /// As in [`Outcome::measures`]: `macro_f1`, `auc`, `mae` or `dice`.
    pub name: String,
    /// Whether more of it is better.
    pub higher_is_better: bool,
}

/// Validation by epoch; `None` where there is no such split or no such value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// [`Outcome::metric`] after each epoch.
    pub metric: Vec<Option<f64>>,
    /// The loss after each epoch.
    pub loss: Vec<Option<f64>>,
}

impl Metric {
    /// That of a task: the first of its monitors.
    pub fn of(task: Task) -> Metric {
        let monitor = task.monitors()[0];
        Metric { name: name(monitor).into(), higher_is_better: monitor.improves(1.0, 0.0) }
    }

    /// Whether `value` is better than `other`.
    pub fn improves(&self, value: f64, other: f64) -> bool {
        if self.higher_is_better { value > other } else { value < other }
    }
}

fn name(monitor: Monitor) -> &'static str {
    match monitor {
        Monitor::MacroF1 => "macro_f1",
        Monitor::Loss => "loss",
        Monitor::Auc => "auc",
        Monitor::Mae => "mae",
        Monitor::Dice => "dice",
    }
}

impl Curve {
    /// That of a run for `task`.
    pub fn of(task: Task, history: &[EpochRecord]) -> Curve {
        let monitored = |monitor| history.iter().map(|epoch| epoch.monitored(monitor)).collect();
        Curve { metric: monitored(task.monitors()[0]), loss: monitored(Monitor::Loss) }
    }

    /// Epochs trained.
    pub fn epochs(&self) -> usize {
        self.loss.len()
    }
}

/// Every headline metric by name; those that do not exist are left out. Numbers and structures are averaged over.
pub fn measures(of: &Measures) -> BTreeMap<String, f64> {
    fn mean<T>(of: &[T], value: impl Fn(&T) -> f64) -> Option<f64> {
        Some(of.iter().map(value).sum::<f64>() / of.len() as f64)
    }
    let named = match of {
        Measures::Classes(s) => vec![
            ("accuracy", Some(s.accuracy)),
            ("macro_f1", Some(s.macro_f1)),
            ("macro_precision", Some(s.macro_precision)),
            ("macro_recall", Some(s.macro_recall)),
            ("auc", s.macro_auc),
            ("log_loss", Some(s.log_loss)),
        ],
        Measures::Labels(s) => vec![
            ("accuracy", Some(s.accuracy)),
            ("auc", s.macro_auc),
            ("average_precision", s.macro_average_precision),
            ("f1", mean(&s.labels, |label| label.f1)),
            ("sensitivity", mean(&s.labels, |label| label.sensitivity)),
            ("specificity", mean(&s.labels, |label| label.specificity)),
            ("log_loss", Some(s.log_loss)),
        ],
        Measures::Numbers(s) => vec![
            ("mae", Some(s.mae())),
            ("rmse", mean(&s.numbers, |number| number.rmse.value)),
            ("r2", mean(&s.numbers, |number| number.r2.value)),
            ("bias", mean(&s.numbers, |number| number.bias)),
        ],
        Measures::Images(s) => {
            vec![("mae", Some(s.mae.value)), ("rmse", Some(s.rmse.value)), ("psnr", Some(s.psnr.value))]
        }
        Measures::Masks(s) => vec![
            ("dice", Some(s.dice())),
            ("iou", mean(&s.structures, |structure| structure.iou.value)),
            ("hd95", mean(&s.structures, |structure| structure.hd95)),
        ],
    };
    let existing = |(name, value): (&str, Option<f64>)| Some((name.to_string(), value.filter(|v| v.is_finite())?));
    named.into_iter().filter_map(existing).collect()
}

/// Name of the file in the folder of a run.
const FILE: &str = "outcome.json";

impl Outcome {
    /// One of which no more is known than the recipe and its name; the names of task and arm are to be filled in.
    pub fn blank(config: &Config, hash: &str, status: Status) -> Outcome {
        let task = config.layout.map_or(config.task, |layout| layout.task());
        Outcome {
            hash: hash.into(),
            task: String::new(),
            arm: String::new(),
            model: config.model.clone(),
            fraction: config.train_fraction,
            seed: config.seed,
            lr: config.lr,
            status,
            metric: Metric::of(task),
            value: None,
            measures: BTreeMap::new(),
            selected_by: None,
            best_epoch: None,
            curve: Curve::default(),
            train_images: 0,
            test_images: 0,
            seconds: 0.0,
            joules: None,
            pretraining_seconds: None,
            data: String::new(),
            held_out: None,
            start: None,
            predictions: None,
        }
    }

    /// Adds what the test split said: the run, whose folder below that of the study is `place`, is done.
    pub fn tested(mut self, summaries: &[(Split, Measures)], place: &Path) -> Outcome {
        if let Some((_, test)) = summaries.iter().find(|(split, _)| *split == Split::Test) {
            self.measures = measures(test);
        }
        self.value = self.measures.get(&self.metric.name).copied();
        self.predictions = Some(place.join("predictions.csv"));
        self.status = Status::Done;
        self
    }

    /// Folder of the run `hash`, below that of its study.
    pub fn folder(hash: &str) -> PathBuf {
        Path::new("runs").join(hash)
    }

    /// Writes it into `folder`, that of its run.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("an outcome is plain data");
        write_atomic(&folder.join(FILE), text.as_bytes())
    }

    /// Reads that of the run in `folder`; `None` if it has none yet.
    ///
    /// # Errors
    /// A file that cannot be read or is damaged.
    pub fn read(folder: &Path) -> Result<Option<Outcome>> {
        let path = folder.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map(Some).map_err(|e| {
                let problem = format!("{} is no outcome of a run: {e}", path.display());
                Error::unusable(problem, "remove it, and the run is done again")
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", &path, e)),
        }
    }

    /// Forgets that of the run in `folder`.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn remove(folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e))
    }
}
