//! Records to batches, on threads of their own.
//!
//! Batch `b` of an epoch is a function of the options, the records, the seed, the epoch and `b`. Worker `w` of `W` makes the
//! batches `w, w + W, ...` and hands each over through a channel of one place; the consumer asks the workers in turn. So
//! batches come in order, at most `2 W` exist ahead of the consumer, and neither the number of workers nor their speed
//! can change one.

use super::{
    augment::Augment,
    cache::DiskCache,
    decode::Gray,
    intensity::Intensity,
    normalise::Normalise,
    resize::fit_mask,
    sampling::{Sampling, Sequence, Turn},
    scaling::Scaling,
    source::{Record, Skipped, Truth},
};
use crate::Result;
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    thread::{self, JoinHandle},
};

/// How records become batches.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// Side of the square images, in pixels.
    pub size: usize,
    /// Channels of an image: 1, or 3 that are repeated from its gray values.
    pub channels: usize,
    /// Images in a batch; the last of an epoch may have fewer.
    pub batch: usize,
    /// Seed of order and augmentation.
    pub seed: u64,
    /// Threads that prepare batches; 0 prepares each when it is asked for.
    pub workers: usize,
    /// Variation of each image.
    pub augment: Augment,
    /// How stored values become gray.
    pub intensity: Intensity,
    /// Scaling of the values.
    pub normalise: Normalise,
    /// Scaling of the numbers that are true of an image.
    pub targets: Scaling,
    /// Scaling of the numbers beside an image.
    pub inputs: Scaling,
    /// Records as they are drawn for training; otherwise all of them in their own order.
    pub sampling: Option<Sampling>,
    /// Batches in an epoch of drawn records; else so many that every record comes.
    pub batches: Option<usize>,
    /// Leave unreadable files out of their batch and note them in [`Loader::skipped`], instead of failing.
    pub skip_bad: bool,
    /// Leave out a last batch that is not full.
    pub drop_last: bool,
    /// Most bytes of decoded and resized images that are kept for later epochs.
    pub cache_bytes: usize,
    /// Where they are kept for later runs, if anywhere; for records that have been verified.
    pub disk_cache: Option<DiskCache>,
}

impl Default for LoaderOptions {
    /// 224 px, batches of 32, two workers, 1 GiB of cache; no shuffling and no augmentation.
    fn default() -> Self {
        LoaderOptions {
            size: 224,
            channels: 3,
            batch: 32,
            seed: 0,
            workers: 2,
            augment: Augment::none(),
            intensity: Intensity::Auto,
            normalise: Normalise::none(),
            targets: Scaling::default(),
            inputs: Scaling::default(),
            sampling: None,
            batches: None,
            skip_bad: false,
            drop_last: false,
            cache_bytes: 1 << 30,
            disk_cache: None,
        }
    }
}

/// Images of one step and what is true of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// `[n, size, size, channels]`, normalised.
    pub images: Vec<f32>,
    /// Class of each image; 0 where the truth is none.
    pub labels: Vec<u32>,
    /// Class of each image as a number, or its scaled numbers `[n, k]`, or its masks `[n, size, size, k]` of 0 and 1.
    pub targets: Vec<f32>,
    /// Scaled numbers beside the images, `[n, inputs]`.
    pub inputs: Vec<f32>,
    /// Position of each image in the loader's records.
    pub indices: Vec<u32>,
    /// Side of the images.
    pub size: usize,
}

impl Batch {
    /// Number of images `n`.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }
}

/// Turns records into batches, epoch by epoch.
pub struct Loader {
    shared: Arc<Shared>,
}

impl Loader {
    /// A loader of `records` (say, those of one split). Panics if size or batch is 0, or if there
    /// are to be neither 1 nor 3 channels.
    #[track_caller]
    pub fn new(records: Vec<Record>, options: LoaderOptions) -> Loader {
        assert!(options.size > 0 && options.batch > 0, "Loader::new: size and batch must be at least 1");
        assert!([1, 3].contains(&options.channels), "Loader::new: {} channels are neither 1 nor 3", options.channels);
        assert!(u32::try_from(records.len()).is_ok(), "Loader::new: more than 2^32 records");
        let cache = Cache::new(records.len(), options.cache_bytes);
        let classes = records.iter().map(Record::label);
        let sequence = options.sampling.map(|sampling| Sequence::new(classes, sampling, options.seed));
        Loader { shared: Arc::new(Shared { records, sequence, options, cache, skipped: Mutex::default() }) }
    }

    /// The records, as [`Batch::indices`] count them.
    pub fn records(&self) -> &[Record] {
        &self.shared.records
    }

    /// The options it was made with.
    pub fn options(&self) -> &LoaderOptions {
        &self.shared.options
    }

    /// Batches in an epoch.
    pub fn batches(&self) -> usize {
        self.shared.batches()
    }

    /// The batches of `epoch` from number `from_batch` on, so that an interrupted epoch can be taken up again. A failing
    /// file gives its error in place of its batch, and ends the epoch. Dropping the iterator stops the workers.
    pub fn epoch(&self, epoch: u32, from_batch: usize) -> Epoch {
        Epoch::start(Arc::clone(&self.shared), epoch, from_batch)
    }

    /// The files left out so far, in order of the records; each once.
    pub fn skipped(&self) -> Vec<Skipped> {
        let skipped = self.shared.skipped.lock().expect("no holder of the lock panics");
        let named = |(&index, reason): (&u32, &String)| Skipped {
            name: self.shared.records[index as usize].name.clone(),
            reason: reason.clone(),
        };
        skipped.iter().map(named).collect()
    }
}

/// What all workers read.
struct Shared {
    records: Vec<Record>,
    sequence: Option<Sequence>,
    options: LoaderOptions,
    cache: Cache,
    skipped: Mutex<BTreeMap<u32, String>>,
}

impl Shared {
    /// Records in an epoch, before a last batch is dropped.
    fn turns(&self) -> usize {
        match (&self.sequence, self.options.batches) {
            (None, _) => self.records.len(),
            (Some(sequence), None) => sequence.whole(),
            (Some(_), Some(batches)) => batches * self.options.batch,
        }
    }

    fn batches(&self) -> usize {
        let (n, batch) = (self.turns(), self.options.batch);
        if self.options.drop_last { n / batch } else { n.div_ceil(batch) }
    }

    fn order(&self, epoch: u32) -> Vec<Turn> {
        let (turns, epoch) = (self.turns() as u64, u64::from(epoch));
        match &self.sequence {
            Some(sequence) => sequence.at(epoch * turns..(epoch + 1) * turns),
            None => (0..turns as u32).map(|record| Turn { record, pass: 0 }).collect(),
        }
    }

    /// The positions of batch `b` in the epoch's order.
    fn span(&self, b: usize) -> Range<usize> {
        let start = b * self.options.batch;
        start..(start + self.options.batch).min(self.turns())
    }

    /// The batch of these records, or `None` once `stop` is set.
    fn batch(&self, turns: &[Turn], stop: &AtomicBool) -> Option<Result<Batch>> {
        let LoaderOptions { size, channels, .. } = self.options;
        let area = size * size * channels;
        let mut batch = Batch { images: vec![0.0; turns.len() * area], size, ..Batch::default() };
        for &turn in turns {
            let index = turn.record;
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            let start = batch.len() * area;
            match self.write_image(turn, &mut batch.images[start..start + area]) {
                Ok(mask) => {
                    let record = &self.records[index as usize];
                    match &record.truth {
                        Truth::Class(class) => batch.targets.push(*class as f32),
                        Truth::Numbers(numbers) => batch.targets.extend(self.options.targets.apply(numbers)),
                        Truth::Masks(_) => batch.targets.extend(mask.into_iter().map(f32::from)),
                    }
                    batch.labels.push(record.label());
                    batch.inputs.extend(self.options.inputs.apply(&record.inputs));
                    batch.indices.push(index);
                }
                Err(e) if self.options.skip_bad => {
                    let mut skipped = self.skipped.lock().expect("no holder of the lock panics");
                    skipped.entry(index).or_insert_with(|| e.to_string());
                }
                Err(e) => return Some(Err(e)),
            }
        }
        batch.images.truncate(batch.len() * area);
        Some(Ok(batch))
    }

    /// Writes the image of a turn as that turn varies it, and gives its mask, varied alike.
    fn write_image(&self, turn: Turn, out: &mut [f32]) -> Result<Vec<u8>> {
        let index = turn.record;
        let LoaderOptions { size, channels, seed, augment, normalise, .. } = &self.options;
        let fitted = self.cache.get(index as usize, || Fitted::read(&self.records[index as usize], &self.options))?;
        let variation = augment.draw(*seed, turn.pass, index);
        let varied = variation.apply(&fitted.image.to_unit(), *size);
        match channels {
            1 => normalise.apply::<1>(&varied, out),
            _ => normalise.apply::<3>(&varied, out),
        }
        match fitted.mask.len() / (size * size) {
            0 => Ok(vec![]),
            k => Ok(variation.apply_mask(&fitted.mask, *size, k)),
        }
    }
}

/// An image and its mask, resized.
struct Fitted {
    image: Gray,
    /// `[size, size, structures]` of 0 and 1; empty where there is none.
    mask: Vec<u8>,
}

impl Fitted {
    /// Only the image is kept on disk; its mask is cheap to read beside it.
    fn read(record: &Record, options: &LoaderOptions) -> Result<Fitted> {
        let LoaderOptions { size, intensity, disk_cache, .. } = options;
        let image = match disk_cache {
            Some(cache) => cache.fitted(record, *size, *intensity),
            None => record.fitted(*size, *intensity),
        }?;
        let mask = match &record.truth {
            Truth::Masks(structures) if !structures.is_empty() => {
                let extent = record.extent()?;
                fit_mask(&record.mask(extent)?, extent, structures.len(), *size)
            }
            _ => vec![],
        };
        Ok(Fitted { image, mask })
    }

    fn bytes(&self) -> usize {
        self.image.bytes() + self.mask.len()
    }
}

/// Decoded and resized images, kept until the room is used up.
struct Cache {
    slots: Vec<OnceLock<Arc<Fitted>>>,
    used: AtomicUsize,
    limit: usize,
}

impl Cache {
    fn new(records: usize, limit: usize) -> Cache {
        Cache { slots: (0..records).map(|_| OnceLock::new()).collect(), used: AtomicUsize::new(0), limit }
    }

    fn get(&self, index: usize, make: impl FnOnce() -> Result<Fitted>) -> Result<Arc<Fitted>> {
        if let Some(image) = self.slots[index].get() {
            return Ok(Arc::clone(image));
        }
        let image = Arc::new(make()?);
        let grown = |used: usize| Some(used + image.bytes()).filter(|&total| total <= self.limit);
        if self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok() {
            // Two epochs at once may both have made it; either copy will do.
            let _ = self.slots[index].set(Arc::clone(&image));
        }
        Ok(image)
    }
}

/// The batches of one epoch, in order.
pub struct Epoch {
    shared: Arc<Shared>,
    order: Arc<Vec<Turn>>,
    /// Batch that the first worker began with.
    first: usize,
    next: usize,
    end: usize,
    stop: Arc<AtomicBool>,
    workers: Vec<Worker>,
}

struct Worker {
    batches: Receiver<Result<Batch>>,
    thread: JoinHandle<()>,
}

impl Epoch {
    fn start(shared: Arc<Shared>, epoch: u32, from_batch: usize) -> Epoch {
        let order = Arc::new(shared.order(epoch));
        let end = shared.batches();
        let stop = Arc::new(AtomicBool::new(false));
        let count = shared.options.workers.min(end.saturating_sub(from_batch));
        let worker = |w: usize| {
            let (shared, order, stop) = (Arc::clone(&shared), Arc::clone(&order), Arc::clone(&stop));
            let (sender, batches) = sync_channel(1);
            let make = move || {
                for b in (from_batch + w..end).step_by(count) {
                    let Some(batch) = shared.batch(&order[shared.span(b)], &stop) else { return };
                    // Sending fails once the epoch has been dropped.
                    if sender.send(batch).is_err() {
                        return;
                    }
                }
            };
            let thread = thread::Builder::new().name(format!("loader {w}")).spawn(make);
            Worker { batches, thread: thread.expect("the system starts a thread") }
        };
        let workers = (0..count).map(worker).collect();
        Epoch { shared, order, first: from_batch, next: from_batch, end, stop, workers }
    }

    /// Batch `next`, from the worker whose turn it is.
    fn produce(&mut self) -> Result<Batch> {
        if self.workers.is_empty() {
            let turns = &self.order[self.shared.span(self.next)];
            return self.shared.batch(turns, &self.stop).expect("only Drop sets stop");
        }
        let turn = (self.next - self.first) % self.workers.len();
        match self.workers[turn].batches.recv() {
            Ok(batch) => batch,
            // A worker hangs up early only by a panic: a bug, to be shown here.
            Err(_) => match self.workers.swap_remove(turn).thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => unreachable!("a worker ended before its last batch"),
            },
        }
    }
}

impl Iterator for Epoch {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        while self.next < self.end {
            let batch = self.produce();
            self.next = if batch.is_ok() { self.next + 1 } else { self.end };
            // All its files may have been skipped.
            if !batch.as_ref().is_ok_and(Batch::is_empty) {
                return Some(batch);
            }
        }
        None
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for Worker { batches, thread } in self.workers.drain(..) {
            drop(batches);
            // A worker that panicked has been reported by the panic hook; dropping must not panic again.
            let _ = thread.join();
        }
    }
}
