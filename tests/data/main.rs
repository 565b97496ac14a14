//! The path from files to batches.

#[path = "../common/clock.rs"]
mod clock;
mod datasets;
mod formats;
mod hostile;
mod intensity;
mod loader;
mod luna;
mod parity;
mod speed;
mod splits;
mod tasks;
mod volumes;

use roentgen::{
    data::{Batch, Dataset, Record, Source, Truth},
    device::{DType, cpu::Cpu},
    ops::augment::{Change, Edge, Input, augment, augment_masks},
    tape::Tape,
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A folder of the fixtures that scripts/make_data_fixtures.py made.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data")
}

/// A real dataset that a machine may have beside the repository.
fn brain_mri() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/brain_tumor_mri");
    path.exists().then_some(path)
}

/// The test picture of the fixtures' script: `levels` gray values from 0, row by row.
fn pattern(width: usize, height: usize, levels: usize) -> Vec<u16> {
    let value = |x: usize, y: usize| x * 977 + y * 1531 + x * y * 7919 / 64 + (x / 5) * (y / 3) * 4099;
    let at = |i: usize| (value(i % width, i / width) * levels / 65536 % levels) as u16;
    (0..width * height).map(at).collect()
}

/// The images of a batch as a network of so many channels gets them, and their masks.
fn seen(batch: &Batch, channels: usize) -> (Vec<f64>, Vec<f64>) {
    let tape = Tape::new(&Cpu::new(1 << 26), false);
    let (n, size) = (batch.len(), batch.size);
    let pixels = tape.upload(&[n, size, size, batch.bytes], DType::U8, &batch.pixels);
    let changes = tape.upload(&[n, Change::LEN], DType::U32, bytemuck::cast_slice(&batch.changes));
    let [mean, std] = [batch.normalise.mean, batch.normalise.std].map(|of| of[..channels].to_vec());
    let input = Input { bytes: batch.bytes, size: (size, size), edge: Edge::Zero, mean, std, dtype: DType::F64 };
    let images = augment(&pixels, &changes, &input).to_vec().unwrap();
    if batch.masks.is_empty() {
        return (images, vec![]);
    }
    let masks = tape.upload(&[n, size, size, batch.masks.len() / (n * size * size)], DType::U8, &batch.masks);
    (images, augment_masks(&masks, &changes, DType::F64).to_vec().unwrap())
}

/// A gray PNG whose pixels differ from those of every other seed.
fn png_bytes(seed: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 8, 8);
    encoder.set_color(png::ColorType::Grayscale);
    let pixels: Vec<u8> = (0..64).map(|i| ((i * (seed % 97 + 3) + seed / 97 * 29 + seed) % 251) as u8).collect();
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    bytes
}

fn write(path: PathBuf, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Three images in each of two classes.
fn small_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..6 {
        write(folder.path().join(["cat", "dog"][i % 2]).join(format!("{i}.png")), png_bytes(i));
    }
    folder
}

/// A dataset in memory of the given (label, group) pairs; its images cannot be read.
fn listed(rows: impl Iterator<Item = (usize, Option<String>)>) -> Dataset {
    let record = |(i, (label, group))| Record {
        name: format!("{i:05}"),
        truth: Truth::Class(label as u32),
        inputs: vec![],
        group,
        split: None,
        source: Source::Embedded(b""),
        fingerprint: None,
    };
    let records: Vec<Record> = rows.enumerate().map(record).collect();
    let classes = records.iter().map(|r| r.label() + 1).max().unwrap();
    Dataset {
        origin: "test".into(),
        classes: (0..classes).map(|c| format!("class {c}")).collect(),
        records,
        ..Dataset::default()
    }
}
