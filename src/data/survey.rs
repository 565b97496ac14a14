//! What a dataset holds, found by reading all of it once: for `roentgen doctor --data`.

use super::{
    intensity::Intensity,
    scan::{Facts, Scan},
    source::{Dataset, Record, Skipped, Split},
    split,
};
use rayon::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

/// Images that the time of reading is measured on.
const TIMED: usize = 100;

/// Facts of a dataset, counted.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Files of each format.
    pub formats: BTreeMap<String, usize>,
    /// Images of each modality that DICOM and MetaImage files name.
    pub modalities: BTreeMap<String, usize>,
    /// Images of each width and height.
    pub sizes: BTreeMap<(usize, usize), usize>,
    /// Images of each number of bits and channels.
    pub depths: BTreeMap<(u32, usize), usize>,
    /// Files with more than one frame, of which a record shows one, and their frames together.
    pub volumes: (usize, usize),
    /// Patients that DICOM files name.
    pub patients: usize,
    /// Files that cannot be read, with the reason.
    pub unreadable: Vec<Skipped>,
    /// What to know before trusting scores.
    pub warnings: Vec<String>,
    /// Seconds that reading, decoding and scaling an image takes on one core.
    pub seconds: f64,
}

impl Survey {
    /// Reads every record of `dataset` as training at `size` with `intensity` would; the unreadable are taken out of it.
    pub fn of(dataset: &mut Dataset, intensity: Intensity, size: usize) -> Survey {
        let unreadable = dataset.verify(intensity, true).expect("what fails is left out");
        let mut survey = Survey { unreadable, ..Survey::default() };
        let facts: Vec<Option<Facts>> = dataset.records.par_iter().map(facts).collect();
        let mut splits_of: BTreeMap<&str, BTreeSet<Option<Split>>> = BTreeMap::new();
        for (facts, record) in facts.iter().zip(&dataset.records) {
            let Some(facts) = facts else { continue };
            *survey.formats.entry(facts.format.clone()).or_default() += 1;
            *survey.sizes.entry((facts.width, facts.height)).or_default() += 1;
            *survey.depths.entry((facts.bits, facts.channels)).or_default() += 1;
            if let Some(modality) = &facts.modality {
                *survey.modalities.entry(modality.clone()).or_default() += 1;
            }
            if facts.frames > 1 {
                survey.volumes = (survey.volumes.0 + 1, survey.volumes.1 + facts.frames);
            }
            if let Some(patient) = &facts.patient {
                splits_of.entry(patient).or_default().insert(record.split);
            }
        }
        survey.patients = splits_of.len();
        survey.warnings = split::warnings(dataset);
        survey.warnings.extend(split::repeated(dataset));
        let torn = splits_of.values().filter(|splits| splits.len() > 1).count();
        if torn > 0 {
            survey.warnings.push(format!(
                "{torn} patients (by their DICOM Patient ID) reach into more than one split; scores will be too good"
            ));
        }
        if splits_of.len() > 1 && splits_of.len() < facts.len() && dataset.records.iter().any(|r| r.group.is_none()) {
            survey.warnings.push(format!(
                "there are {} patients for {} images, and not every image has a group: a CSV with the column group keeps \
                 patients within a split",
                splits_of.len(),
                facts.len()
            ));
        }
        survey.seconds = seconds(&dataset.records, intensity, size);
        survey
    }
}

fn facts(record: &Record) -> Option<Facts> {
    let bytes = record.read().ok()?;
    Scan::open(&bytes, &record.name).ok().map(|scan| scan.facts().clone())
}

/// Mean time of a record, over some that are spread evenly.
fn seconds(records: &[Record], intensity: Intensity, size: usize) -> f64 {
    let step = records.len().div_ceil(TIMED).max(1);
    let sample: Vec<&Record> = records.iter().step_by(step).collect();
    let start = Instant::now();
    let read = sample.iter().filter(|record| record.fitted(size, intensity).is_ok()).count();
    start.elapsed().as_secs_f64() / read.max(1) as f64
}
