//! After the last epoch: the kept weights on held-out images, the predictions, the report.

use super::{Checkpoint, Head, Mirrors, Session, explain::picture, step};
use crate::{
    Error, Result,
    data::{Loader, Record, Split},
    files::write_atomic,
    metrics::{Measures, Predictions},
    report::{self, Evaluation, Picture, Report, WorstCase},
};
use std::{fs, path::Path, sync::atomic::AtomicBool};

/// Worst cases shown for each split.
const WORST: usize = 12;
/// Points of the learning-rate curve in the report.
const SCHEDULE_POINTS: u64 = 200;

/// What a finished run came to.
pub struct Finished {
    /// Metrics by split: the test first, if there is one, then the validation.
    pub summaries: Vec<(Split, Measures)>,
}

/// The scores of one split, with the loader that they came from.
struct Scored {
    split: Split,
    loader: Loader,
    predictions: Predictions,
}

impl Session {
    /// Loads the best weights, evaluates them on the test and validation splits, and writes `predictions.csv`,
    /// `model-card.md` and `report.html`, whose head and foot are `facts` and `environment`. `None` if interrupted.
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
        let head = Head::of(&self.state);
        let mut scored = vec![];
        for split in [Split::Test, Split::Validation] {
            let Some(loader) = self.prepared.loader(split, &self.state, self.workers) else { continue };
            let Some(predictions) = step::evaluate(&self.model, &loader, &head, &Mirrors::NONE, interrupt)? else {
                return Ok(None);
            };
            scored.push(Scored { split, loader, predictions });
        }
        let rows: Vec<_> = scored.iter().map(|s| (s.split, s.loader.records(), &s.predictions)).collect();
        write_predictions(&self.folder.file("predictions.csv"), &rows)?;
        let summary = |s: &Scored| (s.split, s.predictions.measures(Some(self.state.config.seed)));
        let summaries: Vec<_> = scored.iter().map(summary).collect();
        let page = self.report(&scored, &summaries, facts, environment)?;
        write_atomic(&self.folder.file("report.html"), page.as_bytes())?;
        let weights = fs::read(self.folder.best()).map_err(|e| Error::io("read", &self.folder.best(), e))?;
        write_atomic(&self.folder.file("model-card.md"), self.card(&weights, &summaries).as_bytes())?;
        Ok(Some(Finished { summaries }))
    }

    fn report(
        &self,
        scored: &[Scored],
        summaries: &[(Split, Measures)],
        facts: &[(String, String)],
        environment: &[(String, String)],
    ) -> Result<String> {
        let config = &self.state.config;
        let evaluations = scored.iter().zip(summaries).map(|(scored, (split, summary))| {
            let case = |i| self.worst_case(scored, i);
            let worst = scored.predictions.worst(WORST).into_iter().map(case).collect::<Result<_>>()?;
            Ok(Evaluation { split: split.name().into(), summary, worst })
        });
        let evaluations = evaluations.collect::<Result<_>>()?;
        let steps = self.steps() as u64;
        let done = self.state.step;
        let point = |t: u64| (t as f64 / steps as f64, self.schedule().at(t));
        Ok(report::render(&Report {
            title: format!("{} on {}", config.model, self.prepared.dataset.origin),
            facts: facts.to_vec(),
            warnings: self.prepared.warnings.clone(),
            skipped: self.prepared.skipped.iter().map(|s| (s.name.clone(), s.reason.clone())).collect(),
            history: &self.history,
            best_epoch: self.state.best.as_ref().map(|best| best.epoch),
            schedule: (0..done).step_by(done.div_ceil(SCHEDULE_POINTS).max(1) as usize).map(point).collect(),
            data: self.prepared.counts(),
            evaluations,
            configuration: toml::to_string(config).expect("a recipe is plain data"),
            environment: environment.to_vec(),
        }))
    }

    fn worst_case(&self, scored: &Scored, i: usize) -> Result<WorstCase> {
        let record = &scored.loader.records()[i];
        let picture = picture(record, &self.state.config)?;
        let picture = match &scored.predictions {
            Predictions::Masks(_) => self.outlined(record, picture)?,
            _ => picture,
        };
        Ok(WorstCase::new(&scored.predictions, i, record.name.clone(), picture))
    }

    /// The picture of a record with the outlines of its mask and of that which the network draws, all structures together.
    fn outlined(&self, record: &Record, picture: Picture) -> Result<Picture> {
        let loader = self.prepared.loader_of(vec![record.clone()], &self.state);
        let k = self.state.classes.len();
        let mut outlined = picture;
        step::each_batch(&self.model, &loader, None, &AtomicBool::new(false), &mut |batch, seen| {
            let any = |mask: &[bool]| mask.chunks_exact(k).map(|pixel| pixel.contains(&true)).collect::<Vec<_>>();
            let truth: Vec<bool> = batch.masks.iter().map(|&marked| marked != 0).collect();
            let predicted: Vec<bool> = Head::mask(&seen.outputs.to_vec()?).iter().map(|&marked| marked != 0).collect();
            outlined = outlined.outlined(&any(&truth), &any(&predicted));
            Ok(())
        })?;
        Ok(outlined)
    }
}

/// Writes `path,split`, `group` if any image of `splits` has one, and for each what is true and what is predicted, to `path`; the
/// columns are those of [`Predictions::columns`].
///
/// # Errors
/// A file that cannot be written.
pub fn write_predictions(path: &Path, splits: &[(Split, &[Record], &Predictions)]) -> Result<()> {
    let mut table = csv::Writer::from_writer(vec![]);
    let in_memory = "a Vec can be written to";
    let columns = splits.first().map_or(vec![], |(_, _, predictions)| predictions.columns(true));
    let grouped = splits.iter().any(|(_, records, _)| records.iter().any(|record| record.group.is_some()));
    let group = |text: &str| grouped.then(|| text.to_string());
    let head = ["path", "split"].map(String::from).into_iter().chain(group("group"));
    table.write_record(head.chain(columns)).expect(in_memory);
    for (split, records, predictions) in splits {
        for (i, record) in records.iter().enumerate() {
            let facts = [record.name.clone(), split.name().into()];
            let facts = facts.into_iter().chain(group(record.group.as_deref().unwrap_or_default()));
            table.write_record(facts.chain(predictions.cells(i, true))).expect(in_memory);
        }
    }
    write_atomic(path, &table.into_inner().expect(in_memory))
}
