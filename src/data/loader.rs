//! Records to batches, on threads of their own.
//!
//! Batch `b` of an epoch is a function of the options, the records, the seed, the epoch and `b`. Worker `w` of `W` makes the
//! batches `w, w + W, ...` and hands each over through a channel of one place; the consumer asks the workers in turn. So
//! batches come in order, at most `2 W` exist ahead of the consumer, and neither the number of workers nor their speed
//! can change one.

use super::{
    augment::Augment,
    batch::Batch,
    cache::DiskCache,
    decode::{Gray, Pixels},
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

/// Turns records into batches, epoch by epoch.
pub struct Loader {
    shared: Arc<Shared>,
}

impl Loader {
    /// A loader of `records` (say, those of one split). Panics if size or batch is 0.
    #[track_caller]
    pub fn new(records: Vec<Record>, options: LoaderOptions) -> Loader {
        assert!(options.size > 0 && options.batch > 0, "Loader::new: size and batch must be at least 1");
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
        let LoaderOptions { size, seed, augment, normalise, .. } = &self.options;
        let mut batch = Batch { size: *size, normalise: *normalise, ..Batch::default() };
        let mut images = Vec::with_capacity(turns.len());
        for &turn in turns {
            let index = turn.record;
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            let record = &self.records[index as usize];
            match self.cache.get(index as usize, || Fitted::read(record, &self.options)) {
                Ok(fitted) => {
                    match &record.truth {
                        Truth::Class(class) => batch.targets.push(*class as f32),
                        Truth::Numbers(numbers) => batch.targets.extend(self.options.targets.apply(numbers)),
                        Truth::Masks(_) => batch.masks.extend(&fitted.mask),
                    }
                    batch.changes.push(augment.draw(*seed, turn, *size, fitted.mean));
                    batch.labels.push(record.label());
                    batch.inputs.extend(self.options.inputs.apply(&record.inputs));
                    batch.indices.push(index);
                    images.push(fitted);
                }
                Err(e) if self.options.skip_bad => {
                    let mut skipped = self.skipped.lock().expect("no holder of the lock panics");
                    skipped.entry(index).or_insert_with(|| e.to_string());
                }
                Err(e) => return Some(Err(e)),
            }
        }
        let n = images.len() as u32;
        (0..).zip(&mut batch.changes).for_each(|(i, change)| change.partner = (i + 1) % n);
        (batch.pixels, batch.bytes) = stored(&images);
        Some(Ok(batch))
    }
}

/// The values of images one after the other, and the bytes of one: 1 if all have 8 bit, else 2.
fn stored(images: &[Arc<Fitted>]) -> (Vec<u8>, usize) {
    let narrow = images.iter().map(|fitted| match &fitted.image.pixels {
        Pixels::U8(values) => Some(&values[..]),
        Pixels::U16(_) => None,
    });
    if let Some(all) = narrow.collect::<Option<Vec<&[u8]>>>() {
        return (all.concat(), 1);
    }
    let wide = |fitted: &Arc<Fitted>| match &fitted.image.pixels {
        Pixels::U8(values) => values.iter().map(|&v| u16::from(v) * (u16::MAX / u16::from(u8::MAX))).collect(),
        Pixels::U16(values) => values.clone(),
    };
    (bytemuck::cast_slice(&images.iter().flat_map(wide).collect::<Vec<u16>>()).to_vec(), 2)
}

/// An image and its mask, resized.
struct Fitted {
    image: Gray,
    /// Mean intensity.
    mean: f32,
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
                fit_mask(&record.mask(extent)?, (extent.width, extent.height), structures.len(), *size)
            }
            _ => vec![],
        };
        let mean = image.mean();
        Ok(Fitted { image, mean, mask })
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
