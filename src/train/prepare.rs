//! From a configuration to data that can be trained on: read once, split, checked and fingerprinted.

use super::{config::Config, state::RunState};
use crate::{
    Error, Result,
    data::{
        Augment, Dataset, DiskCache, Loader, LoaderOptions, Record, Scaling, Skipped, Split, Truth, manifest, split,
    },
    report::SplitCounts,
    sample,
    task::Task,
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeSet, path::Path};

/// A dataset with splits, and what is to be said about it.
pub struct Prepared {
    /// The records in use.
    pub dataset: Dataset,
    /// The same before copies were taken out of training, and a fraction of it: what a manifest records.
    pub assigned: Dataset,
    /// The files left out because they cannot be read.
    pub skipped: Vec<Skipped>,
    /// What to know before trusting the splits.
    pub warnings: Vec<String>,
    /// Digest of names, labels, splits and contents.
    pub fingerprint: String,
}

/// Data whose images have been read once, before there are splits: the same for every recipe that agrees on
/// [`Verified::key`].
#[derive(Clone)]
pub struct Verified {
    dataset: Dataset,
    skipped: Vec<Skipped>,
}

impl Verified {
    /// Lists the data of `config` but for classes with too few images, and reads no image yet.
    ///
    /// # Errors
    /// Data that cannot be listed, or do not have what the task needs.
    pub fn list(config: &Config) -> Result<Dataset> {
        let mut dataset = match &config.data {
            Some(path) => open(config, path)?,
            None if !config.task.counts_classes() || config.task == Task::Binary => {
                let problem = format!("the sample inside the program has no data for the task {}", config.task);
                return Err(Error::unusable(problem, "--data"));
            }
            None => sample::dataset_for(config.task, &config.columns)?,
        };
        dataset.drop_small_classes(config.min_images)?;
        Ok(dataset)
    }

    /// Lists and reads the data of `config`.
    ///
    /// # Errors
    /// As [`Verified::list`]; images that cannot be read, unless they may be skipped.
    pub fn read(config: &Config) -> Result<Verified> {
        let mut dataset = Verified::list(config)?;
        let skipped = dataset.verify(config.intensity, config.skip_bad)?;
        if let (true, Some(Skipped { reason, .. })) = (dataset.records.is_empty(), skipped.first()) {
            let problem = format!("none of the {} images of {} can be read", skipped.len(), dataset.origin);
            return Err(Error::unusable(problem, format!("the cause of the first: {reason}")));
        }
        Ok(Verified { dataset, skipped })
    }

    /// All that what is read depends on.
    pub fn key(config: &Config) -> String {
        let Config { data, layout, task, columns, min_images, intensity, skip_bad, .. } = config;
        format!("{data:?} {layout:?} {task} {columns:?} {min_images} {intensity} {skip_bad}")
    }
}

impl Prepared {
    /// `data` for `config`, read already. The splits are those of the manifest `recorded`, if there is one, else drawn.
    ///
    /// # Errors
    /// Data that cannot be split, or that are not those of the manifest.
    pub fn of(data: Verified, config: &Config, recorded: Option<&Path>) -> Result<Prepared> {
        let Verified { mut dataset, skipped } = data;
        match recorded {
            Some(manifest) => manifest::apply(&mut dataset, manifest)?,
            None => split::assign(&mut dataset, &config.split, config.splits_seed())?,
        }
        let assigned = dataset.clone();
        let mut warnings = vec![];
        if config.drop_copies {
            let dropped = split::drop_train_copies(&mut dataset);
            if !dropped.is_empty() {
                warnings.push(format!("training images left out as copies of held-out ones: {}", dropped.len()));
            }
            split::check_training_classes(&dataset)?;
        }
        if config.train_fraction < 1.0 {
            split::keep_fraction(&mut dataset, config.train_fraction, config.seed)?;
        }
        Ok(Prepared { assigned, skipped, warnings, ..Prepared::plain(dataset) }.warned())
    }

    /// The data that `state` was trained on, once more: with the splits of the manifest `recorded`, if there is one, and
    /// without images that it does not list.
    ///
    /// # Errors
    /// Data that cannot be used; data that have changed since.
    pub fn again(state: &RunState, recorded: Option<&Path>) -> Result<Prepared> {
        let config = &state.config;
        let mut dataset = Verified::list(config)?;
        let mut unlisted = vec![];
        if let Some(manifest) = recorded {
            unlisted = manifest::leave_out_unlisted(&mut dataset, manifest)?;
            renumber(&mut dataset, state)?;
        }
        let skipped = dataset.verify(config.intensity, config.skip_bad)?;
        let mut prepared = Prepared::of(Verified { dataset, skipped }, config, recorded)?.unchanged(state)?;
        if let Some(example) = unlisted.first() {
            let left_out =
                format!("images that the run does not list and were left out: {}, say {example}", unlisted.len());
            prepared.warnings.push(left_out);
        }
        Ok(prepared)
    }

    /// The same where they are now, at `path`; `None` if what is there is not, image by image, what `recorded` lists.
    pub fn moved(state: &RunState, path: &Path, recorded: &Path) -> Option<Prepared> {
        let config = Config { data: Some(path.into()), ..state.config.clone() };
        let mut dataset = Verified::list(&config).ok()?;
        // Names and labels tell most sets apart before any image is read.
        manifest::apply(&mut dataset.clone(), recorded).ok()?;
        let skipped = dataset.verify(config.intensity, config.skip_bad).ok()?;
        Prepared::of(Verified { dataset, skipped }, &config, Some(recorded)).ok()?.unchanged(state).ok()
    }

    /// The same, if they are the data that `state` was trained on.
    ///
    /// # Errors
    /// Data that have changed since.
    pub fn unchanged(self, state: &RunState) -> Result<Prepared> {
        if self.fingerprint != state.data {
            return Err(Error::unusable(
                format!("the data in {} have changed since the network was trained on them", self.dataset.origin),
                "restore them, or name what to use instead with --data",
            ));
        }
        Ok(self)
    }

    /// Other labelled data at `path` for the network of `state`. Images without a given split count as test images.
    ///
    /// # Errors
    /// Data that cannot be used, or have a class that the network does not know.
    pub fn other(state: &RunState, path: &Path) -> Result<Prepared> {
        let config = &state.config;
        let mut dataset = open(config, path)?;
        let skipped = dataset.verify(config.intensity, config.skip_bad)?;
        renumber(&mut dataset, state)?;
        dataset.records.iter_mut().for_each(|record| record.split = record.split.or(Some(Split::Test)));
        Ok(Prepared { skipped, ..Prepared::plain(dataset) }.warned())
    }

    /// A dataset as it is.
    pub fn plain(dataset: Dataset) -> Prepared {
        let fingerprint = fingerprint(&dataset, |_| true);
        Prepared { assigned: dataset.clone(), dataset, skipped: vec![], warnings: vec![], fingerprint }
    }

    /// Digest of what is held out, the validation and test splits: a part of the fingerprint.
    pub fn held_out(&self) -> String {
        fingerprint(&self.dataset, |record| record.split.is_some_and(|split| split != Split::Train))
    }

    /// The same, with the warnings that follow from what is known.
    fn warned(mut self) -> Prepared {
        if !self.skipped.is_empty() {
            self.warnings.push(format!("images that cannot be read and were left out: {}", self.skipped.len()));
        }
        self.warnings.extend(self.dataset.dropped_classes());
        if self.dataset.ignored > 0 {
            self.warnings.push(format!(
                "files that are no images, or masks of none, and were ignored: {}",
                self.dataset.ignored
            ));
        }
        self.warnings.extend(split::warnings(&self.dataset));
        self
    }

    /// A table of the images of each class in each split, then what was left out and the warnings, line by line.
    pub fn tell(&self, say: &mut dyn FnMut(String)) {
        let counts = self.counts();
        let width = counts.classes.iter().map(|class| class.chars().count()).max().unwrap_or(0);
        let heads: Vec<_> = counts.splits.iter().map(|(name, _)| format!("{name:>12}")).collect();
        say(format!("        {:width$}{}", "", heads.concat()));
        for (c, class) in counts.classes.iter().enumerate() {
            let cells: Vec<_> = counts.splits.iter().map(|(_, n)| format!("{:>12}", n[c])).collect();
            say(format!("        {class:width$}{}", cells.concat()));
        }
        self.skipped
            .iter()
            .for_each(|skipped| say(format!("left out: {}", skipped.reason.lines().next().unwrap_or(""))));
        self.warnings.iter().for_each(|warning| say(format!("warning: {warning}")));
    }

    /// What keeps splits apart, in a sentence.
    pub fn split_rule(&self) -> String {
        let groups: BTreeSet<_> = self.dataset.records.iter().filter_map(|record| record.group.as_ref()).collect();
        match (groups.len(), split::leaking_groups(&self.dataset).len()) {
            (0, _) => {
                "by image: nothing says which belong together, so those of one exam can be in several splits".into()
            }
            (n, 0) => format!("by group: {n} groups, say exams or patients, each with all its images in one split"),
            (n, torn) => {
                format!("as given: of {n} groups, say exams or patients, {torn} reach into more than one split")
            }
        }
    }

    /// A loader of the training split.
    pub fn training_loader(&self, state: &RunState, workers: usize) -> Loader {
        let records = self.dataset.subset(Split::Train);
        let batch = state.config.batch.min(records.len());
        let options = LoaderOptions {
            batch,
            augment: state.config.augment,
            sampling: Some(state.config.sampling),
            batches: state.config.epoch_steps(),
            // A batch of one or two would make batch normalisation erratic; the order changes, so nothing is left out for good.
            drop_last: true,
            ..options(state, workers)
        };
        Loader::new(records, options)
    }

    /// A loader of `split` in order, without augmentation; `None` if it has no images.
    pub fn loader(&self, split: Split, state: &RunState, workers: usize) -> Option<Loader> {
        let records = self.dataset.subset(split);
        (!records.is_empty()).then(|| Loader::new(records, options(state, workers)))
    }

    /// A loader of these records in order, without augmentation, on this thread.
    pub fn loader_of(&self, records: Vec<Record>, state: &RunState) -> Loader {
        Loader::new(records, options(state, 0))
    }

    /// Scaling of the numbers that a regression predicts, and of those beside the images, over the training images.
    pub fn scalings(&self) -> [Scaling; 2] {
        let train = || self.dataset.of(Some(Split::Train));
        fn numbers(record: &Record) -> &[f32] {
            if let Truth::Numbers(numbers) = &record.truth { numbers } else { &[] }
        }
        let targets = match self.dataset.task {
            Task::Regression => Scaling::of(train().map(numbers), self.dataset.classes.len()),
            _ => Scaling::default(),
        };
        [targets, Scaling::of(train().map(|record| &record.inputs[..]), self.dataset.inputs.len())]
    }

    /// Images in each split: of each class, or all and those of each label, or all.
    pub fn counts(&self) -> SplitCounts {
        let Dataset { task, classes, .. } = &self.dataset;
        let labels = match task {
            Task::MultiClass | Task::Binary | Task::MultiLabel | Task::Reconstruction => &classes[..],
            Task::Regression | Task::Segmentation => &[],
        };
        let all = (!task.counts_classes()).then(|| "images".to_string());
        let counts = |split| {
            let all = all.iter().map(|_| self.dataset.of(Some(split)).count());
            all.chain(self.dataset.class_counts(Some(split)).into_iter().take(labels.len())).collect()
        };
        let filled = Split::ALL.into_iter().filter(|&split| self.dataset.of(Some(split)).next().is_some());
        SplitCounts {
            classes: all.iter().chain(labels).cloned().collect(),
            splits: filled.map(|split| (split.name().to_string(), counts(split))).collect(),
            overlap: all.is_some(),
        }
    }
}

/// Gives the classes of `dataset` the numbers that they have for the network of `state`.
///
/// # Errors
/// A class with images that the network does not know.
fn renumber(dataset: &mut Dataset, state: &RunState) -> Result<()> {
    let place = |(name, images): (&String, usize)| {
        let place = state.classes.iter().position(|known| known == name);
        if place.is_some() || images == 0 {
            return Ok(place);
        }
        let (origin, noun) = (&dataset.origin, state.config.task.noun());
        Err(Error::unusable(
            format!("{origin} has {name:?} among its {noun}, which the network was not trained on"),
            format!("name its {noun} as the network does: {}", state.classes.join(", ")),
        ))
    };
    let places: Vec<Option<usize>> =
        dataset.classes.iter().zip(dataset.class_counts(None)).map(place).collect::<Result<_>>()?;
    for record in &mut dataset.records {
        match &mut record.truth {
            Truth::Class(class) => *class = places[*class as usize].expect("it has an image") as u32,
            Truth::Numbers(numbers) => {
                // A label that these data do not know applies to none of them.
                let mut placed = vec![0.0; state.classes.len()];
                let known = places.iter().zip(numbers.iter()).filter_map(|(place, &number)| Some(((*place)?, number)));
                known.for_each(|(place, number)| placed[place] = number);
                *numbers = placed;
            }
            Truth::Masks(_) => {}
        }
    }
    dataset.classes = state.classes.clone();
    Ok(())
}

/// Lists the data at `path` as `config` says what they are.
///
/// # Errors
/// Data that cannot be used.
pub fn open(config: &Config, path: &Path) -> Result<Dataset> {
    path.metadata().map_err(|e| {
        let remedy =
            "a folder of class folders, or a CSV with the columns path,label; for a run, give --data, if it has moved";
        Error::unusable(format!("cannot open the dataset {}: {e}", path.display()), remedy)
    })?;
    match config.layout {
        Some(layout) if config.columns.only.is_empty() => layout.open(path),
        Some(_) => Err(Error::unusable("a published layout is used whole", "leave --where out")),
        None => Dataset::open_for(config.task, path, &config.columns),
    }
}

fn options(state: &RunState, workers: usize) -> LoaderOptions {
    let config = &state.config;
    LoaderOptions {
        size: config.size,
        batch: config.batch,
        seed: config.seed,
        workers,
        augment: Augment::none(),
        intensity: config.intensity,
        normalise: config.normalise,
        targets: state.targets.clone(),
        inputs: state.inputs.clone(),
        disk_cache: DiskCache::of_program(),
        ..LoaderOptions::default()
    }
}

fn fingerprint(dataset: &Dataset, has: impl Fn(&Record) -> bool) -> String {
    let mut sha = Sha256::new();
    for record in dataset.records.iter().filter(|record| has(record)) {
        let label = dataset.describe(record);
        sha.update(format!("{}\0{label}\0{}\0", record.name, record.split.map_or("", Split::name)));
        // Of the numbers beside the image, where there are any.
        record.inputs.iter().for_each(|input| sha.update(input.to_le_bytes()));
        sha.update(record.fingerprint.map_or([0; 32], |print| print.file));
    }
    sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
