//! Stored values to gray, as pydicom and numpy have them.

use crate::{fixtures, pattern, write};
use roentgen::{
    data::{Dataset, Gray, Intensity, Pixels, Source, fit_plain},
    train::Config,
};
use serde_json::Value;
use std::{fs, path::Path};

fn scans() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/scans")
}

fn reference(part: &str) -> Vec<Value> {
    let text = fs::read_to_string(scans().join("reference.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[part].as_array().unwrap().clone()
}

fn levels(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect()
}

fn values(gray: &Gray) -> Vec<i64> {
    match &gray.pixels {
        Pixels::U8(values) => values.iter().map(|&v| v.into()).collect(),
        Pixels::U16(values) => values.iter().map(|&v| v.into()).collect(),
    }
}

fn render(path: &Path, intensity: Intensity) -> roentgen::Result<Gray> {
    let source = Source::File(path.into());
    source.decode(&source.read()?, &path.display().to_string(), intensity)
}

fn rule(text: &str) -> Intensity {
    text.parse().unwrap()
}

#[test]
fn every_rule_is_that_of_the_reference() {
    let cases = reference("recipes");
    for case in &cases {
        let (file, recipe) = (case["file"].as_str().unwrap(), case["recipe"].as_str().unwrap());
        let gray = render(&scans().join(file), rule(recipe)).unwrap();
        // Eight bits shown as they are stay eight bits.
        let kept = (file, recipe) == ("window_none.dcm", "stored");
        assert_eq!(matches!(gray.pixels, Pixels::U8(_)), kept || recipe == "study", "{file} by {recipe}");
        let (ours, theirs) = (values(&gray), levels(&case["levels"]));
        let scale = if kept { 257 } else { 1 };
        let worst = ours.iter().zip(theirs).map(|(a, b)| (a * scale - b).abs()).max().unwrap();
        assert!(worst <= i64::from(recipe != "study"), "{file} by {recipe} differs by {worst}");
    }
    assert_eq!(cases.len(), 38);
}

#[test]
fn auto_goes_by_what_the_file_is() {
    let same = |file: &str, other: &str| {
        let path = scans().join(file);
        assert_eq!(render(&path, Intensity::Auto).unwrap(), render(&path, rule(other)).unwrap(), "{file} by {other}");
    };
    same("s16_ct.dcm", "window");
    same("voi_lut.dcm", "window");
    same("u8.dcm", "stored");
    same("rgb.dcm", "stored");
    same("rle_s16.dcm", "percentile:0.5,99.5");
    same("meta_u1.mha", "stored");
    same("meta_i2.mha", "percentile:0.5,99.5");
    same("nifti_scaled.nii", "percentile:0.5,99.5");
    assert_eq!(render(&fixtures().join("gray16.png"), Intensity::Auto).unwrap().bytes(), 2 * 21 * 13);
    let mut ct = fs::read(scans().join("s16_ct.dcm")).unwrap();
    // Without its window (both tags renamed), a CT is shown by its units.
    for tag in [b"\x28\0\x50\x10", b"\x28\0\x51\x10"] {
        let at = ct.windows(4).position(|four| four == tag).unwrap();
        ct[at + 3] = 0x77;
    }
    let folder = tempfile::tempdir().unwrap();
    write(folder.path().join("ct.dcm"), ct);
    let path = folder.path().join("ct.dcm");
    let (auto, units) = (render(&path, Intensity::Auto).unwrap(), render(&path, Intensity::CT).unwrap());
    assert_eq!(auto, units);
    for asked in [Intensity::FileWindow, Intensity::Study] {
        let error = render(&path, asked).unwrap_err().to_string();
        assert!(error.contains("proposes no window") && error.contains("--intensity"), "{error}");
    }
}

#[test]
fn computed_radiographs_are_inverted_for_the_study_unless_it_is_said_not_to() {
    let whole = fs::read(scans().join("u12.dcm")).unwrap();
    let at = whole.windows(4).position(|four| four == b"CS\x02\0").unwrap();
    let mut radiograph = whole.clone();
    radiograph[at + 4..at + 6].copy_from_slice(b"CR");
    let source = Source::Embedded(b"");
    let render = |bytes: &[u8]| values(&source.decode(bytes, "x", Intensity::Study).unwrap());
    let sums: Vec<i64> = render(&whole).iter().zip(render(&radiograph)).map(|(a, b)| a + b).collect();
    assert!(sums.iter().all(|&sum| sum == 255));
}

#[test]
fn rules_are_written_as_they_are_read() {
    for text in [
        "auto",
        "stored",
        "window",
        "window:40,400",
        "range:-1000,400.5",
        "percentile:0.5,99.5",
        "min-max",
        "z-score",
        "study",
    ] {
        assert_eq!(rule(text).to_string(), text);
        let config = Config { intensity: rule(text), ..Config::default() };
        let toml = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<Config>(&toml).unwrap().intensity, rule(text));
    }
    assert_eq!(rule("hu:-1000,400"), Intensity::Range(-1000.0, 400.0));
    for text in ["", "windows", "window:40", "window:40,0", "range:5,5", "percentile:-1,50", "auto:1", "range:nan,1"] {
        let error = text.parse::<Intensity>().unwrap_err().to_string();
        assert!(error.contains("there is no intensity") && error.contains("percentile:LOW,HIGH"), "{error}");
    }
    // A recipe of before there was a choice.
    assert_eq!(toml::from_str::<Config>("size = 64").unwrap().intensity, Intensity::Auto);
}

#[test]
fn the_studys_scaling_has_no_filter() {
    for case in reference("plain") {
        let number = |value: &Value| value.as_u64().unwrap() as usize;
        let (width, height, size) = (number(&case["from"][0]), number(&case["from"][1]), number(&case["size"]));
        let pixels = Pixels::U8(pattern(width, height, 256).into_iter().map(|v| v as u8).collect());
        let got = values(&fit_plain(&Gray { width, height, pixels }, size));
        let (left, top) = (number(&case["left_top"][0]), number(&case["left_top"][1]));
        for (y, row) in case["levels"].as_array().unwrap().iter().enumerate() {
            for (x, want) in levels(row).into_iter().enumerate() {
                let have = got[(top + y) * size + left + x];
                assert!((have - want).abs() <= 1, "{width} x {height} to {size}: {have} for {want} at {x}, {y}");
            }
        }
    }
}

/// Class folders may hold any mixture of formats, without suffixes too; a table may name frames of volumes.
#[test]
fn scans_are_records_like_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| write(folder.path().join(to), fs::read(scans().join(from)).unwrap());
    for (from, to) in [
        ("s16_ct.dcm", "a/1.2.840.5"),
        ("j2k_u8.dcm", "a/two.dcm"),
        ("nifti_packed.nii.gz", "b/volume.nii.gz"),
        ("meta_beside.mhd", "b/meta_beside.mhd"),
        ("meta_beside.raw", "b/meta_beside.raw"),
    ] {
        copy(from, to);
    }
    write(folder.path().join("b/picture.png"), crate::png_bytes(1));
    let mut dataset = Dataset::open(folder.path()).unwrap();
    let names: Vec<_> = dataset.records.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["a/1.2.840.5", "a/two.dcm", "b/meta_beside.mhd", "b/picture.png", "b/volume.nii.gz"]);
    assert_eq!(dataset.ignored, 1, "the data of the MetaImage");
    dataset.verify(Intensity::Auto, false).unwrap();

    let rows = "path,label,slice\nb/volume.nii.gz,x,0\nb/volume.nii.gz,x,2\nb/volume.nii.gz,y,\na/two.dcm#0,y,\n";
    write(folder.path().join("list.csv"), rows);
    let mut dataset = Dataset::open(&folder.path().join("list.csv")).unwrap();
    let names: Vec<_> = dataset.records.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["a/two.dcm#0", "b/volume.nii.gz", "b/volume.nii.gz#0", "b/volume.nii.gz#2"]);
    dataset.verify(Intensity::Auto, false).unwrap();
    let frame = |i: usize| dataset.records[i].decode(Intensity::Auto).unwrap();
    assert!(frame(1) != frame(2) && frame(2) != frame(3), "three slices differ");
    write(folder.path().join("list.csv"), "path,label,slice\nb/volume.nii.gz,x,3\na/two.dcm,y,\n");
    let mut dataset = Dataset::open(&folder.path().join("list.csv")).unwrap();
    let error = dataset.verify(Intensity::Auto, false).unwrap_err().to_string();
    assert!(error.contains("volume.nii.gz#3 has 3 frames, and frame 3 is asked for"), "{error}");
}
