//! Where the arms see the evidence, side by side in the same test images.

use super::{CellResults, Outcome, Results, Run, Status, Study, share};
use crate::{
    Result,
    data::{Dataset, Record, Split, Truth},
    device::Device,
    metrics::Cases,
    report::study::Explained,
    train::{Checkpoint, Config, Verified, explain},
};
use std::{collections::HashSet, sync::Arc};

/// Classes of which a case is shown.
const MOST_CLASSES: usize = 6;

impl Results {
    /// For each task of classes or labels with each backbone the Grad-CAMs of all arms in the first test image of each class: at
    /// the largest share of the training images, and under the first seed, with which all arms were tested.
    ///
    /// # Errors
    /// Data or weights that are no longer there, a failure of the device.
    pub fn explained(&self, study: &Study, device: &Arc<dyn Device>) -> Result<Vec<Explained>> {
        let arms = study.arms.len();
        let settings = self.cells.chunks(arms * study.fractions.len());
        let comparable = settings.filter_map(|cells| cells.chunks(arms).rev().find_map(under_one_seed));
        let mut all = vec![];
        for runs in comparable {
            let config = study.located(runs[0].0).resolved()?;
            if explain::check_explicable(config.task).is_ok() {
                all.push(side_by_side(study, &runs, &config, device)?);
            }
        }
        Ok(all)
    }
}

/// The tested runs of all `arms` under one seed.
fn under_one_seed(arms: &[CellResults]) -> Option<Vec<(&Run, &Outcome)>> {
    let of = |seed| {
        let runs = arms.iter().map(|cell| {
            let (run, outcome) = cell.runs.iter().find(|(run, _)| run.seed == seed)?;
            Some((run, outcome.as_ref().filter(|outcome| outcome.status == Status::Done)?))
        });
        runs.collect()
    };
    arms[0].tested().find_map(|outcome| of(outcome.seed))
}

/// The Grad-CAMs of `runs`, one an arm, in the images of `config`, the resolved recipe of the first.
fn side_by_side(
    study: &Study,
    runs: &[(&Run, &Outcome)],
    config: &Config,
    device: &Arc<dyn Device>,
) -> Result<Explained> {
    let (first, outcome) = runs[0];
    let dataset = Verified::list(config)?;
    let predictions = outcome.predictions.as_ref().map(|table| study.folder.join(table));
    let tested = predictions.map(|table| Cases::read(&table, "test", &outcome.metric.name)).transpose()?;
    let tested: HashSet<String> = tested.map_or(HashSet::new(), |cases| cases.names.into_iter().collect());
    let first_of = |class: usize| {
        let shows = |record: &&Record| match &record.truth {
            Truth::Class(truth) => *truth as usize == class,
            Truth::Numbers(applies) => applies[class] != 0.0,
            Truth::Masks(_) => false,
        };
        let record = dataset.records.iter().filter(|record| tested.contains(&record.name)).find(shows)?;
        Some((class, Record { split: Some(Split::Test), ..record.clone() }))
    };
    let (classes, records): (Vec<usize>, Vec<Record>) =
        (0..dataset.classes.len()).filter_map(first_of).take(MOST_CLASSES).unzip();
    let cases = Dataset { records, ..dataset.clone() };
    let of_arm = |(run, _): &(&Run, &Outcome)| {
        let checkpoint = Checkpoint::open(&study.run_folder(run))?;
        let model = checkpoint.model(device)?;
        let mut seen = vec![];
        explain::explain(
            &model,
            &checkpoint.state,
            cases.clone(),
            |_, i| classes[i],
            |_, case| {
                seen.push(case);
                Ok(())
            },
        )?;
        Ok(seen)
    };
    let pictures = cases.records.iter().map(|record| explain::picture(record, config));
    Ok(Explained {
        setting: format!(
            "{}, {}, {} of the images, seed {}",
            outcome.task,
            outcome.model,
            share(outcome.fraction),
            first.seed
        ),
        classes: classes.iter().map(|&class| dataset.classes[class].clone()).collect(),
        pictures: pictures.collect::<Result<_>>()?,
        arms: runs.iter().map(of_arm).collect::<Result<_>>()?,
    })
}
