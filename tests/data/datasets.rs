//! Listing folders and tables, and what is said about those that cannot be used.

use crate::{brain_mri, fixtures, listed, png_bytes, small_folder, write};
use roentgen::{
    data::{Columns, Dataset, Intensity, Split, decode},
    task::Task,
};
use std::{fs, path::Path};

/// The error of opening `path`, which must contain every one of `parts`.
fn refuses(path: &Path, parts: &[&str]) {
    let error = Dataset::open(path).expect_err("the dataset must be refused").to_string();
    assert!(error.contains("\n  try: "), "no remedy in: {error}");
    parts.iter().for_each(|part| assert!(error.contains(part), "no {part:?} in: {error}"));
}

fn table(lines: &str) -> tempfile::TempDir {
    let folder = small_folder();
    write(folder.path().join("list.csv"), lines);
    folder
}

fn refuses_table(lines: &str, parts: &[&str]) {
    refuses(&table(lines).path().join("list.csv"), parts);
}

#[test]
fn class_folders_become_sorted_records() {
    let folder = small_folder();
    write(folder.path().join("dog/nested/UPPER.JPEG"), fs::read(fixtures().join("gray.jpg")).unwrap());
    for junk in ["README.txt", "cat/Thumbs.db", "cat/.DS_Store", "cat/.hidden.png", ".git/x.png"] {
        write(folder.path().join(junk), "junk");
    }
    let dataset = Dataset::open(folder.path()).unwrap();
    assert_eq!(dataset.classes, ["cat", "dog"]);
    let listed: Vec<_> = dataset.records.iter().map(|r| (r.name.as_str(), r.label())).collect();
    let dogs = [("dog/1.png", 1), ("dog/3.png", 1), ("dog/5.png", 1), ("dog/nested/UPPER.JPEG", 1)];
    assert_eq!(listed, [[("cat/0.png", 0), ("cat/2.png", 0), ("cat/4.png", 0)].as_slice(), &dogs].concat());
    assert_eq!(dataset.ignored, 2, "README.txt and Thumbs.db; hidden files are not counted");
    assert!(dataset.records.iter().all(|r| r.split.is_none()));
}

#[test]
fn training_and_testing_folders_give_the_split() {
    let folder = tempfile::tempdir().unwrap();
    for (i, path) in ["Training/a/1.png", "Training/b/2.png", "Testing/a/3.png", "Testing/b/4.png"].iter().enumerate() {
        write(folder.path().join(path), png_bytes(i));
    }
    let dataset = Dataset::open(folder.path()).unwrap();
    assert_eq!(dataset.classes, ["a", "b"]);
    let tests: Vec<_> = dataset.subset(Split::Test).into_iter().map(|r| r.name).collect();
    assert_eq!(tests, ["Testing/a/3.png", "Testing/b/4.png"]);
    assert_eq!(dataset.class_counts(Some(Split::Train)), [1, 1]);
    // What a Mac packs beside them is passed over; a third folder would make classes of the splits.
    write(folder.path().join("__MACOSX/Training/a/._1.png"), "resource fork");
    assert_eq!(Dataset::open(folder.path()).unwrap().records.len(), 4);
    write(folder.path().join("extra/a/5.png"), png_bytes(5));
    refuses(folder.path(), &["folders of splits", "extra, which is none", "move extra away"]);
}

#[test]
fn a_table_gives_labels_groups_and_splits() {
    let rows = "\u{feff}Path,note, LABEL ,Split,group\ncat/0.png,x,yes,Training,p1\n\
                cat/2.png,,no,VAL,p2\ndog/1.png,,no,test,\ndog/3.png,,yes,,\n";
    let folder = table(rows);
    let dataset = Dataset::open(&folder.path().join("list.csv")).unwrap();
    assert_eq!(dataset.classes, ["no", "yes"]);
    let got: Vec<_> =
        dataset.records.iter().map(|r| (r.name.as_str(), r.label(), r.group.as_deref(), r.split)).collect();
    let want = [
        ("cat/0.png", 1, Some("p1"), Some(Split::Train)),
        ("cat/2.png", 0, Some("p2"), Some(Split::Validation)),
        ("dog/1.png", 0, None, Some(Split::Test)),
        ("dog/3.png", 1, None, None),
    ];
    assert_eq!(got, want);
    assert_eq!(dataset.records[0].decode(Intensity::Auto).unwrap().width, 8);
    let patients = table(&rows.replace("group", "Patient"));
    let same = Dataset::open(&patients.path().join("list.csv")).unwrap();
    assert_eq!(same.records[0].group.as_deref(), Some("p1"), "patients are groups");
    for mark in [";", "\t"] {
        let folder = table(&rows.replace(',', mark));
        let same = Dataset::open(&folder.path().join("list.csv")).unwrap();
        assert_eq!((same.classes, same.records.len()), (dataset.classes.clone(), 4));
        assert!(same.records.iter().zip(&dataset.records).all(|(a, b)| (&a.name, &a.truth) == (&b.name, &b.truth)));
    }
}

#[test]
fn an_embedded_sample_opens_like_a_table() {
    static IMAGE: &[u8] = include_bytes!("../fixtures/data/gray8.png");
    static FILES: &[(&str, &[u8])] = &[("a.png", IMAGE), ("b.png", b"broken"), ("unused.png", IMAGE)];
    let mut dataset =
        Dataset::embedded("path,label\na.png,x\nb.png,y\n", FILES, Task::MultiClass, &Columns::default()).unwrap();
    assert_eq!(dataset.records.len(), 2);
    assert_eq!(dataset.records[0].decode(Intensity::Auto).unwrap().width, 21);
    assert!(dataset.verify(Intensity::Auto, false).unwrap_err().to_string().contains("b.png (embedded) holds text"));
    let error = Dataset::embedded("path,label\na.png,x\nc.png,y\n", FILES, Task::MultiClass, &Columns::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("the embedded table, line 3: there is no file \"c.png\""), "{error}");
}

#[test]
fn unusable_folders_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    refuses(&path.join("nowhere"), &["cannot open the dataset", "nowhere", "class folders"]);
    refuses(path, &["is empty"]);
    write(path.join("loose.png"), png_bytes(0));
    refuses(path, &["holds 1 files but no class folders", "FOLDER/<class>"]);
    write(path.join("only/1.png"), png_bytes(1));
    refuses(path, &["only one class, \"only\"", "second class"]);
    fs::create_dir(path.join("void")).unwrap();
    refuses(path, &["the class folder", "void holds no images", "remove the folder"]);
    let splits = tempfile::tempdir().unwrap();
    fs::create_dir(splits.path().join("Training")).unwrap();
    refuses(splits.path(), &["holds no images"]);
    write(path.join("image.csv"), png_bytes(0));
    refuses(&path.join("image.csv"), &["no CSV text in UTF-8", "path,label"]);
}

#[test]
fn unusable_tables_are_refused_by_line() {
    refuses_table("file,label\ncat/0.png,a\n", &["list.csv has no column \"path\"", "file, label", "path,label"]);
    refuses_table("", &["no column \"path\""]);
    refuses_table("path,label\n", &["lists no images"]);
    refuses_table("path,label\ncat/0.png,a\n\ncat/9.png,b\n", &["line 4: there is no file \"cat/9.png\"", "relative"]);
    refuses_table("path,label\ncat/0.png,a\ncat/0.png,b\n", &["line 3: \"cat/0.png\" is listed already in line 2"]);
    refuses_table("path,label\ncat/0.png, \n", &["line 2: the label of \"cat/0.png\" is empty"]);
    refuses_table("path,label\n,a\n", &["line 2: the path is empty"]);
    refuses_table("path,label,split\ncat/0.png,a,holdout\n", &["line 2: unknown split \"holdout\"", "validation"]);
    refuses_table("path,label\ncat/0.png,a,b\n", &["no valid CSV", "line: 2"]);
    refuses_table("path,label\ncat/0.png,a\ndog/1.png,a\n", &["only one class"]);
}

#[test]
fn unusable_images_are_named_with_a_remedy() {
    let png = fs::read(fixtures().join("rgb8.png")).unwrap();
    let jpeg = fs::read(fixtures().join("gray.jpg")).unwrap();
    let progressive = fs::read(fixtures().join("gray_progressive.jpg")).unwrap();
    let mut huge = png_bytes(0);
    huge[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    let crc = crc32(&huge[12..29]);
    huge[29..33].copy_from_slice(&crc.to_be_bytes());
    let dicom = [&[0; 128], b"DICM".as_slice(), &[0; 9]].concat();
    let cases: [(&[u8], &str, &str); 9] = [
        (b"", "empty (0 bytes)", "--skip-bad"),
        (b"patient notes\n", "holds text, not an image", "--skip-bad"),
        (b"\0\x01\x02", "is no image", "--skip-bad"),
        (&png[..png.len() - 30], "a PNG that is truncated or damaged", "--skip-bad"),
        (&jpeg[..jpeg.len() - 30], "a JPEG that is truncated or damaged", "--skip-bad"),
        (&progressive[..progressive.len() / 2], "a JPEG that is truncated or damaged", "--skip-bad"),
        (&huge, "claims 65536 x 65536 pixels", "downscale"),
        (&dicom, "is a DICOM file that cannot be read: it holds no pixels", "--skip-bad"),
        (b"GIF89a....", "is a GIF file", "convert it to PNG"),
    ];
    for (bytes, problem, remedy) in cases {
        let error = decode(bytes, "scans/7.png").unwrap_err().to_string();
        assert!(error.starts_with("scans/7.png") && error.contains(problem) && error.contains(remedy), "{error}");
    }
}

/// However a file is cut or a byte of it changed, decoding returns; cut anywhere, it is an error.
#[test]
fn damaged_files_never_panic_and_cut_ones_never_pass() {
    for name in ["rgb8.png", "gray16.png", "gray.jpg", "rgb_420_progressive.jpg", "gray_restarts.jpg"] {
        let whole = fs::read(fixtures().join(name)).unwrap();
        // The last chunk of a PNG holds no pixels.
        let needed = if name.ends_with("png") { whole.len() - 12 } else { whole.len() };
        for end in 0..needed {
            assert!(decode(&whole[..end], name).is_err(), "{name} cut to {end} bytes of {}", whole.len());
            let mut changed = whole.clone();
            changed[end] ^= 0x55;
            let _ = decode(&changed, name);
        }
    }
}

#[test]
fn verify_stops_at_the_first_bad_file_or_leaves_all_out() {
    let folder = small_folder();
    write(folder.path().join("cat/9.png"), "text");
    write(folder.path().join("dog/0.jpg"), "");
    let mut dataset = Dataset::open(folder.path()).unwrap();
    let before = dataset.clone();
    let error = dataset.verify(Intensity::Auto, false).unwrap_err().to_string();
    assert!(error.contains("cat/9.png holds text"), "{error}");
    assert_eq!(dataset, before);
    let skipped = dataset.verify(Intensity::Auto, true).unwrap();
    assert_eq!(skipped.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["cat/9.png", "dog/0.jpg"]);
    assert!(skipped[1].reason.contains("empty"));
    assert_eq!(dataset.records.len(), 6);
    // SHA-256 of no byte is known; ours are of the files as they are.
    let file = dataset.records[0].fingerprint.unwrap().file;
    assert!(dataset.records.iter().skip(1).all(|r| r.fingerprint.unwrap().file != file));
}

#[test]
fn every_image_of_a_real_dataset_decodes() {
    let Some(root) = brain_mri() else { return };
    let mut dataset = Dataset::open(&root).unwrap();
    assert_eq!(dataset.classes, ["glioma", "meningioma", "notumor", "pituitary"]);
    dataset.verify(Intensity::Auto, false).unwrap();
    assert_eq!(dataset.class_counts(Some(Split::Test)).iter().sum::<usize>(), 1311);
    assert_eq!(dataset.class_counts(Some(Split::Train)), [500; 4]);
}

/// The checksum of PNG chunks, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

#[test]
fn small_classes_are_left_out() {
    let label = |i| [0, 1, 1, 2, 2, 2][i];
    let dataset = || listed((0..6).map(|i| (label(i), None)));
    let mut kept = dataset();
    kept.drop_small_classes(2).unwrap();
    assert_eq!(kept.classes, ["class 1", "class 2"]);
    let records: Vec<_> = kept.records.iter().map(|r| (r.name.as_str(), r.label())).collect();
    assert_eq!(records, [("00001", 0), ("00002", 0), ("00003", 1), ("00004", 1), ("00005", 1)]);
    let told = kept.dropped_classes().unwrap();
    assert_eq!(told, "1 classes with too few images were left out, 1 in all: class 0 (1)");

    let mut all = dataset();
    all.drop_small_classes(1).unwrap();
    assert_eq!((&all, all.dropped_classes()), (&dataset(), None));
    let error = dataset().drop_small_classes(3).expect_err("one class is left").to_string();
    assert!(error.contains("1 of 3 classes of test have 3 images"), "{error}");
}

#[test]
fn a_column_of_frames_can_be_named() {
    let folder = table("path,label,slice,frame,n\ncat/0.png,a,s-1.png,,0\ndog/1.png,b,s-2.png,,0\n");
    let open = |frame: Option<&str>| {
        let columns = Columns { frame: frame.map(str::to_string), ..Columns::default() };
        let dataset = Dataset::open_for(Task::MultiClass, &folder.path().join("list.csv"), &columns);
        dataset.map(|dataset| dataset.records[0].name.clone()).map_err(|e| e.to_string())
    };
    assert_eq!(open(None).unwrap(), "cat/0.png");
    assert_eq!(open(Some("")).unwrap(), "cat/0.png");
    assert_eq!(open(Some("n")).unwrap(), "cat/0.png#0");
    // Frames of one file belong together, unless groups are named.
    let frames = table("path,label,frame\ncat/0.png,a,0\ncat/0.png,b,1\ncat/2.png,b,0\n");
    let records = Dataset::open(&frames.path().join("list.csv")).unwrap().records;
    let groups: Vec<_> = records.iter().map(|record| record.group.is_some()).collect();
    assert_eq!(groups, [true, true, false]);
    assert_eq!(records[0].group, records[1].group);
    let error = open(Some("slice")).expect_err("no number");
    assert!(error.contains("line 2: \"s-1.png\" is no number of a frame") && error.contains("--frame ''"), "{error}");
    assert!(open(Some("z")).expect_err("no such column").contains("no column \"z\""));
}
