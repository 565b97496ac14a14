//! After the last epoch: the kept weights on held-out images, the predictions, the report.

use super::{Checkpoint, Session, step};
use crate::{
    Result,
    data::{Intensity, Loader, Record, Split},
    files::write_atomic,
    metrics::{Scores, Summary},
    report::{self, Evaluation, Picture, Report, WorstCase},
};
use std::{path::Path, sync::atomic::AtomicBool};

/// Worst cases shown for each split.
const WORST: usize = 12;
/// Points of the learning-rate curve in the report.
const SCHEDULE_POINTS: u64 = 200;

/// What a finished run came to.
pub struct Finished {
    /// Metrics by split: the test first, if there is one, then the validation.
    pub summaries: Vec<(Split, Summary)>,
}

/// The scores of one split, with the loader that they came from.
struct Scored {
    split: Split,
    loader: Loader,
    scores: Scores,
}

impl Session {
    /// Loads the best weights, evaluates them on the test and validation splits, and writes `predictions.csv` and
    /// `report.html`, whose head and foot are `facts` and `environment`. `None` if interrupted.
    ///
    /// # Errors
    /// A checkpoint or image that cannot be read, a file that cannot be written, a failure of the device.
    pub fn finish(
        &self,
        facts: &[(String, String)],
        environment: &[(String, String)],
        interrupt: &AtomicBool,
    ) -> Result<Option<Finished>> {
        Checkpoint::open(&self.folder.best())?.restore(&self.model)?;
        let config = &self.state.config;
        let mut scored = vec![];
        for split in [Split::Test, Split::Validation] {
            let Some(loader) = self.prepared.loader(split, config, self.workers) else { continue };
            let Some(scores) = step::evaluate(&self.model, &loader, &self.state.classes, interrupt)? else {
                return Ok(None);
            };
            scored.push(Scored { split, loader, scores });
        }
        let rows: Vec<_> = scored.iter().map(|s| (s.split, s.loader.records(), &s.scores)).collect();
        write_predictions(&self.folder.file("predictions.csv"), &rows)?;
        let summary = |s: &Scored| (s.split, Summary::with_intervals(&s.scores, config.seed));
        let summaries: Vec<_> = scored.iter().map(summary).collect();
        let page = self.report(&scored, &summaries, facts, environment)?;
        write_atomic(&self.folder.file("report.html"), page.as_bytes())?;
        Ok(Some(Finished { summaries }))
    }

    fn report(
        &self,
        scored: &[Scored],
        summaries: &[(Split, Summary)],
        facts: &[(String, String)],
        environment: &[(String, String)],
    ) -> Result<String> {
        let config = &self.state.config;
        let evaluations = scored.iter().zip(summaries).map(|(scored, (split, summary))| {
            let case = |i| worst_case(&scored.scores, i, &scored.loader.records()[i], config.size, config.intensity);
            let worst = scored.scores.worst(WORST).into_iter().map(case).collect::<Result<_>>()?;
            Ok(Evaluation { split: split.name().into(), summary, worst })
        });
        let evaluations = evaluations.collect::<Result<_>>()?;
        let steps = self.steps() as u64;
        let done = u64::from(self.state.epoch) * steps;
        let point = |t: u64| (t as f64 / steps as f64, self.schedule().at(t));
        Ok(report::render(&Report {
            title: format!("{} on {}", config.model, self.prepared.dataset.origin),
            facts: facts.to_vec(),
            warnings: self.prepared.warnings.clone(),
            skipped: self.prepared.skipped.iter().map(|s| (s.name.clone(), s.reason.clone())).collect(),
            history: &self.history,
            best_epoch: self.state.best.map(|best| best.epoch),
            schedule: (0..done).step_by(done.div_ceil(SCHEDULE_POINTS).max(1) as usize).map(point).collect(),
            data: self.prepared.counts(),
            evaluations,
            configuration: toml::to_string(config).expect("a recipe is plain data"),
            environment: environment.to_vec(),
        }))
    }
}

fn worst_case(scores: &Scores, i: usize, record: &Record, size: usize, intensity: Intensity) -> Result<WorstCase> {
    let (truth, predicted) = (scores.labels[i] as usize, scores.predicted(i));
    let pixels = record.fitted(size, intensity)?.to_unit().into_iter().map(|v| (v * 255.0).round() as u8).collect();
    Ok(WorstCase {
        name: record.name.clone(),
        truth: scores.classes[truth].clone(),
        truth_probability: scores.row(i)[truth],
        predicted: scores.classes[predicted].clone(),
        predicted_probability: scores.row(i)[predicted],
        picture: Picture { width: size as u32, height: size as u32, pixels },
    })
}

/// Writes `path,split,label,predicted` and the probability of each class, a line an image, to `path`.
///
/// # Errors
/// A file that cannot be written.
pub fn write_predictions(path: &Path, splits: &[(Split, &[Record], &Scores)]) -> Result<()> {
    let classes = splits.first().map_or(&[][..], |(_, _, scores)| &scores.classes);
    let mut table = csv::Writer::from_writer(vec![]);
    let in_memory = "a Vec can be written to";
    let header = ["path", "split", "label", "predicted"].map(String::from).into_iter();
    table.write_record(header.chain(classes.iter().map(|class| format!("score_{class}")))).expect(in_memory);
    for (split, records, scores) in splits {
        for (i, record) in records.iter().enumerate() {
            let (label, predicted) = (&classes[scores.labels[i] as usize], &classes[scores.predicted(i)]);
            let facts = [record.name.clone(), split.name().into(), label.clone(), predicted.clone()];
            let row = facts.into_iter().chain(scores.row(i).iter().map(f32::to_string));
            table.write_record(row).expect(in_memory);
        }
    }
    write_atomic(path, &table.into_inner().expect(in_memory))
}
