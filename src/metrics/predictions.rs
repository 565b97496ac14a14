//! Scores and metrics of whichever task a network is for.

use super::{
    ImageScores, ImageSummary, LabelScores, LabelSummary, MaskCase, MaskScores, MaskSummary, NumberScores,
    NumberSummary, Scores, Summary,
};
use std::fmt;

/// What a network said about each sample of a split, and what was true.
#[derive(Clone, Debug, PartialEq)]
pub enum Predictions {
    /// One class of several.
    Classes(Scores),
    /// Yes or no to each label; to the second of two classes.
    Labels(LabelScores),
    /// Numbers.
    Numbers(NumberScores),
    /// Masks.
    Masks(MaskScores),
    /// Images that were given.
    Images(ImageScores),
}

/// All metrics of one evaluation. Printing them gives the tables for a terminal.
#[derive(Clone, Debug, PartialEq)]
pub enum Measures {
    /// Of one class of several.
    Classes(Summary),
    /// Of yes-or-no answers.
    Labels(LabelSummary),
    /// Of numbers.
    Numbers(NumberSummary),
    /// Of masks.
    Masks(MaskSummary),
    /// Of reconstructed images.
    Images(ImageSummary),
}

impl Predictions {
    /// Number of samples.
    pub fn len(&self) -> usize {
        match self {
            Predictions::Classes(scores) => scores.len(),
            Predictions::Labels(scores) => scores.len(),
            Predictions::Numbers(scores) => scores.len(),
            Predictions::Masks(scores) => scores.len(),
            Predictions::Images(scores) => scores.len(),
        }
    }

    /// True if there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Up to `k` samples, worst first; the first of equals first.
    pub fn worst(&self, k: usize) -> Vec<usize> {
        match self {
            Predictions::Classes(scores) => scores.worst(k),
            Predictions::Labels(scores) => scores.worst(k),
            Predictions::Numbers(scores) => scores.worst(k),
            Predictions::Masks(scores) => scores.worst(k),
            Predictions::Images(scores) => scores.worst(k),
        }
    }

    /// Every metric, with bootstrap intervals if there is a `seed` to draw them under.
    #[track_caller]
    pub fn measures(&self, seed: Option<u64>) -> Measures {
        match (self, seed) {
            (Predictions::Classes(scores), None) => Measures::Classes(Summary::new(scores)),
            (Predictions::Classes(scores), Some(seed)) => Measures::Classes(Summary::with_intervals(scores, seed)),
            (Predictions::Labels(scores), seed) => Measures::Labels(LabelSummary::new(scores, seed)),
            (Predictions::Numbers(scores), seed) => Measures::Numbers(NumberSummary::new(scores, seed)),
            (Predictions::Masks(scores), seed) => Measures::Masks(MaskSummary::new(scores, seed)),
            (Predictions::Images(scores), seed) => Measures::Images(ImageSummary::new(scores, seed)),
        }
    }

    /// Columns of a table of predictions; with what is true, if that is known.
    pub fn columns(&self, truth: bool) -> Vec<String> {
        let each = |names: &[String], truths: &[&str], others: &[&str]| {
            let prefixes = || truths.iter().filter(|_| truth).chain(others);
            names.iter().flat_map(|name| prefixes().map(move |prefix| format!("{prefix}{name}"))).collect()
        };
        let scores = |names: &[String]| {
            let facts = if truth { &["label", "predicted"][..] } else { &["predicted"] };
            let scores = names.iter().map(|name| format!("score_{name}"));
            facts.iter().map(|fact| fact.to_string()).chain(scores).collect()
        };
        match self {
            Predictions::Classes(Scores { classes, .. }) => scores(classes),
            Predictions::Labels(LabelScores { names, negative: Some(_), .. }) => scores(names),
            Predictions::Labels(LabelScores { names, .. }) => each(names, &["label_"], &["predicted_", "score_"]),
            Predictions::Numbers(NumberScores { names, .. }) => each(names, &[""], &["predicted_"]),
            Predictions::Masks(MaskScores { names, .. }) => {
                each(names, &["pixels_", "dice_", "iou_", "hd95_"], &["predicted_"])
            }
            Predictions::Images(_) => ["mae", "rmse"].map(String::from).into(),
        }
    }

    /// The cells of sample `i` in that table.
    pub fn cells(&self, i: usize, truth: bool) -> Vec<String> {
        let known = |cell: String| truth.then_some(cell);
        match self {
            Predictions::Classes(scores) => {
                let label = known(scores.classes[scores.labels[i] as usize].clone());
                let predicted = scores.classes[scores.predicted(i)].clone();
                label.into_iter().chain([predicted]).chain(scores.row(i).iter().map(f32::to_string)).collect()
            }
            Predictions::Labels(scores) => {
                let word = |yes: bool, k: usize| match &scores.negative {
                    Some(negative) => if yes { &scores.names[k] } else { negative }.clone(),
                    None => u8::from(yes).to_string(),
                };
                let cells = |k| {
                    let predicted = [word(scores.predicted(i, k), k), scores.probability(i, k).to_string()];
                    known(word(scores.truth(i, k), k)).into_iter().chain(predicted)
                };
                (0..scores.names.len()).flat_map(cells).collect()
            }
            Predictions::Numbers(scores) => {
                // The digits that single precision has.
                let text = |x: f64| (x as f32).to_string();
                let cells = |k| known(text(scores.truth(i, k))).into_iter().chain([text(scores.prediction(i, k))]);
                (0..scores.names.len()).flat_map(cells).collect()
            }
            Predictions::Masks(scores) => {
                let judged = |case: &MaskCase| {
                    let hd95 = case.hd95.map_or(String::new(), |hd95| hd95.to_string());
                    [case.truth.to_string(), case.dice().to_string(), case.iou().to_string(), hd95]
                };
                let cells = |case: &MaskCase| {
                    judged(case).into_iter().filter(|_| truth).chain([case.predicted.to_string()]).collect::<Vec<_>>()
                };
                scores.case(i).iter().flat_map(cells).collect()
            }
            Predictions::Images(scores) => [scores.mae[i], scores.mse[i].sqrt()].map(|x| (x as f32).to_string()).into(),
        }
    }
}

impl fmt::Display for Measures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Measures::Classes(summary) => summary.fmt(f),
            Measures::Labels(summary) => summary.fmt(f),
            Measures::Numbers(summary) => summary.fmt(f),
            Measures::Masks(summary) => summary.fmt(f),
            Measures::Images(summary) => summary.fmt(f),
        }
    }
}
