//! Batches depend on seed, epoch and index, and on nothing else.

use crate::{png_bytes, seen, write};
use roentgen::{
    data::{
        Augment, Batch, Dataset, DiskCache, Intensity, Loader, LoaderOptions, Normalise, Pixels, Sampling,
        sampling::Turn,
    },
    ops::augment::Change,
    train::Objective,
};
use std::{
    fs,
    time::{Duration, Instant},
};

/// 25 images in two classes, one of them broken if asked for.
fn folder(broken: bool) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..25 {
        let bytes = if broken && i == 7 { b"not an image".to_vec() } else { png_bytes(i) };
        write(folder.path().join(["a", "b"][i % 2]).join(format!("{i:02}.png")), bytes);
    }
    folder
}

fn options() -> LoaderOptions {
    LoaderOptions {
        size: 12,
        batch: 4,
        seed: 9,
        workers: 2,
        augment: Augment::default(),
        normalise: Normalise::imagenet(),
        sampling: Some(Sampling::Natural),
        ..LoaderOptions::default()
    }
}

fn loader(folder: &tempfile::TempDir, options: LoaderOptions) -> Loader {
    Loader::new(Dataset::open(folder.path()).unwrap().records, options)
}

fn epoch(loader: &Loader, epoch: u32) -> Vec<Batch> {
    loader.epoch(epoch, 0).map(|batch| batch.unwrap()).collect()
}

#[test]
fn workers_and_cache_change_nothing() {
    let folder = folder(false);
    let reference = loader(&folder, LoaderOptions { workers: 0, cache_bytes: 0, ..options() });
    let (first, second) = (epoch(&reference, 0), epoch(&reference, 1));
    assert_ne!(first, second);
    for workers in [0, 1, 2, 4, 16] {
        for cache_bytes in [0, 1000, 1 << 20] {
            let loader = loader(&folder, LoaderOptions { workers, cache_bytes, ..options() });
            for _ in 0..2 {
                assert_eq!(epoch(&loader, 0), first, "{workers} workers, {cache_bytes} bytes of cache");
            }
            assert_eq!(epoch(&loader, 1), second, "{workers} workers, {cache_bytes} bytes of cache");
        }
    }
    let other = loader(&folder, LoaderOptions { seed: 10, ..options() });
    assert_ne!(epoch(&other, 0), first);
}

#[test]
fn a_cache_on_disk_changes_nothing_and_is_used() {
    let (folder, kept) = (folder(false), tempfile::tempdir().unwrap());
    let mut dataset = Dataset::open(folder.path()).unwrap();
    dataset.verify(Intensity::Auto, false).unwrap();
    let disk_cache = Some(DiskCache::open(&kept.path().join("cache")).unwrap());
    let cached = |workers, size| {
        let options = LoaderOptions { workers, size, disk_cache: disk_cache.clone(), ..options() };
        epoch(&Loader::new(dataset.records.clone(), options), 0)
    };
    let plain = epoch(&loader(&folder, options()), 0);
    assert_eq!(cached(4, 12), plain);
    let files = || -> Vec<_> {
        let parts = fs::read_dir(kept.path().join("cache")).unwrap().map(|part| part.unwrap().path());
        parts.flat_map(|part| fs::read_dir(part).unwrap()).map(|file| file.unwrap().path()).collect()
    };
    assert_eq!(files().len(), 25);
    // Another size is another image; one that was damaged is made again.
    assert_ne!(cached(2, 13), plain);
    assert_eq!(files().len(), 50);
    for (i, file) in files().iter().enumerate() {
        let mut bytes = fs::read(file).unwrap();
        bytes[30] ^= 1;
        fs::write(file, &bytes[..bytes.len() - i % 2 * 3]).unwrap();
    }
    assert_eq!(cached(2, 12), plain);
    // The images themselves are not needed any more.
    fs::remove_dir_all(folder.path().join("a")).unwrap();
    for workers in [0, 1, 3] {
        assert_eq!(cached(workers, 12), plain);
    }
}

#[test]
fn an_epoch_shows_every_image_once() {
    let folder = folder(false);
    let loader = loader(&folder, options());
    let batches = epoch(&loader, 3);
    assert!(batches[0].indices != epoch(&loader, 4)[0].indices, "epochs differ in their order");
    assert_eq!(loader.batches(), 7);
    assert_eq!(batches.iter().map(Batch::len).collect::<Vec<_>>(), [4, 4, 4, 4, 4, 4, 1]);
    let mut seen: Vec<u32> = batches.iter().flat_map(|b| b.indices.clone()).collect();
    assert_ne!(seen, (0..25).collect::<Vec<_>>());
    seen.sort();
    assert_eq!(seen, (0..25).collect::<Vec<_>>());
    for batch in &batches {
        assert_eq!((batch.pixels.len(), batch.bytes, batch.size), (batch.len() * 12 * 12, 1, 12));
        let labels = batch.indices.iter().map(|&i| loader.records()[i as usize].label());
        assert!(batch.labels.iter().copied().eq(labels));
    }
}

#[test]
fn full_batches_only_if_asked() {
    let folder = folder(false);
    let loader = loader(&folder, LoaderOptions { drop_last: true, ..options() });
    assert_eq!(loader.batches(), 6);
    assert!(epoch(&loader, 0).iter().all(|batch| batch.len() == 4));
}

#[test]
fn an_epoch_taken_up_again_is_the_tail_of_the_whole() {
    let folder = folder(false);
    let loader = loader(&folder, options());
    let whole = epoch(&loader, 2);
    for from in 0..=8 {
        let tail: Vec<Batch> = loader.epoch(2, from).map(|batch| batch.unwrap()).collect();
        assert_eq!(tail, whole[from.min(7)..], "from batch {from}");
    }
}

#[test]
fn without_variation_a_batch_holds_the_files_as_read() {
    let folder = folder(false);
    let loader = loader(&folder, LoaderOptions { augment: Augment::none(), sampling: None, ..options() });
    for batch in epoch(&loader, 5) {
        assert!(batch.changes.iter().all(|&change| Change { partner: 0, ..change } == Change::NONE));
        for (image, &index) in batch.pixels.chunks_exact(12 * 12).zip(&batch.indices) {
            let gray = loader.records()[index as usize].fitted(12, Intensity::Auto).unwrap();
            assert_eq!(gray.pixels, Pixels::U8(image.to_vec()));
        }
    }
}

#[test]
fn a_bad_file_ends_the_epoch_in_its_place() {
    let folder = folder(true);
    for workers in [0, 1, 3] {
        let loader = loader(&folder, LoaderOptions { sampling: None, workers, ..options() });
        // Class a holds 13 images, so b/07.png is record 16, in batch 4.
        let results: Vec<_> = loader.epoch(0, 0).collect();
        assert_eq!(results.len(), 5);
        assert!(results[..4].iter().all(Result::is_ok));
        let error = results[4].as_ref().unwrap_err().to_string();
        assert!(error.contains("b/07.png holds text"), "{error}");
    }
}

#[test]
fn bad_files_are_left_out_and_noted_if_asked() {
    let folder = folder(true);
    let reference = loader(&folder, LoaderOptions { skip_bad: true, workers: 0, ..options() });
    let batches = epoch(&reference, 0);
    assert_eq!(batches.iter().map(Batch::len).sum::<usize>(), 24);
    for workers in [1, 4] {
        let loader = loader(&folder, LoaderOptions { skip_bad: true, workers, ..options() });
        assert_eq!(epoch(&loader, 0), batches);
        epoch(&loader, 1);
        let skipped = loader.skipped();
        assert_eq!(skipped.len(), 1);
        assert!(skipped[0].name == "b/07.png" && skipped[0].reason.contains("holds text"), "{skipped:?}");
    }
    // A batch of which nothing is left is passed over.
    let lone = loader(&folder, LoaderOptions { skip_bad: true, batch: 1, ..options() });
    assert_eq!(epoch(&lone, 0).len(), 24);
}

#[test]
fn dropping_an_epoch_early_stops_its_workers() {
    let folder = folder(false);
    let loader = loader(&folder, LoaderOptions { workers: 4, batch: 1, ..options() });
    let start = Instant::now();
    for taken in 0..25 {
        assert_eq!(loader.epoch(0, 0).take(taken).count(), taken);
    }
    assert!(start.elapsed() < Duration::from_secs(20), "dropping took {:?}", start.elapsed());
}

const EVERYTHING: Augment = Augment {
    flip: 0.5,
    flip_vertical: 0.25,
    rotation: 15.0,
    translation: 0.1,
    scale: [0.8, 1.2],
    shear: 10.0,
    brightness: [0.8, 1.2],
    contrast: [0.8, 1.3],
    gamma: [0.7, 1.5],
    noise: 0.1,
    cutout: 0.5,
    mixup: 0.4,
    cutmix: 1.0,
};

#[test]
fn variations_have_the_asked_moments() {
    let turn = |record| Turn { record, pass: 2 };
    let draws: Vec<Change> = (0..4000).map(|i| EVERYTHING.draw(1, turn(i), 100, 0.25)).collect();
    let mean = |of: &dyn Fn(&Change) -> f32| draws.iter().map(of).sum::<f32>() / draws.len() as f32;
    let near = |got: f32, want: f32, tolerance: f32| assert!((got - want).abs() < tolerance, "{got} for {want}");
    // The second row of the matrix, [sin, cos] / scale, is turned by the vertical flip alone.
    let [sin, cos] = [0, 1].map(|i| move |change: &Change| change.affine[1][i]);
    let share = |holds: &dyn Fn(&Change) -> bool| mean(&|change| f32::from(u8::from(holds(change))));
    near(share(&|change| cos(change) < 0.0), 0.25, 0.03);
    let determinant = |change: &Change| change.affine[0][0] * cos(change) - change.affine[0][1] * sin(change);
    near(share(&|change| determinant(change) < 0.0), 0.5 * 0.75 + 0.5 * 0.25, 0.03);
    let degrees = |change: &Change| (sin(change) / cos(change)).atan().to_degrees();
    near(mean(&degrees), 0.0, 0.6);
    near(mean(&|change| degrees(change).powi(2)), 75.0, 3.0);
    // Areas grow with the square of the scale.
    let scale = |change: &Change| determinant(change).abs().powf(-0.5);
    near(mean(&scale), 1.0, 0.01);
    assert!(draws.iter().all(|change| degrees(change).abs() <= 15.001 && (0.799..1.201).contains(&scale(change))));
    near(mean(&|change| change.affine[1][2].powi(2)), 10.0f32.powi(2) / 3.0 * (1.0 / 0.8 - 1.0 / 1.2) / 0.4, 3.0);
    near(mean(&|change| change.brightness), 1.0, 0.01);
    near(mean(&|change| change.contrast), 1.05, 0.01);
    near(mean(&|change| change.pivot), 0.25, 0.003);
    near(mean(&|change| change.gamma), 1.1, 0.02);
    near(mean(&|change| change.noise), 0.05, 0.002);
    near(
        mean(&|change| (change.cutout.rows[1] - change.cutout.rows[0]) as f32),
        25.0 - 25.0f32.powi(2) / 3.0 / 100.0,
        2.5,
    );
    // Half of the images are mixed as a whole, with shares of variance 1 / (4 (2 α + 1)); half have a patch.
    let whole: Vec<f32> = draws.iter().map(|change| change.share).filter(|&share| share < 1.0).collect();
    near(whole.len() as f32 / 4000.0, 0.5, 0.03);
    near(whole.iter().map(|share| (share - 0.5).powi(2)).sum::<f32>() / whole.len() as f32, 0.25 / 1.8, 0.006);
    assert!(draws.iter().all(|change| (change.share < 1.0) != (change.patch.area() > 0) || change.share == 1.0));
    near(mean(&|change| f32::from(u8::from(change.patch.area() > 0))), 0.5, 0.03);
    let draw = |turn| EVERYTHING.draw(1, turn, 100, 0.25);
    assert_eq!(draw(turn(3)), draw(turn(3)));
    assert_ne!(draw(turn(3)), draw(Turn { record: 3, pass: 3 }));
    assert_eq!(Augment::none().draw(1, turn(3), 9, 0.5), Change::NONE);
}

#[test]
fn targets_are_mixed_as_their_images() {
    let folder = folder(false);
    for mixing in [Augment { mixup: 0.4, ..Augment::none() }, Augment { cutmix: 1.0, ..Augment::none() }] {
        let loader = loader(&folder, LoaderOptions { augment: mixing, normalise: Normalise::none(), ..options() });
        let mut mixtures = 0;
        for batch in epoch(&loader, 0) {
            // Black images of one class and white ones of the other: the mean intensity is the share of the second.
            let pixels = batch.labels.iter().flat_map(|&label| vec![255 * label as u8; 12 * 12]).collect();
            let batch = Batch { pixels, ..batch };
            let classes = Objective::CrossEntropy { class_weights: vec![1.0; 2], label_smoothing: 0.0 }.numbers(&batch);
            let images = seen(&batch, 1).0;
            for (i, (image, target)) in images.chunks(12 * 12).zip(classes.chunks(2)).enumerate() {
                let white = image.iter().sum::<f64>() as f32 / 144.0;
                assert!((target[1] - white).abs() < 1e-5 && (target[0] + target[1] - 1.0).abs() < 1e-6, "{target:?}");
                assert_eq!(batch.leading_label(i), u32::from(white > 0.5), "{target:?}");
                mixtures += usize::from((0.02..0.98).contains(&white));
            }
            assert_eq!(batch.mixed(&batch.targets), classes.iter().skip(1).step_by(2).copied().collect::<Vec<_>>());
        }
        assert!(mixtures >= 3, "only {mixtures} of 25 images are of both classes");
    }
}

#[test]
fn senseless_augmentation_is_refused() {
    let default = Augment::default();
    assert!(default.check().is_ok() && Augment::none().check().is_ok());
    for (augment, part) in [
        (Augment { flip: 1.5, ..default }, "augment.flip cannot be 1.5"),
        (Augment { rotation: -1.0, ..default }, "augment.rotation cannot be -1"),
        (Augment { translation: f32::NAN, ..default }, "augment.translation cannot be NaN"),
        (Augment { mixup: 5.0, ..default }, "augment.mixup cannot be 5"),
        (Augment { cutmix: 1e-12, ..default }, "between 0 and 0.02"),
        (Augment { brightness: [1.2, 0.8], ..default }, "augment.brightness cannot be [1.2, 0.8]"),
        (Augment { contrast: [0.8, f32::NAN], ..default }, "augment.contrast cannot be [0.8, NaN]"),
        (Augment { scale: [0.0, 1.0], ..default }, "augment.scale cannot be [0.0, 1.0]"),
    ] {
        let error = augment.check().unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("\n  try: "), "{error}");
    }
}
