//! Test cases out of a table of predictions, weighted anew: what comparisons of networks need.

use super::ranking::Ranking;
use crate::{Error, Result};
use std::path::Path;

/// The cases of one split in a table of predictions, and what its network made of them.
pub struct Cases {
    /// Name of each.
    pub names: Vec<String>,
    /// Which belong together: the group of each, or its name where it has none.
    pub groups: Vec<String>,
    judged: Judged,
}

/// What a metric is computed from.
enum Judged {
    /// The number of classes, and (truth, prediction) of each case.
    Classes(usize, Vec<(usize, usize)>),
    /// The order of scores for each label.
    Labels(Vec<Ranking>),
    /// A number for each case, whose mean is the metric.
    Means(Vec<f64>),
}

impl Cases {
    /// Reads the rows of `split` in the table at `path`, for the metric `macro_f1`, `auc`, `mae` or `dice`.
    ///
    /// # Errors
    /// A table that cannot be read, or is not one for that metric.
    pub fn read(path: &Path, split: &str, metric: &str) -> Result<Cases> {
        let unusable = |problem: String| {
            Error::unusable(
                format!("{} is no table of predictions for {metric}: {problem}", path.display()),
                "the predictions.csv of a run, as it was written; without its folder a sweep does the run again",
            )
        };
        let mut reader = csv::Reader::from_path(path).map_err(|e| unusable(e.to_string()))?;
        let head: Vec<String> =
            reader.headers().map_err(|e| unusable(e.to_string()))?.iter().map(String::from).collect();
        let rows = reader.records().collect::<std::result::Result<Vec<_>, _>>().map_err(|e| unusable(e.to_string()))?;
        let table = Table { head, rows };
        let table = table.of(split).ok_or_else(|| unusable("it has no column split".into()))?;
        let judged = match metric {
            "macro_f1" => table.classes(),
            "auc" => table.labels(),
            "dice" => table.means("dice_"),
            "mae" => table.errors(),
            _ => None,
        };
        let judged =
            judged.ok_or_else(|| unusable("a column is missing, or a cell is not what it should be".into()))?;
        let names: Vec<String> =
            table.column("path").map_or(vec![], |path| table.cells(path).map(String::from).collect());
        let groups = match table.column("group") {
            Some(group) => table
                .cells(group)
                .zip(&names)
                .map(|(group, name)| {
                    // A path and a group of the same name are not the same.
                    if group.is_empty() { format!("\0{name}") } else { group.into() }
                })
                .collect(),
            None => names.clone(),
        };
        Ok(Cases { names, groups, judged })
    }

    /// The metric when case `i` counts `weights[i]` times; `None` where it does not exist.
    pub fn metric(&self, weights: &[f64]) -> Option<f64> {
        let mean = |values: &mut dyn Iterator<Item = f64>| {
            let values: Vec<f64> = values.collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        match &self.judged {
            Judged::Classes(classes, pairs) => {
                let (mut right, mut either) = (vec![0.0; *classes], vec![0.0; *classes]);
                for (&(truth, predicted), weight) in pairs.iter().zip(weights) {
                    if truth == predicted {
                        right[truth] += weight;
                    }
                    either[truth] += weight;
                    either[predicted] += weight;
                }
                let f1 = |(right, either): (f64, f64)| if either > 0.0 { 2.0 * right / either } else { 0.0 };
                mean(&mut right.into_iter().zip(either).map(f1))
            }
            Judged::Labels(rankings) => mean(&mut rankings.iter().filter_map(|ranking| ranking.auc(|i| weights[i]))),
            Judged::Means(values) => {
                let total: f64 = weights.iter().sum();
                (total > 0.0)
                    .then(|| values.iter().zip(weights).map(|(value, weight)| value * weight).sum::<f64>() / total)
            }
        }
    }
}

/// A CSV in memory.
struct Table {
    head: Vec<String>,
    rows: Vec<csv::StringRecord>,
}

impl Table {
    fn column(&self, name: &str) -> Option<usize> {
        self.head.iter().position(|column| column == name)
    }

    /// Those of its columns whose names begin so, with the rest of their names.
    fn columns(&self, prefix: &str) -> Vec<(usize, &str)> {
        self.head.iter().enumerate().filter_map(|(i, name)| Some((i, name.strip_prefix(prefix)?))).collect()
    }

    fn cells(&self, column: usize) -> impl Iterator<Item = &str> {
        self.rows.iter().map(move |row| &row[column])
    }

    fn numbers(&self, column: usize) -> Option<Vec<f64>> {
        self.cells(column).map(|cell| cell.parse().ok()).collect()
    }

    fn of(self, split: &str) -> Option<Table> {
        let column = self.column("split")?;
        let rows = self.rows.into_iter().filter(|row| &row[column] == split).collect();
        Some(Table { head: self.head, rows })
    }

    fn classes(&self) -> Option<Judged> {
        let classes = self.columns("score_");
        let class = |cell: &str| classes.iter().position(|(_, class)| *class == cell);
        let pairs = self.cells(self.column("label")?).zip(self.cells(self.column("predicted")?));
        let pairs = pairs.map(|(truth, predicted)| Some((class(truth)?, class(predicted)?))).collect::<Option<_>>()?;
        Some(Judged::Classes(classes.len(), pairs))
    }

    /// Of a binary network, whose label is a word, or of several labels, each 0 or 1.
    fn labels(&self) -> Option<Judged> {
        let ranking = |(column, name): (usize, &str)| {
            let scores: Vec<f32> = self.cells(column).map(|cell| cell.parse().ok()).collect::<Option<_>>()?;
            let (truths, yes) = match self.column("label") {
                Some(label) => (label, name),
                None => (self.column(&format!("label_{name}"))?, "1"),
            };
            let truths: Vec<bool> = self.cells(truths).map(|cell| cell == yes).collect();
            Some(Ranking::new(scores.len(), |i| scores[i], |i| truths[i]))
        };
        let rankings: Vec<Ranking> = self.columns("score_").into_iter().map(ranking).collect::<Option<_>>()?;
        (!rankings.is_empty()).then_some(Judged::Labels(rankings))
    }

    /// The mean of the columns whose names begin so, for each row.
    fn means(&self, prefix: &str) -> Option<Judged> {
        let columns = self.columns(prefix);
        let mean = |row: &csv::StringRecord| {
            let values: Vec<f64> =
                columns.iter().map(|&(column, _)| row[column].parse().ok()).collect::<Option<_>>()?;
            Some(values.iter().sum::<f64>() / values.len() as f64)
        };
        (!columns.is_empty()).then(|| self.rows.iter().map(mean).collect::<Option<_>>())?.map(Judged::Means)
    }

    /// The absolute error of each row: of an image that was reconstructed, or the mean over its numbers.
    fn errors(&self) -> Option<Judged> {
        if let Some(mae) = self.column("mae") {
            return self.numbers(mae).map(Judged::Means);
        }
        let mut errors = vec![0.0; self.rows.len()];
        let columns = self.columns("predicted_");
        for (predicted, name) in &columns {
            let (predicted, truths) = (self.numbers(*predicted)?, self.numbers(self.column(name)?)?);
            for (error, (predicted, truth)) in errors.iter_mut().zip(predicted.iter().zip(&truths)) {
                *error += (predicted - truth).abs() / columns.len() as f64;
            }
        }
        (!columns.is_empty()).then_some(Judged::Means(errors))
    }
}
