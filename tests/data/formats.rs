//! Every file of scripts/make_dicom_fixtures.py, and the real ones that a machine may have, read as pydicom, SimpleITK and
//! nibabel read them.

use roentgen::data::{
    Intensity, Pixels, Scan, Source,
    scan::{Color, Frame, Voi},
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Decoders of lossy JPEG upsample and round color in ways of their own.
const COLOR: f64 = 3.0;

fn scans() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/scans")
}

fn reference(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(scans().join(name)).unwrap()).unwrap()
}

fn reals(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// The largest difference between the values that the reference lists and ours.
fn apart(reference: &Value, ours: &[f64]) -> f64 {
    let step = reference["step"].as_u64().unwrap() as usize;
    let theirs = reals(&reference["values"]);
    assert_eq!(theirs.len(), ours.len().div_ceil(step));
    worst(theirs.into_iter().zip(ours.iter().copied().step_by(step)))
}

fn worst(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn digest(values: &[f64]) -> String {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn check_frame(frame: Frame, want: &Value, name: &str) {
    let channels = if frame.color == Color::Gray { 1 } else { 3 };
    let shape: Vec<usize> = want["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
    assert_eq!([frame.height, frame.width, channels][..shape.len()], shape, "{name}");
    assert_eq!(format!("{:?}", frame.color), want["color"].as_str().unwrap(), "{name}");
    // What is said of a volume is said of its physical values.
    let ours = if name.contains(".dcm") { frame.samples.to_f64() } else { frame.physical() };
    let exact = want.get("stored").is_some();
    if exact {
        assert_eq!(digest(&ours), want["stored"].as_str().unwrap(), "{name}: {:?}", &ours[..8]);
        if let Some(physical) = want.get("physical") {
            let ours = frame.physical();
            assert_eq!(digest(&ours), physical.as_str().unwrap(), "{name}: {:?}", &ours[..8]);
        }
    } else {
        let apart = apart(&want["about"], &ours);
        assert!(apart <= if channels == 3 { COLOR } else { 1.0 }, "{name} differs by {apart}");
    }
    if let Some(shown) = want.get("shown") {
        let narrowest = match frame.meaning.voi[0] {
            Voi::Window { width, .. } => width,
            Voi::Table(ref table) => table.entries.len() as f64,
        };
        let gray = frame.render(Intensity::FileWindow, name).unwrap();
        let Pixels::U16(pixels) = gray.pixels else { panic!("{name}: a window gives 16 bits") };
        let ours: Vec<f64> = pixels.into_iter().map(f64::from).collect();
        let apart = apart(shown, &ours);
        // A level more or less in a lossy file is this much once it is windowed.
        let allowed = if exact { 1.0 } else { 65535.0 / narrowest + 1.0 };
        assert!(apart <= allowed, "{name}: windowed values differ by {apart}");
    }
}

fn check_file(path: &Path, name: &str, want: &Value) {
    let bytes = Source::File(path.into()).read().unwrap();
    let scan = Scan::open(&bytes, name).unwrap();
    let facts = scan.facts();
    assert_eq!(facts.frames as u64, want["frames"].as_u64().unwrap(), "{name}");
    for (index, frame) in want["frame"].as_object().unwrap() {
        let index = index.parse().unwrap();
        check_frame(scan.frame(index).unwrap(), frame, &format!("{name}#{index}"));
    }
    if let Some(spacing) = want.get("spacing") {
        assert!(
            reals(spacing).iter().zip(facts.spacing).all(|(a, b)| (a - b).abs() < 1e-6),
            "{name}: {:?}",
            facts.spacing
        );
    }
    if let Some(affine) = want.get("affine").and_then(Value::as_array) {
        let want: Vec<f64> = affine.iter().flat_map(reals).collect();
        let ours = facts.affine.unwrap_or_else(|| panic!("{name} has no affine"));
        let apart = worst(want.into_iter().zip(ours.into_iter().flatten()));
        assert!(apart < 1e-5, "{name}: its affine differs by {apart}");
    }
}

#[test]
fn every_kind_of_scan_is_read_as_by_the_references() {
    let reference = reference("reference.json");
    let files = reference["files"].as_object().unwrap();
    files.iter().for_each(|(name, want)| check_file(&scans().join(name), name, want));
    assert_eq!(files.len(), 107);
}

#[test]
fn broken_scans_are_named_with_the_reason() {
    let reference = reference("reference.json");
    for (name, want) in reference["broken"].as_object().unwrap() {
        let bytes = Source::File(scans().join(name)).read().unwrap();
        let read = Scan::open(&bytes, name).and_then(|scan| scan.frame(scan.facts().frames - 1));
        let error = read.expect_err(name).to_string();
        assert!(error.starts_with(name.as_str()), "{error}");
        assert!(error.contains(want.as_str().unwrap()) && error.contains("\n  try: "), "{error}");
    }
}

/// Some files say that their color is halved, and hold all of it.
#[test]
fn whole_color_that_is_called_halved_is_read_whole() {
    let whole = fs::read(scans().join("ybr.dcm")).unwrap();
    let at = whole.windows(10).position(|bytes| bytes == b"\x08\0YBR_FULL").unwrap();
    let called = [&whole[..at], b"\x0c\0YBR_FULL_422", &whole[at + 10..]].concat();
    let frame = |bytes: &[u8]| Scan::open(bytes, "ybr").unwrap().frame(0).unwrap();
    assert_eq!(frame(&called), frame(&whole));
}

/// What a lossy transfer syntax leaves near 0 marks nothing.
#[test]
fn masks_in_lossy_dicom_are_known() {
    for (name, lossy) in [
        ("jpeg_gray.dcm", true),
        ("jpeg_ybr.dcm", true),
        ("jpeg_12bit.dcm", true),
        ("jpegls_near.dcm", true),
        ("j2k_lossy.dcm", true),
        ("lossless_u8.dcm", false),
        ("jpegls_u8.dcm", false),
        ("j2k_u8.dcm", false),
        ("rle_u8.dcm", false),
        ("u8.dcm", false),
    ] {
        let bytes = fs::read(scans().join(name)).unwrap();
        assert_eq!(Scan::open(&bytes, name).unwrap().frame(0).unwrap().meaning.lossy, lossy, "{name}");
    }
}

/// Real files, where the machine has them: those that pydicom reads equal it, the others are refused by name or, where
/// this reader does more, read.
#[test]
fn real_dicom_files_are_read_as_by_pydicom() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/dicom_fixtures");
    if !root.exists() {
        return;
    }
    let reference = reference("real.json");
    for (name, want) in reference["files"].as_object().unwrap() {
        check_file(&root.join(name), name, want);
    }
    for (name, _) in reference["unread"].as_object().unwrap() {
        let bytes = fs::read(root.join(name)).unwrap();
        if let Err(error) = Scan::open(&bytes, name).and_then(|scan| scan.frame(0)) {
            assert!(error.to_string().starts_with(&format!("{name} is a DICOM file that cannot be read: ")), "{error}");
        }
    }
}
