//! A measurement, not a test: `cargo test --release --test data -- --ignored --nocapture`

use roentgen::data::{Augment, Dataset, Fractions, Intensity, Loader, LoaderOptions, Sampling, Scan, Split, split};
use std::{collections::BTreeMap, env, fs, path::Path, time::Instant};

#[test]
#[ignore = "a measurement, not a test"]
fn images_per_second() {
    let Some(root) = crate::brain_mri() else { return };
    let mut dataset = Dataset::open(&root).unwrap();
    let start = Instant::now();
    dataset.verify(Intensity::Auto, false).unwrap();
    println!("verify: {:.0} images/s", dataset.records.len() as f64 / start.elapsed().as_secs_f64());
    split::assign(&mut dataset, &Fractions::default(), 1).unwrap();
    for workers in [0, 1, 2] {
        let options = LoaderOptions {
            augment: Augment::default(),
            sampling: Some(Sampling::Natural),
            workers,
            ..Default::default()
        };
        let loader = Loader::new(dataset.subset(Split::Train), options);
        for (epoch, state) in ["cold", "cached"].into_iter().enumerate() {
            let start = Instant::now();
            let images: usize = loader.epoch(epoch as u32, 0).map(|batch| batch.unwrap().len()).sum();
            println!("{workers} workers, {state}: {:.0} images/s", images as f64 / start.elapsed().as_secs_f64());
        }
    }
}

/// Beside scripts/time_pydicom.py; `DICOM_FOLDER` names the files.
#[test]
#[ignore = "a measurement, not a test"]
fn dicom_files_per_second() {
    const SECONDS: f64 = 0.25;
    let Ok(root) = env::var("DICOM_FOLDER") else { return };
    let mut times: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut pending = vec![Path::new(&root).to_path_buf()];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let read = || -> roentgen::Result<String> {
            let bytes = fs::read(&path).unwrap();
            let scan = Scan::open(&bytes, "file")?;
            scan.frame(scan.middle())?.render(Intensity::Auto, "file")?;
            Ok(scan.facts().format.clone())
        };
        let Ok(format) = read() else { continue };
        let (start, mut runs) = (Instant::now(), 0);
        while start.elapsed().as_secs_f64() < SECONDS {
            read().unwrap();
            runs += 1;
        }
        times.entry(format).or_default().push(start.elapsed().as_secs_f64() / f64::from(runs));
    }
    times.insert("all".into(), times.values().flatten().copied().collect());
    for (format, seconds) in times {
        let (files, total) = (seconds.len(), seconds.iter().sum::<f64>());
        println!("{format:32} {files:3} files  {:8.1} frames/s", files as f64 / total);
    }
}
