//! Splits are stratified, seeded, whole by group, and honest about leaks.

use crate::{listed, png_bytes, small_folder, write};
use roentgen::data::{Dataset, Fractions, Intensity, Split, manifest, split};
use std::{collections::HashMap, fs, path::Path};

fn splits_of(dataset: &Dataset) -> Vec<Option<Split>> {
    dataset.records.iter().map(|r| r.split).collect()
}

#[test]
fn every_class_is_dealt_out_in_the_asked_shares() {
    let sizes = [400, 100, 37, 8];
    for seed in 0..5 {
        let mut dataset = listed(sizes.iter().enumerate().flat_map(|(c, &n)| (0..n).map(move |_| (c, None))));
        split::assign(&mut dataset, &Fractions { validation: 0.15, test: 0.2 }, seed).unwrap();
        for (which, share) in Split::ALL.into_iter().zip([0.65, 0.15, 0.2]) {
            for (n, size) in dataset.class_counts(Some(which)).iter().zip(sizes) {
                let wanted = share * size as f64;
                assert!((*n as f64 - wanted).abs() < 1.0, "seed {seed}, {which}: {n} of {size} for {wanted}");
            }
        }
    }
}

#[test]
fn the_seed_decides_and_nothing_else() {
    let make = |seed| {
        let mut dataset = listed((0..200).map(|i| (i % 2, None)));
        split::assign(&mut dataset, &Fractions::default(), seed).unwrap();
        splits_of(&dataset)
    };
    assert_eq!(make(1), make(1));
    assert_ne!(make(1), make(2));
}

#[test]
fn a_group_is_never_torn_and_shares_hold() {
    for seed in 0..5 {
        // 60 patients with 1 to 9 images, of one class each but for every tenth.
        let rows = (0..60).flat_map(|p| {
            let class = move |i: usize| if p % 10 == 0 { i % 3 } else { p % 3 };
            (0..p * 7 % 9 + 1).map(move |i| (class(i), Some(format!("patient {p}"))))
        });
        let mut dataset = listed(rows);
        split::assign(&mut dataset, &Fractions::default(), seed).unwrap();
        let mut split_of = HashMap::new();
        for record in &dataset.records {
            assert_eq!(*split_of.entry(&record.group).or_insert(record.split), record.split, "{:?}", record.group);
        }
        assert!(split::warnings(&dataset).is_empty());
        let all = dataset.class_counts(None);
        for (which, share) in Split::ALL.into_iter().zip([0.7, 0.15, 0.15]) {
            for (n, size) in dataset.class_counts(Some(which)).iter().zip(&all) {
                let got = *n as f64 / *size as f64;
                assert!((got - share).abs() < 0.05, "seed {seed}, {which}: {got} for {share}");
            }
        }
    }
}

#[test]
fn given_splits_stay_and_only_what_is_missing_is_drawn() {
    let given = |splits: &[Option<Split>]| {
        let mut dataset = listed((0..200).map(|i| (i % 2, None)));
        dataset.records.iter_mut().enumerate().for_each(|(i, r)| r.split = splits[i / 2 % splits.len()]);
        split::assign(&mut dataset, &Fractions::default(), 3).unwrap();
        Split::ALL.map(|s| dataset.subset(s).len())
    };
    let [train, validation, test] = Split::ALL.map(Some);
    assert_eq!(given(&[train, test]), [86, 14, 100], "validation comes from training");
    assert_eq!(given(&[train, validation]), [100, 100, 0], "no test is made up");
    assert_eq!(given(&[None, test]), [86, 14, 100]);
    assert_eq!(given(&[None, validation, test, None]), [100, 50, 50]);
    assert_eq!(given(&[None]), [140, 30, 30]);
}

/// A patient with a test image must not have the other images drawn into training or validation.
#[test]
fn a_group_follows_its_given_split() {
    let mut dataset = listed((0..40).map(|i| (i % 2, Some(format!("patient {}", i / 4)))));
    dataset.records[0].split = Some(Split::Test);
    split::assign(&mut dataset, &Fractions { validation: 0.3, test: 0.0 }, 0).unwrap();
    assert!(splits_of(&dataset)[..4].iter().all(|&s| s == Some(Split::Test)));
    assert!(split::warnings(&dataset).is_empty());
}

/// Where the dataset itself tears a group, it stays as given, and what is free joins the part that is judged on.
#[test]
fn a_group_torn_by_the_dataset_goes_no_further() {
    for seed in 0..5 {
        let mut dataset = listed((0..60).map(|i| (i % 2, Some(format!("patient {}", i / 3)))));
        let given = [Some(Split::Train), Some(Split::Test), None];
        dataset.records[..30].iter_mut().enumerate().for_each(|(i, r)| r.split = given[i % 3]);
        split::assign(&mut dataset, &Fractions { validation: 0.5, test: 0.0 }, seed).unwrap();
        let torn = [Some(Split::Train), Some(Split::Test), Some(Split::Test)];
        assert_eq!(splits_of(&dataset)[..30], torn.repeat(10));
        assert!(split::warnings(&dataset)[0].starts_with("10 groups reach into more than one split"));
    }
}

#[test]
fn large_groups_and_rare_classes_do_not_spoil_the_shares() {
    for seed in 0..10 {
        let mut lumpy = listed((0..50).map(|i| (i % 2, (i < 20).then(|| "large".to_string()))));
        split::assign(&mut lumpy, &Fractions { validation: 0.4, test: 0.0 }, seed).unwrap();
        assert_eq!(Split::ALL.map(|s| lumpy.class_counts(Some(s))), [[15, 15], [10, 10], [0, 0]], "seed {seed}");

        // Of 100 patients with ten common images, twenty have a rare one too.
        let patient = |i: usize| (usize::from(i >= 1000), Some(format!("patient {}", i % 1000 % 100)));
        let mut skewed = listed((0..1020).map(patient));
        split::assign(&mut skewed, &Fractions::default(), seed).unwrap();
        for (which, wanted) in Split::ALL.into_iter().zip([[700, 14], [150, 3], [150, 3]]) {
            let got = skewed.class_counts(Some(which));
            assert!(
                got[0].abs_diff(wanted[0]) <= 10 && got[1].abs_diff(wanted[1]) <= 1,
                "seed {seed}, {which}: {got:?}"
            );
        }
    }
}

#[test]
fn impossible_splits_are_refused() {
    let refuses = |dataset: &mut Dataset, fractions: Fractions, part: &str| {
        let error = split::assign(dataset, &fractions, 0).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("\n  try: "), "{error}");
    };
    let plenty = || listed((0..40).map(|i| (i % 2, None)));
    refuses(&mut plenty(), Fractions { validation: 0.6, test: 0.4 }, "leave nothing usable");
    refuses(&mut plenty(), Fractions { validation: -0.1, test: 0.1 }, "leave nothing usable");
    refuses(&mut plenty(), Fractions { validation: f64::NAN, test: 0.1 }, "leave nothing usable");
    refuses(&mut listed((0..2).map(|i| (i, None))), Fractions::default(), "too few images");
    let mut untrained = plenty();
    untrained.records.iter_mut().for_each(|r| r.split = Some([Split::Train, Split::Test][r.label() as usize]));
    refuses(&mut untrained, Fractions::default(), "the class \"class 1\" has no training images");
}

#[test]
fn copies_and_groups_across_splits_are_reported() {
    let folder = small_folder();
    write(folder.path().join("dog/copy.png"), png_bytes(0));
    let mut dataset = Dataset::open(folder.path()).unwrap();
    dataset.verify(Intensity::Auto, false).unwrap();
    for (i, record) in dataset.records.iter_mut().enumerate() {
        record.split = Some(if record.name == "dog/copy.png" { Split::Test } else { Split::Train });
        record.group = Some(format!("group {}", i % 3));
    }
    let warnings = split::warnings(&dataset);
    let has = |parts: &[&str]| warnings.iter().any(|w| parts.iter().all(|part| w.contains(part)));
    assert!(has(&["1 pictures appear in more than one split", "cat/0.png = dog/copy.png"]), "{warnings:#?}");
    assert!(has(&["1 pictures appear under more than one label"]), "{warnings:#?}");
    assert!(has(&["1 groups reach into more than one split", "group 0"]), "{warnings:#?}");
    assert!(has(&["the test split has no images of the class \"cat\""]), "{warnings:#?}");
    assert_eq!(warnings.len(), 4);

    assert_eq!(split::drop_train_copies(&mut dataset), ["cat/0.png"]);
    assert_eq!(dataset.records.len(), 6);
    assert!(split::warnings(&dataset).iter().all(|w| !w.contains("pictures")));
}

#[test]
fn a_manifest_brings_the_split_back() {
    let folder = small_folder();
    let path = folder.path().join("manifest.csv");
    let open = || {
        let mut dataset = Dataset::open(folder.path()).unwrap();
        dataset.verify(Intensity::Auto, false).unwrap();
        dataset
    };
    let mut dataset = open();
    dataset.records[0].group = Some("a, \"b\"".into());
    split::assign(&mut dataset, &Fractions { validation: 0.3, test: 0.3 }, 5).unwrap();
    manifest::write(&dataset, &path).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("path,label,group,split,sha256\ncat/0.png,cat,\"a, \"\"b\"\"\","), "{text}");

    let mut again = open();
    manifest::apply(&mut again, &path).unwrap();
    assert_eq!(splits_of(&again), splits_of(&dataset));
    let opened = Dataset::open(&path).unwrap();
    assert_eq!(splits_of(&opened), splits_of(&dataset));
    assert_eq!(opened.records[0].group, dataset.records[0].group);

    let refuses = |part: &str| {
        let error = manifest::apply(&mut open(), &path).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("manifest.csv") && error.contains("\n  try: "), "{error}");
    };
    write(folder.path().join("cat/2.png"), png_bytes(77));
    refuses("the file cat/2.png has changed");
    write(folder.path().join("cat/2.png"), png_bytes(2));
    write(folder.path().join("cat/new.png"), png_bytes(8));
    refuses("does not list cat/new.png");
    fs::remove_file(folder.path().join("cat/new.png")).unwrap();
    fs::remove_file(folder.path().join("dog/5.png")).unwrap();
    refuses("lists dog/5.png, which is not there");
    write(path.clone(), text.replace("cat/0.png,cat", "cat/0.png,dog"));
    refuses("cat/0.png is \"dog\" there and \"cat\" here");
    write(path.clone(), "nonsense\n");
    refuses("its first line is not path,label,group,split,sha256");
}

#[test]
fn images_are_found_in_a_manifest_by_their_bytes_and_frame() {
    let folder = tempfile::tempdir().unwrap();
    let frames = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/scans/rle_frames.dcm");
    let open = |name: &str| {
        fs::copy(&frames, folder.path().join(name)).unwrap();
        let table = format!("path,label,split\n{name}#0,a,train\n{name}#1,b,test\n");
        fs::write(folder.path().join("table.csv"), table).unwrap();
        let mut dataset = Dataset::open(&folder.path().join("table.csv")).unwrap();
        dataset.verify(Intensity::Auto, false).unwrap();
        dataset
    };
    let path = folder.path().join("manifest.csv");
    manifest::write(&open("of the run"), &path).unwrap();
    let mut copy = open("copy");
    let found = manifest::listed_in(&path, Split::Train, &copy.records).unwrap();
    assert_eq!(found.iter().map(|record| &*record.name).collect::<Vec<_>>(), ["copy#0"]);
    assert_eq!(manifest::leave_out_unlisted(&mut copy, &path).unwrap(), ["copy#0", "copy#1"]);
    assert!(copy.records.is_empty());
}

#[test]
fn a_failed_write_keeps_the_old_file_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kept.csv");
    roentgen::files::write_atomic(&path, b"old").unwrap();
    roentgen::files::write_atomic(&path, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let error = roentgen::files::write_atomic(&folder.path().join("no/such.csv"), b"x").unwrap_err().to_string();
    assert!(error.contains("cannot write") && error.contains("such.csv"), "{error}");
    // A folder in the way: the rename fails, and the temporary file goes.
    fs::create_dir(folder.path().join("taken")).unwrap();
    assert!(roentgen::files::write_atomic(&folder.path().join("taken"), b"x").is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

/// The names of the training images that a fraction keeps.
fn kept(dataset: &Dataset, fraction: f64, seed: u64) -> Vec<String> {
    let mut dataset = dataset.clone();
    split::keep_fraction(&mut dataset, fraction, seed).unwrap();
    dataset.of(Some(Split::Train)).map(|r| r.name.clone()).collect()
}

#[test]
fn fractions_are_nested_stratified_and_a_function_of_the_seed() {
    let sizes = [400, 100, 37, 8];
    let mut dataset = listed(sizes.iter().enumerate().flat_map(|(c, &n)| (0..n).map(move |_| (c, None))));
    dataset.records.iter_mut().step_by(4).for_each(|r| r.split = Some(Split::Test));
    split::assign(&mut dataset, &Fractions { validation: 0.0, test: 0.0 }, 1).unwrap();
    let all = dataset.class_counts(Some(Split::Train));
    let mut smaller: Vec<String> = vec![];
    for fraction in [0.01, 0.05, 0.25, 0.5, 0.9, 1.0] {
        let mut part = dataset.clone();
        split::keep_fraction(&mut part, fraction, 3).unwrap();
        assert_eq!(part.subset(Split::Test), dataset.subset(Split::Test), "held-out images stay");
        for (n, all) in part.class_counts(Some(Split::Train)).into_iter().zip(&all) {
            let wanted = fraction * *all as f64;
            assert!(n == 1 || (n as f64 - wanted).abs() <= 0.5, "{n} of {all} at {fraction}");
        }
        let names = kept(&dataset, fraction, 3);
        assert!(smaller.iter().all(|name| names.contains(name)), "{fraction} lacks what a smaller fraction has");
        smaller = names;
    }
    assert_eq!(smaller.len(), all.iter().sum::<usize>());
    assert_ne!(kept(&dataset, 0.25, 3), kept(&dataset, 0.25, 4));
}

#[test]
fn fractions_keep_groups_whole() {
    for seed in 0..5 {
        // 200 patients with 1 to 9 images, of one class each but for every tenth.
        let rows = (0..200).flat_map(|p| {
            let class = move |i: usize| if p % 10 == 0 { i % 3 } else { p % 3 };
            (0..p * 7 % 9 + 1).map(move |i| (class(i), Some(format!("patient {p}"))))
        });
        let mut dataset = listed(rows);
        dataset.records.iter_mut().for_each(|r| r.split = Some(Split::Train));
        let all = dataset.class_counts(None);
        let group_of: HashMap<_, _> = dataset.records.iter().map(|r| (&r.name, &r.group)).collect();
        let mut smaller: Vec<String> = vec![];
        for fraction in [0.05, 0.25, 0.5] {
            let names = kept(&dataset, fraction, seed);
            let groups: std::collections::HashSet<_> = names.iter().map(|name| group_of[name]).collect();
            let whole = dataset.records.iter().filter(|r| groups.contains(&r.group)).count();
            assert_eq!(names.len(), whole, "seed {seed}: a patient is torn at {fraction}");
            assert!(smaller.iter().all(|name| names.contains(name)), "seed {seed}: {fraction} is not nested");
            let mut part = dataset.clone();
            split::keep_fraction(&mut part, fraction, seed).unwrap();
            for (n, all) in part.class_counts(None).into_iter().zip(&all) {
                let got = n as f64 / *all as f64;
                assert!((got - fraction).abs() < 0.05, "seed {seed}: {got} for {fraction}");
            }
            smaller = names;
        }
    }
}
