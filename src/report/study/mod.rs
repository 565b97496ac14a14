//! The report of a comparison study: one self-contained HTML page, with no script and nothing to load.

mod charts;
mod explained;
mod guidelines;
mod page;
mod tables;

pub use guidelines::{Guideline, guidelines};
pub use page::render;

use crate::{
    report::{Picture, WorstCase},
    statistics::{Interval, Mean, Scale, area_under},
    study::share,
};

/// Epochs of which the report shows the beginning of training.
pub const FIRST_EPOCHS: usize = 10;

/// All that the report of a study shows. Every text is escaped; an empty part is left out of the page.
#[derive(Clone, Debug, Default)]
pub struct StudyReport {
    /// What the study is to answer.
    pub question: String,
    /// The declared grid as (name, value).
    pub design: Vec<(String, String)>,
    /// The arms by name, the baseline first.
    pub arms: Vec<String>,
    /// The learning rates that each cell chose from.
    pub learning_rates: Vec<f64>,
    /// The tasks and backbones.
    pub settings: Vec<Setting>,
    /// How arms are compared and corrected, in a sentence.
    pub test: String,
    /// Failed runs as (run, reason).
    pub failed: Vec<(String, String)>,
    /// Runs that have not been done.
    pub missing: Vec<String>,
    /// Arms that were pretrained on a part of what another was, otherwise in the same way.
    pub parts: Vec<Part>,
    /// What arms see in the same images.
    pub explained: Vec<Explained>,
    /// Why that cannot be shown.
    pub unexplained: Option<String>,
    /// What pretrainings cost, by name.
    pub pretrainings: Vec<(String, Cost)>,
    /// The recipe of the first run, in TOML.
    pub configuration: String,
    /// Program, machine and device as (name, value).
    pub environment: Vec<(String, String)>,
}

/// An arm that was pretrained on a part of what another was.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Number of the other arm.
    pub whole: usize,
    /// Number of the arm.
    pub part: usize,
    /// The part, say `modality=CT`.
    pub of: String,
}

/// Test images of a task with a backbone, as the arms see them.
#[derive(Clone, Debug)]
pub struct Explained {
    /// The task, backbone, share of the training images and seed.
    pub setting: String,
    /// The class of each image, whose evidence is shown.
    pub classes: Vec<String>,
    /// The images as they are.
    pub pictures: Vec<Picture>,
    /// For each arm the images under its Grad-CAMs.
    pub arms: Vec<Vec<WorstCase>>,
}

/// A task with a backbone.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// The task.
    pub task: String,
    /// The backbone.
    pub model: String,
    /// What arms are compared by, say `macro_f1`.
    pub metric: String,
    /// Whether more of it is better.
    pub higher_is_better: bool,
    /// Its results by share of the training images, rising.
    pub rows: Vec<Row>,
}

/// The results with one share of the training images.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The share, in (0, 1].
    pub fraction: f64,
    /// Test images.
    pub test_images: usize,
    /// The learning rate of each arm, where it is chosen.
    pub rates: Vec<Option<f64>>,
    /// The tested runs of each arm, in the order of [`StudyReport::arms`].
    pub arms: Vec<Vec<RunFigures>>,
    /// Arms compared by the study's test.
    pub comparisons: Vec<Compared>,
}

/// One tested run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunFigures {
    /// Its seed.
    pub seed: u64,
    /// The metric on the test split; `None` where it does not exist.
    pub value: Option<f64>,
    /// The metric on the validation split after each epoch.
    pub curve: Vec<Option<f64>>,
    /// What training and validation cost.
    pub cost: Cost,
}

/// What training costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Wall time.
    pub seconds: f64,
    /// Energy that the device drew; `None` where it is not known.
    pub joules: Option<f64>,
}

/// Two arms compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compared {
    /// Number of the first arm.
    pub of: usize,
    /// Number of the second.
    pub against: usize,
    /// Seeds under which both were tested.
    pub seeds: usize,
    /// Metric of the first less that of the second.
    pub difference: f64,
    /// Its 95 % interval.
    pub interval: Interval,
    /// Two-sided p value.
    pub p: f64,
    /// The same after Holm's correction.
    pub adjusted: f64,
}

/// Comparisons with a lower p value, once corrected, are called significant.
pub const ALPHA: f64 = 1.0 - crate::statistics::LEVEL;

impl Setting {
    /// `task, model`.
    fn name(&self) -> String {
        format!("{}, {}", self.task, self.model)
    }

    /// 1 where more of the metric is better, −1 where less is: turns a difference into a gain.
    fn sign(&self) -> f64 {
        if self.higher_is_better { 1.0 } else { -1.0 }
    }

    /// The metric in words.
    fn metric_name(&self) -> &str {
        match self.metric.as_str() {
            "macro_f1" => "macro F1",
            "auc" => "AUC",
            "mae" => "MAE",
            "dice" => "Dice",
            other => other,
        }
    }

    /// What `number` says of the run of `arm` with `seed` in each row, if in all of them.
    fn across_rows(
        &self,
        arm: usize,
        seed: u64,
        number: impl Fn(&RunFigures) -> Option<f64>,
    ) -> Option<Vec<(f64, f64)>> {
        let of = |row: &Row| Some((row.fraction, number(row.arms[arm].iter().find(|run| run.seed == seed)?)?));
        self.rows.iter().map(of).collect()
    }

    /// The seeds of `arm` in its first row.
    fn seeds(&self, arm: usize) -> impl Iterator<Item = u64> {
        self.rows.first().into_iter().flat_map(move |row| &row.arms[arm]).map(|run| run.seed)
    }

    /// Area under test performance over the logarithm of the share of the training images, of each seed that has all of them.
    fn areas_over_fractions(&self, arm: usize) -> Vec<(u64, f64)> {
        let area = |seed| Some((seed, area_under(&self.across_rows(arm, seed, |run| run.value)?, Scale::Log)?));
        self.seeds(arm).filter_map(area).collect()
    }
}

impl Row {
    /// Mean of the metric of an arm on the test split.
    fn mean(&self, arm: usize) -> Option<Mean> {
        Mean::of(&self.arms[arm].iter().filter_map(|run| run.value).collect::<Vec<_>>())
    }

    /// The comparison of an arm with another, whichever comes first in the study.
    fn between(&self, of: usize, against: usize) -> Option<Compared> {
        let found = |of, against| self.comparisons.iter().find(|c| (c.of, c.against) == (of, against)).copied();
        found(of, against).or_else(|| found(against, of).map(Compared::reversed))
    }

    /// Whether two arms have tested runs under one seed.
    fn shares_seeds(&self, of: usize, against: usize) -> bool {
        self.arms[of].iter().any(|run| self.arms[against].iter().any(|other| other.seed == run.seed))
    }

    /// Of the first epochs those that all runs have.
    fn first_epochs(&self) -> usize {
        self.arms.iter().flatten().map(|run| run.curve.len()).min().unwrap_or(0).min(FIRST_EPOCHS)
    }

    /// Test values of two arms, run by run under the seeds that both have: the first less the second.
    fn paired(&self, of: usize, against: usize) -> Vec<f64> {
        let other = |seed| self.arms[against].iter().find(|run| run.seed == seed)?.value;
        self.arms[of].iter().filter_map(|run| Some(run.value? - other(run.seed)?)).collect()
    }
}

impl RunFigures {
    /// Mean of the metric on validation over the first `epochs`, as the area under its curve.
    fn first_epochs(&self, epochs: usize) -> Option<f64> {
        let points = self.curve.iter().take(epochs).enumerate();
        area_under(
            &points.map(|(i, value)| Some((i as f64 + 1.0, (*value)?))).collect::<Option<Vec<_>>>()?,
            Scale::Linear,
        )
    }
}

impl Compared {
    /// The second arm compared with the first.
    fn reversed(self) -> Compared {
        let Interval { low, high } = self.interval;
        let interval = Interval { low: -high, high: -low };
        Compared { of: self.against, against: self.of, difference: -self.difference, interval, ..self }
    }

    /// Whether the difference is significant. With one seed it is one of two networks, which tells nothing of their arms.
    fn significant(&self) -> bool {
        self.seeds > 1 && self.adjusted < ALPHA
    }
}

/// `-0.0312` as `−0.031`, `0.03` as `+0.030`.
fn signed(difference: f64) -> String {
    let text = format!("{difference:+.3}").replace('-', "−");
    if text == "−0.000" { "+0.000".into() } else { text }
}

/// `(−0.010 to +0.078)`.
fn signed_range(interval: Interval) -> String {
    format!("({} to {})", signed(interval.low), signed(interval.high))
}

/// `3 seeds`.
fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// A p value to three digits.
fn p_text(p: f64) -> String {
    if p < 0.001 { "< 0.001".into() } else { format!("{p:.3}") }
}
