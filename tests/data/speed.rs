//! Measurements, not tests: `cargo test --release --test data -- --ignored --nocapture`

use crate::clock::worked;
use roentgen::{
    data::{
        Augment, Batch, Dataset, DiskCache, Fractions, Intensity, Loader, LoaderOptions, Sampling, Scan, Split, split,
    },
    device::{DType, Device, cpu::Cpu},
    ops::augment::{Change, Edge, Input, augment},
    tape::Tape,
};
use std::{env, fs, hint::black_box, path::PathBuf, sync::Arc, time::Instant};

/// Megabytes of memory that the program has now, where the system tells.
fn resident() -> f64 {
    let kilobytes = || -> Option<f64> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?.parse().ok()
    };
    kilobytes().map_or(f64::NAN, |kilobytes| kilobytes / 1024.0)
}

/// Training images of the folder that `IMAGE_FOLDER` names, or of the real dataset beside the repository.
fn folder() -> Option<Dataset> {
    let root = env::var("IMAGE_FOLDER").ok().map(PathBuf::from).or_else(crate::brain_mri)?;
    let mut dataset = Dataset::open(&root).unwrap();
    dataset.verify(Intensity::Auto, true).unwrap();
    split::assign(&mut dataset, &Fractions { validation: 0.0, test: 0.0 }, 1).unwrap();
    Some(dataset)
}

fn options() -> LoaderOptions {
    let size = env::var("SIZE").map_or(112, |size| size.parse().unwrap());
    LoaderOptions {
        size,
        augment: Augment::default(),
        sampling: Some(Sampling::Natural),
        workers: 0,
        ..Default::default()
    }
}

/// What a network of three channels is given of `batch`, on the CPU.
fn fed(device: &Arc<dyn Device>, batch: &Batch) {
    let tape = Tape::new(device, false);
    let (n, size) = (batch.len(), batch.size);
    let pixels = tape.upload(&[n, size, size, batch.bytes], DType::U8, &batch.pixels);
    let changes = tape.upload(&[n, Change::LEN], DType::U32, bytemuck::cast_slice(&batch.changes));
    let (mean, std) = (batch.normalise.mean.to_vec(), batch.normalise.std.to_vec());
    let input = Input { bytes: batch.bytes, size: (size, size), edge: Edge::Zero, mean, std, dtype: DType::F32 };
    black_box(augment(&pixels, &changes, &input));
}

/// Beside benches/peer/loading.py: images are read, decoded, resized, batched and varied.
#[test]
#[ignore = "a measurement, not a test"]
fn augmented_images_per_second() {
    let Some(dataset) = folder() else { return };
    let device = Cpu::new(1 << 30);
    let loader = Loader::new(dataset.subset(Split::Train), LoaderOptions { cache_bytes: 0, ..options() });
    let start = Instant::now();
    let (mut images, before) = (0, worked());
    for batch in loader.epoch(0, 0) {
        let batch = batch.unwrap();
        fed(&device, &batch);
        images += batch.len();
    }
    let (seconds, wall) = (worked() - before, start.elapsed().as_secs_f64());
    println!("{:.0} images/s of processor time, {:.0} of wall time", images as f64 / seconds, images as f64 / wall);
}

/// Epochs of loading, the first of which decodes, and the memory after them.
#[test]
#[ignore = "a measurement, not a test"]
fn epochs_from_the_cache() {
    const EPOCHS: u32 = 20;
    let Some(dataset) = folder() else { return };
    let cache = tempfile::tempdir().unwrap();
    let on_disk =
        LoaderOptions { cache_bytes: 0, disk_cache: Some(DiskCache::open(cache.path()).unwrap()), ..options() };
    for (name, options) in
        [("memory", options()), ("disk", on_disk), ("none", LoaderOptions { cache_bytes: 0, ..options() })]
    {
        let loader = Loader::new(dataset.subset(Split::Train), options);
        let (mut images, start) = (0, worked());
        let mut ends = vec![];
        for epoch in 0..EPOCHS {
            images += loader.epoch(epoch, 0).map(|batch| batch.unwrap().len()).sum::<usize>();
            ends.push((worked() - start, resident()));
        }
        let (images, first, all) = (images as f64, ends[0].0, ends[ends.len() - 1].0);
        let later = (all - first) / f64::from(EPOCHS - 1);
        let rate = |seconds: f64| images / f64::from(EPOCHS) / seconds;
        println!(
            "cache {name:6}: {:.0} images/s, then {:.0}: {:.1} times as many",
            rate(first),
            rate(later),
            first / later
        );
        for at in [1, 2, 5, 10, EPOCHS as usize] {
            println!("    {:.1} MB after epoch {at}", ends[at - 1].1);
        }
    }
}

/// For scripts/time_pydicom.py: processor time of each file that is read in the folder `DICOM_FOLDER`.
#[test]
#[ignore = "a measurement, not a test"]
fn dicom_files_per_second() {
    const SECONDS: f64 = 0.5;
    let Ok(root) = env::var("DICOM_FOLDER") else { return };
    let mut pending = vec![PathBuf::from(root)];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let read = || -> roentgen::Result<()> {
            let bytes = fs::read(&path).unwrap();
            let scan = Scan::open(&bytes, "file")?;
            scan.frame(scan.middle())?.render(Intensity::Auto, "file").map(drop)
        };
        if read().is_err() {
            continue;
        }
        let start = Instant::now();
        let (before, mut runs) = (worked(), 0);
        while start.elapsed().as_secs_f64() < SECONDS {
            read().unwrap();
            runs += 1;
        }
        println!("{:.4} ms {}", (worked() - before) * 1e3 / f64::from(runs), path.display());
    }
}
