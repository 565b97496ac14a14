//! The tables of a study, made of the outcomes of its runs alone: the same bytes however often it was interrupted and on however
//! many machines it ran.

use super::{Cell, Choice, Metric, Outcome, Run, Shard, Status, Study};
use crate::{Error, Result, device::Device, files::write_atomic, report::study::render};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::Arc,
};

/// All outcomes of a study.
pub struct Results {
    /// Cell by cell, in the order of tables.
    pub cells: Vec<CellResults>,
}

/// The outcomes of a cell.
pub struct CellResults {
    /// Which.
    pub cell: Cell,
    /// Its learning rate, if that is settled.
    pub lr: Option<f64>,
    /// Its runs at that rate, one a seed; `None` where one is missing.
    pub runs: Vec<(Run, Option<Outcome>)>,
    /// Its candidates at other rates.
    pub others: Vec<(Run, Option<Outcome>)>,
}

impl CellResults {
    /// Reads those of `cell`.
    ///
    /// # Errors
    /// A damaged outcome.
    pub fn read(study: &Study, cell: Cell) -> Result<CellResults> {
        let with_outcome = |run: Run| {
            let outcome = study.outcome(&run)?;
            Ok((run, outcome))
        };
        let choice = study.choice(cell)?;
        let lr = if let Choice::Rate(lr) = choice { Some(lr) } else { None };
        let first = lr.unwrap_or(study.learning_rates[0]);
        let runs = study.seeds.iter().map(|&seed| with_outcome(study.run(cell, first, seed)));
        let mut runs = runs.collect::<Result<Vec<_>>>()?;
        if let Choice::Failed(reason) = choice {
            // There is no rate to do them at.
            for (run, outcome) in runs.iter_mut().filter(|(_, outcome)| outcome.is_none()) {
                *outcome = Some(study.blank(run, Status::Failed(format!("no learning rate can be chosen: {reason}"))));
            }
        }
        let others = study.candidates(cell).filter(|run| run.lr != first).map(with_outcome);
        Ok(CellResults { cell, lr, runs, others: others.collect::<Result<_>>()? })
    }

    /// All of its runs, in the order of tables.
    pub fn all(&self) -> impl Iterator<Item = &(Run, Option<Outcome>)> {
        self.runs.iter().chain(&self.others)
    }

    /// The outcomes that were tested, by seed.
    pub fn tested(&self) -> impl Iterator<Item = &Outcome> {
        self.runs.iter().filter_map(|(_, outcome)| outcome.as_ref()).filter(|outcome| outcome.status == Status::Done)
    }
}

impl Results {
    /// Reads them.
    ///
    /// # Errors
    /// A damaged outcome; arms that were not trained on the same data, or not from the same weights, because these have changed
    /// while the study ran.
    pub fn read(study: &Study) -> Result<Results> {
        let results =
            Results { cells: study.cells().map(|cell| CellResults::read(study, cell)).collect::<Result<_>>()? };
        results.check_sameness()?;
        Ok(results)
    }

    fn check_sameness(&self) -> Result<()> {
        let (mut data, mut held_out, mut starts) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (run, outcome) in self.all() {
            let Some(outcome) = outcome.as_ref().filter(|outcome| !outcome.data.is_empty()) else { continue };
            let Cell { task, backbone, fraction, arm } = run.cell;
            let same_data = *data.entry((task, fraction, run.seed)).or_insert(&outcome.data) == &outcome.data;
            let same_start = *starts.entry((arm, backbone)).or_insert(&outcome.start) == &outcome.start;
            let held_out_now = outcome.held_out.as_ref();
            let same_held_out = held_out_now.is_none_or(|now| *held_out.entry(task).or_insert(now) == now);
            let changed = match (same_data && same_held_out, same_start) {
                (false, _) => "data",
                (_, false) => "weights",
                _ => continue,
            };
            return Err(Error::unusable(
                format!("the {changed} of the run {} changed while the study ran: {}", run.hash, outcome.place()),
                format!("restore them and remove {}, or start the study anew", Outcome::folder(&run.hash).display()),
            ));
        }
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = &(Run, Option<Outcome>)> {
        self.cells.iter().flat_map(CellResults::all)
    }

    /// Failed runs.
    pub fn failed(&self) -> impl Iterator<Item = &Outcome> {
        let outcomes = self.all().filter_map(|(_, outcome)| outcome.as_ref());
        outcomes.filter(|outcome| matches!(outcome.status, Status::Failed(_)))
    }

    /// Runs without an outcome, or not yet tested though chosen.
    pub fn missing(&self) -> impl Iterator<Item = &Run> {
        self.cells.iter().flat_map(|cell| {
            let untested = |outcome: &Outcome| cell.lr.is_some() && outcome.status == Status::Trained;
            let runs = cell.runs.iter().filter(move |(_, outcome)| outcome.as_ref().is_none_or(untested));
            runs.chain(cell.others.iter().filter(|(_, outcome)| outcome.is_none())).map(|(run, _)| run)
        })
    }

    /// One row a run: `results.csv`. It holds nothing that another machine or day would change.
    pub fn csv(&self, study: &Study) -> Vec<u8> {
        let names: BTreeSet<&str> =
            self.all().filter_map(|(_, outcome)| outcome.as_ref()).flat_map(Outcome::names).collect();
        let mut table = csv::Writer::from_writer(vec![]);
        let fixed = ["task", "model", "fraction", "arm", "seed", "lr", "chosen", "status", "metric", "value"];
        let more = ["selected_by", "best_epoch", "epochs", "train_images", "test_images", "run", "reason"];
        let head = fixed.iter().chain(&names).chain(&more);
        table.write_record(head).expect(IN_MEMORY);
        for cell in &self.cells {
            for (run, outcome) in cell.all() {
                let chosen = cell.lr == Some(run.lr);
                table.write_record(row(study, run, outcome.as_ref(), chosen, &names)).expect(IN_MEMORY);
            }
        }
        table.into_inner().expect(IN_MEMORY)
    }

    /// Wall times, and energy where it is known: `timings.csv`, the one table that differs from machine to machine.
    pub fn timings(&self, study: &Study) -> Result<Vec<u8>> {
        let mut table = csv::Writer::from_writer(vec![]);
        let head = ["run", "task", "model", "fraction", "arm", "seed", "lr", "epochs", "seconds", "joules"];
        table.write_record(head).expect(IN_MEMORY);
        let pretrainings = study.all_pretrainings();
        let pretrainings = pretrainings.iter().map(|p| Outcome::read(&study.folder.join(p.place())));
        let pretrainings: Vec<Option<Outcome>> = pretrainings.collect::<Result<_>>()?;
        let runs = self.all().filter_map(|(_, outcome)| outcome.as_ref());
        for outcome in pretrainings.iter().flatten().chain(runs) {
            let Outcome { hash, task, model, fraction, arm, seed, lr, curve, seconds, joules, .. } = outcome;
            let numbers = [fraction.to_string(), seed.to_string(), lr.to_string(), curve.epochs().to_string()];
            let [fraction, seed, lr, epochs] = numbers;
            let seconds = format!("{seconds:.3}");
            let joules = joules.map_or(String::new(), |joules| format!("{joules:.1}"));
            let row = [hash, task, model, &fraction, arm, &seed, &lr, &epochs, &seconds, &joules];
            table.write_record(row).expect(IN_MEMORY);
        }
        Ok(table.into_inner().expect(IN_MEMORY))
    }

    /// Writes all tables and the report into the study's folder. Its pictures are computed on `device`, and left out without one.
    ///
    /// # Errors
    /// A study of which nothing has run; a file that cannot be written.
    pub fn write(&self, study: &Study, device: Option<&Arc<dyn Device>>) -> Result<()> {
        if !study.folder.is_dir() {
            return Err(Error::unusable(
                format!("nothing of the study has run yet: there is no folder {}", study.folder.display()),
                "run it first, without --report; where its results are elsewhere, --out DIR",
            ));
        }
        write_atomic(&study.folder.join("results.csv"), &self.csv(study))?;
        let comparisons = self.comparisons(study)?;
        write_atomic(&study.folder.join("comparisons.csv"), &self.comparisons_csv(study, &comparisons))?;
        write_atomic(&study.folder.join("table.csv"), &self.table_csv(study))?;
        write_atomic(&study.folder.join("table.md"), self.table_markdown(study, &comparisons).as_bytes())?;
        write_atomic(&study.folder.join("table.tex"), self.table_tex(study, &comparisons).as_bytes())?;
        let mut report = self.report(study, &comparisons)?;
        match device.map(|device| self.explained(study, device)) {
            Some(Ok(explained)) => report.explained = explained,
            Some(Err(e)) => report.unexplained = Some(e.to_string()),
            None => report.unexplained = Some("that is computed when all runs are done, or by --report".into()),
        }
        write_atomic(&study.folder.join("report.html"), render(&report).as_bytes())?;
        write_atomic(&study.folder.join("timings.csv"), &self.timings(study)?)
    }

    /// What is missing, in words: how many runs, and of which shards.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn tell_missing(&self, study: &Study) -> Result<Option<String>> {
        let missing: Vec<&Run> = self.missing().collect();
        let Some(first) = missing.first() else { return Ok(None) };
        let mut text = format!(
            "{} of {} runs are missing, the first being {}",
            missing.len(),
            study.runs(),
            study.describe(first)
        );
        let shards = study.shards()?;
        let of = shards.iter().map(|shard| shard.of).max().unwrap_or(1);
        if of > 1 {
            let lacking: BTreeSet<usize> = missing.iter().map(|run| study.shard_of(run.cell, of)).collect();
            let begun = |number: &usize| shards.contains(&Shard { number: *number, of });
            let (open, never): (Vec<_>, Vec<_>) = lacking.into_iter().partition(begun);
            for (which, is, are) in [(never, "has never run", "have never run"), (open, "is not done", "are not done")]
            {
                let parts: Vec<String> = which.iter().map(|number| format!("{number}/{of}")).collect();
                match parts.len() {
                    0 => {}
                    1 => text += &format!("; shard {} {is}", parts[0]),
                    _ => text += &format!("; shards {} {are}", parts.join(", ")),
                }
            }
        }
        Ok(Some(text))
    }
}

const IN_MEMORY: &str = "a Vec can be written to";

impl Outcome {
    /// Its place in the study, in words.
    pub fn place(&self) -> String {
        let Outcome { task, model, arm, fraction, seed, lr, .. } = self;
        format!("{task}, {model}, {arm}, {} of the images, seed {seed}, learning rate {lr:?}", share(*fraction))
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.measures.keys().map(String::as_str)
    }
}

fn row(study: &Study, run: &Run, outcome: Option<&Outcome>, chosen: bool, names: &BTreeSet<&str>) -> Vec<String> {
    let Cell { task, backbone, fraction, arm } = run.cell;
    let blank = study.blank(run, Status::Trained);
    let Metric { name: metric, .. } = outcome.map_or(&blank.metric, |outcome| &outcome.metric).clone();
    let (status, reason) = match outcome.map(|outcome| &outcome.status) {
        None => ("missing", ""),
        Some(Status::Trained) => ("trained", ""),
        Some(Status::Done) => ("done", ""),
        Some(Status::Failed(reason)) => ("failed", reason.lines().next().unwrap_or_default()),
    };
    let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    let count = |of: fn(&Outcome) -> usize| {
        outcome.filter(|outcome| !outcome.data.is_empty()).map_or(String::new(), |outcome| of(outcome).to_string())
    };
    let measures = names.iter().map(|name| number(outcome.and_then(|outcome| outcome.measures.get(*name)).copied()));
    [
        study.tasks[task].name.clone(),
        study.backbones[backbone].name.clone(),
        study.fractions[fraction].to_string(),
        study.arms[arm].name.clone(),
        run.seed.to_string(),
        run.lr.to_string(),
        if chosen { "yes" } else { "no" }.into(),
        status.into(),
        metric,
        number(outcome.and_then(|outcome| outcome.value)),
    ]
    .into_iter()
    .chain(measures)
    .chain([
        number(outcome.and_then(|outcome| outcome.selected_by)),
        outcome.and_then(|outcome| outcome.best_epoch).map_or(String::new(), |epoch| epoch.to_string()),
        count(|outcome| outcome.curve.epochs()),
        count(|outcome| outcome.train_images),
        count(|outcome| outcome.test_images),
        run.hash.clone(),
        reason.into(),
    ])
    .collect()
}

/// `0.25` as `25 %`.
pub fn share(fraction: f64) -> String {
    // Ten digits are more than a share needs and hide how it is stored.
    format!("{} %", (fraction * 1e12).round() / 1e10)
}

impl Study {
    /// A run in words.
    pub fn describe(&self, run: &Run) -> String {
        self.blank(run, Status::Trained).place()
    }

    /// The shards that have ever been begun.
    ///
    /// # Errors
    /// A folder that cannot be read.
    fn shards(&self) -> Result<BTreeSet<Shard>> {
        let folder = self.folder.join("shards");
        if !folder.exists() {
            return Ok(BTreeSet::new());
        }
        let entries = fs::read_dir(&folder).map_err(|e| Error::io("read", &folder, e))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter_map(|name| name.replace("-of-", "/").parse().ok()).collect())
    }
}
