//! What a dataset holds, found by reading all of it once: for `roentgen doctor --data`.

use super::{
    intensity::Intensity,
    scan::{Facts, Scan},
    source::{Dataset, Record, Skipped, Split, Truth},
    split::{self, Fractions},
};
use crate::{metrics::quantile, task::Task};
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
    /// What is true of the images, where it is numbers: a number each.
    pub numbers: Vec<Spread>,
    /// The numbers beside the images.
    pub inputs: Vec<Spread>,
    /// Shares of their images, in percent, that structures cover where they are at all: a structure each.
    pub areas: Vec<Spread>,
    /// Number of groups, and the fewest and most images of one; if there are any.
    pub groups: Option<(usize, usize, usize)>,
    /// Images whose split is drawn, as a run would draw it.
    pub drawn: usize,
    /// Files that cannot be read, with the reason.
    pub unreadable: Vec<Skipped>,
    /// What to know before trusting scores.
    pub warnings: Vec<String>,
    /// Seconds that reading, decoding and scaling an image takes on one core.
    pub seconds: f64,
}

/// How some numbers are spread.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spread {
    /// Of what.
    pub name: String,
    /// How many.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub std: f64,
    /// Least, quartiles (by linear interpolation) and greatest.
    pub quartiles: [f64; 5],
}

impl Spread {
    fn of(name: &str, mut values: Vec<f64>) -> Spread {
        values.sort_by(f64::total_cmp);
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count.max(1) as f64;
        let std = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count.max(1) as f64).sqrt();
        let quartiles = match count {
            0 => [f64::NAN; 5],
            _ => [0.0, 0.25, 0.5, 0.75, 1.0].map(|share| quantile(&values, share)),
        };
        Spread { name: name.into(), count, mean, std, quartiles }
    }
}

impl Survey {
    /// Reads every record of `dataset` as training at `size` with `intensity` would; the unreadable are taken out of
    /// it, and the splits drawn, with `fractions` and `seed`, that it does not give.
    pub fn of(dataset: &mut Dataset, intensity: Intensity, size: usize, fractions: &Fractions, seed: u64) -> Survey {
        let unreadable = dataset.verify(intensity, true).expect("what fails is left out");
        let mut survey = Survey { unreadable, ..Survey::default() };
        let given: Vec<Option<Split>> = dataset.records.iter().map(|record| record.split).collect();
        if !dataset.records.is_empty()
            && let Err(e) = split::assign(dataset, fractions, seed)
        {
            survey.warnings.push(e.to_string().replace("\n  try:", ";"));
        }
        survey.drawn = dataset.records.iter().zip(given).filter(|(record, given)| record.split != *given).count();
        survey.truths(dataset);
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
        survey.warnings.extend(split::warnings(dataset));
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

    /// What is true of the images, and what is known beside them.
    fn truths(&mut self, dataset: &Dataset) {
        let spreads = |names: &[String], of: &dyn Fn(&Record) -> Vec<f64>| {
            let rows: Vec<Vec<f64>> = dataset.records.iter().map(of).collect();
            let column = |i: usize| rows.iter().map(|row| row[i]).filter(|x| !x.is_nan()).collect();
            names.iter().enumerate().map(|(i, name)| Spread::of(name, column(i))).collect()
        };
        let wide = |row: &[f32]| row.iter().map(|&x| f64::from(x)).collect();
        self.inputs = spreads(&dataset.inputs, &|record| wide(&record.inputs));
        match dataset.task {
            Task::Regression => {
                self.numbers = spreads(&dataset.classes, &|record| match &record.truth {
                    Truth::Numbers(numbers) => wide(numbers),
                    _ => vec![f64::NAN; dataset.classes.len()],
                });
            }
            Task::Segmentation => {
                let areas: Vec<Vec<f64>> =
                    dataset.records.par_iter().map(|record| areas(record, dataset.classes.len())).collect();
                let column = |i: usize| areas.iter().map(|row| row[i]).filter(|&area| area > 0.0).collect();
                self.areas = dataset.classes.iter().enumerate().map(|(i, name)| Spread::of(name, column(i))).collect();
            }
            Task::MultiClass | Task::Binary | Task::MultiLabel | Task::Reconstruction => {}
        }
        let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
        dataset
            .records
            .iter()
            .filter_map(|r| r.group.as_deref())
            .for_each(|group| *groups.entry(group).or_default() += 1);
        let extremes = groups.values().min().zip(groups.values().max());
        self.groups = extremes.map(|(&fewest, &most)| (groups.len(), fewest, most));
    }
}

/// The share of its image, in percent, that each of `k` structures covers.
fn areas(record: &Record, k: usize) -> Vec<f64> {
    let mask = record.extent().and_then(|extent| record.mask(extent)).unwrap_or_default();
    let marked = |c: usize| mask.iter().skip(c).step_by(k).filter(|&&marked| marked != 0).count();
    (0..k).map(|c| 100.0 * (k * marked(c)) as f64 / mask.len().max(1) as f64).collect()
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
