//! A network trained on crops of volumes, what it draws in whole ones, and what doctor tells of such data.

mod common;

use common::{fail, roentgen, succeed, write_png};
use roentgen::data::{Scan, Source};
use std::{
    fs,
    path::{Path, PathBuf},
};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn stdout<'a>(args: impl IntoIterator<Item = &'a str>) -> String {
    String::from_utf8(succeed(&mut roentgen(args)).stdout).unwrap()
}

/// A network that has seen the crops of `tests/fixtures/luna` once.
fn train(run: &Path) {
    let luna = fixtures().join("luna");
    let recipe = "finetune --layout luna16 --model unet_mobilenet_v3_small --size 64 --epochs 1 --batch 4 --test 0 \
                  --validation 0.4 --threads 1 --data";
    succeed(&mut roentgen(recipe.split_whitespace().chain([text(&luna), "--out", text(run)])));
}

fn marked(path: &Path, frame: usize) -> Vec<bool> {
    let bytes = Source::File(path.into()).read().unwrap();
    Scan::open(&bytes, "mask").unwrap().frame(frame).unwrap().marked()
}

#[test]
fn masks_have_the_geometry_of_their_sources() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    train(&run);
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(config.contains("intensity = \"range:-1000,1000\"") && config.contains("layout = \"luna16\""), "{config}");
    let manifest = fs::read_to_string(run.join("manifest.csv")).unwrap();
    let split =
        |series: &str| manifest.lines().find(|line| line.contains(series)).unwrap().split(',').rev().nth(1).unwrap();
    assert_ne!(split("1.2.3"), split("4.5.6"), "a series is held out whole: {manifest}");

    let masks = dir.path().join("masks");
    let predict = |files: &[&Path], folder: &Path, more: &[&str]| {
        let files = files.iter().map(|path| text(path));
        stdout(["predict", text(&run), "--masks", text(folder)].into_iter().chain(files).chain(more.iter().copied()))
    };
    let volume = fixtures().join("luna/subset0/1.2.3.mhd");
    let nifti = fixtures().join("scans/nifti_packed.nii.gz");
    let frames = fixtures().join("scans/rle_frames.dcm");
    let picture = dir.path().join("picture.png");
    write_png(&picture, 50, &[90; 2500]);
    let table = predict(&[&volume, &picture, &nifti, &frames], &masks, &["--size", "96"]);
    for (source, mask) in [(&volume, "1.2.3.mha"), (&nifti, "nifti_packed.nii.gz")] {
        let mask = masks.join(mask);
        let [source_bytes, mask_bytes] = [source, &mask].map(|path| Source::File(path.clone()).read().unwrap());
        let source_scan = Scan::open(&source_bytes, "source").unwrap();
        let mask_scan = Scan::open(&mask_bytes, "mask").unwrap();
        let (of, found) = (source_scan.facts(), mask_scan.facts());
        assert_eq!((found.width, found.height, found.frames), (of.width, of.height, of.frames));
        assert_eq!((found.affine, found.spacing, found.bits), (of.affine, of.spacing, 8));
        // Each slice is what the network draws in it alone.
        for k in 0..of.frames {
            let alone = dir.path().join("alone");
            let slice = PathBuf::from(format!("{}#{k}", source.display()));
            let row = predict(&[&slice], &alone, &["--size", "96"]);
            assert!(table.contains(row.lines().nth(1).unwrap()), "{row} is not in {table}");
            let png = fs::read_dir(&alone).unwrap().next().unwrap().unwrap().path();
            assert_eq!(marked(&png, 0), marked(&mask, k), "slice {k} of {}", source.display());
            fs::remove_dir_all(&alone).unwrap();
        }
    }
    // A DICOM file of several frames has a picture for each.
    let bytes = fs::read(&frames).unwrap();
    let count = Scan::open(&bytes, "frames").unwrap().facts().frames;
    assert!(count > 1);
    for k in 0..count {
        assert!(masks.join(format!("rle_frames-{k}.png")).is_file(), "{k}");
    }
    let decoded = roentgen::data::decode(&fs::read(masks.join("picture.png")).unwrap(), "mask").unwrap();
    assert_eq!((decoded.width, decoded.height), (50, 50));
    let rows = table.lines().count();
    assert_eq!(rows, 1 + 9 + 1 + Scan::open(&fs::read(&nifti).unwrap(), "nifti").unwrap().facts().frames + count);

    // Two images of one name do not replace each other's masks.
    let [a, b] = ["a", "b"].map(|name| dir.path().join("twice").join(name));
    for folder in [&a, &b] {
        fs::create_dir_all(folder).unwrap();
        fs::copy(&picture, folder.join("picture.png")).unwrap();
    }
    let twice = dir.path().join("twice");
    let into = dir.path().join("into");
    let args = ["predict", text(&run), "--masks", text(&into)];
    fail(
        &mut roentgen(args.into_iter().chain([text(&a), text(&b)])),
        1,
        &["a/picture.png and", "would both be written"],
    );
    assert!(!into.exists(), "nothing was begun");
    succeed(&mut roentgen(args.into_iter().chain([text(&twice)])));
    assert!(into.join("a/picture.png").is_file() && into.join("b/picture.png").is_file());
    // Without a folder for masks there is still a row for each slice.
    assert_eq!(stdout(["predict", text(&run), text(&volume)]).lines().count(), 10);
}

#[test]
fn doctor_looks_at_masks_numbers_and_labels() {
    let luna = fixtures().join("luna");
    let told = stdout(["doctor", "--data", text(&luna), "--layout", "luna16-empty", "--size", "64", "--test", "0"]);
    for part in [
        "task        segmentation",
        "1 structures",
        "nodule: mean",
        "% of the image",
        "CT (",
        "64 x 64",
        "groups      2",
    ] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut table = String::from("file,age,male,marks,patient\n");
    for i in 0..5u8 {
        write_png(&dir.path().join(format!("{i}.png")), 8, &(0..64).map(|p| p % 7 * 30 + i).collect::<Vec<u8>>());
        let marks = ["a|b", "", "b", "b", "a"][usize::from(i)];
        table += &format!("{i}.png,{},{},{marks},p{}\n", 10 * (i + 1), ["m", "f"][usize::from(i % 2)], i / 2);
    }
    fs::write(dir.path().join("list.csv"), table).unwrap();
    let list = dir.path().join("list.csv");
    let doctor = |flags: &str| {
        stdout(
            ["doctor", "--data", text(&list), "--path", "file", "--group", "patient"]
                .into_iter()
                .chain(flags.split(' ')),
        )
    };
    let told = doctor("--task regression --target age --inputs male --test 0.2 --validation 0.2");
    for part in [
        "5 in 1 numbers",
        "age: mean 30.0, deviation 14.1; from 10.0 to 50.0, quartiles 20.0, 30.0, 40.0",
        "male: mean 0.600",
        "groups      3, of 1 to 2 images",
        "drawn as finetune does",
        "images/s on one core",
    ] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    let told = doctor("--task multi-label --target marks --test 0");
    assert!(told.contains("labels      a: 2 (40.0 %)") && told.contains("b: 3 (60.0 %)"), "{told}");
    // What finetune would refuse is told beside what was found.
    let told = doctor("--task regression --target age --validation 0.9");
    assert!(told.contains("fractions of 0.9"), "{told}");
    let bad = ["doctor", "--data", text(&list), "--path", "file", "--task", "regression", "--target", "marks"];
    fail(&mut roentgen(bad), 1, &["is no number"]);
    fail(&mut roentgen(["doctor", "--task", "regression"]), 1, &["--task is about data"]);
}
