//! From a configuration to data that can be trained on: read once, split, checked and fingerprinted.

use super::config::{ClassWeights, Config};
use crate::{
    Error, Result,
    data::{self, Augment, Dataset, Loader, LoaderOptions, Skipped, Split, manifest, split},
    report::SplitCounts,
};
use sha2::{Digest, Sha256};
use std::path::Path;

/// A dataset with splits, and what is to be said about it.
pub struct Prepared {
    /// The records that remain.
    pub dataset: Dataset,
    /// The files left out because they cannot be read.
    pub skipped: Vec<Skipped>,
    /// What to know before trusting the splits.
    pub warnings: Vec<String>,
    /// Digest of names, labels, splits and contents.
    pub fingerprint: String,
}

impl Prepared {
    /// Opens and reads the data of `config`. The splits are those of the manifest `recorded`, if there is one, else drawn;
    /// with `record` they are written to that file.
    ///
    /// # Errors
    /// Data that cannot be used, or that are not those of the manifest.
    pub fn new(config: &Config, recorded: Option<&Path>, record: Option<&Path>) -> Result<Prepared> {
        let mut dataset = match &config.data {
            Some(path) => Dataset::open(path)?,
            None => sample()?,
        };
        let skipped = dataset.verify(config.skip_bad)?;
        match recorded {
            Some(manifest) => manifest::apply(&mut dataset, manifest)?,
            None => split::assign(&mut dataset, &config.split, config.seed)?,
        }
        if let Some(path) = record {
            manifest::write(&dataset, path)?;
        }
        let mut warnings = vec![];
        if config.drop_copies {
            let dropped = split::drop_train_copies(&mut dataset);
            if !dropped.is_empty() {
                warnings.push(format!("{} training images are copies of held-out ones and were left out", dropped.len()));
            }
            split::check_training_classes(&dataset)?;
        }
        if !skipped.is_empty() {
            warnings.push(format!("{} images cannot be read and were left out", skipped.len()));
        }
        if dataset.ignored > 0 {
            warnings.push(format!("{} files are no images by their suffix and were ignored", dataset.ignored));
        }
        warnings.extend(split::warnings(&dataset));
        let fingerprint = fingerprint(&dataset);
        Ok(Prepared { dataset, skipped, warnings, fingerprint })
    }

    /// A loader of the training split.
    pub fn training_loader(&self, config: &Config, workers: usize) -> Loader {
        let records = self.dataset.subset(Split::Train);
        let batch = config.batch.min(records.len());
        let options = LoaderOptions {
            batch,
            augment: config.augment,
            shuffle: true,
            // A batch of one or two would make batch normalisation erratic; the order changes, so nothing is left out for good.
            drop_last: true,
            ..options(config, workers)
        };
        Loader::new(records, options)
    }

    /// A loader of `split` in order, without augmentation; `None` if it has no images.
    pub fn loader(&self, split: Split, config: &Config, workers: usize) -> Option<Loader> {
        let records = self.dataset.subset(split);
        (!records.is_empty()).then(|| Loader::new(records, options(config, workers)))
    }

    /// Weight of each class in the loss.
    pub fn class_weights(&self, config: &Config) -> Vec<f64> {
        let counts = self.dataset.class_counts(Some(Split::Train));
        let (n, classes) = (counts.iter().sum::<usize>() as f64, counts.len() as f64);
        match config.class_weights {
            ClassWeights::None => vec![1.0; counts.len()],
            ClassWeights::Balanced => counts.iter().map(|&count| n / (classes * count as f64)).collect(),
        }
    }

    /// Images of each class in each split.
    pub fn counts(&self) -> SplitCounts {
        let of = |split: Split| (split.name().to_string(), self.dataset.class_counts(Some(split)));
        let splits = Split::ALL.map(of).into_iter().filter(|(_, counts)| counts.iter().sum::<usize>() > 0).collect();
        SplitCounts { classes: self.dataset.classes.clone(), splits }
    }
}

fn options(config: &Config, workers: usize) -> LoaderOptions {
    LoaderOptions {
        size: config.size,
        batch: config.batch,
        seed: config.seed,
        workers,
        augment: Augment::none(),
        normalise: config.normalise,
        ..LoaderOptions::default()
    }
}

fn sample() -> Result<data::Dataset> {
    Err(Error::unusable("there is no embedded sample in this build", "--data FOLDER"))
}

fn fingerprint(dataset: &Dataset) -> String {
    let mut sha = Sha256::new();
    for record in &dataset.records {
        let label = &dataset.classes[record.label as usize];
        sha.update(format!("{}\0{label}\0{}\0", record.name, record.split.map_or("", Split::name)));
        sha.update(record.fingerprint.map_or([0; 32], |print| print.file));
    }
    sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
