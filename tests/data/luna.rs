//! Crops of CT volumes around nodules, beside the masks that SimpleITK makes of the same annotations.

use crate::write;
use roentgen::data::{Dataset, Intensity, Layout, Loader, LoaderOptions, Pixels, Record, Scan, Source, Truth};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A copy of the set without some of its files.
fn copied(without: &str) -> tempfile::TempDir {
    let (root, folder) = (fixtures().join("luna"), tempfile::tempdir().unwrap());
    for name in [
        "annotations.csv",
        "subset0/1.2.3.mhd",
        "subset0/1.2.3.zraw",
        "subset1/4.5.6.mha",
        "seg-lungs-LUNA16/1.2.3.mhd",
    ] {
        if !name.contains(without) || without.is_empty() {
            write(folder.path().join(name), fs::read(root.join(name)).unwrap());
        }
    }
    folder
}

/// Series, slice, row and column that a record's name tells.
fn place(record: &Record) -> (String, usize, usize, usize) {
    let (volume, rest) = record.name.split_once('#').unwrap();
    let mut numbers = rest.split(['@', 'x']).map(|n| n.parse().unwrap());
    let series = volume.rsplit_once('/').unwrap().1.rsplit_once('.').unwrap().0;
    let mut next = || numbers.next().unwrap();
    (series.into(), next(), next(), next())
}

/// The physical values of the part of a slice that a record is.
fn part(path: &Path, (_, slice, row, column): &(String, usize, usize, usize)) -> Vec<f64> {
    let bytes = Source::File(path.into()).read().unwrap();
    let scan = Scan::open(&bytes, "volume").unwrap();
    let (values, width) = (scan.frame(*slice).unwrap().physical(), scan.facts().width);
    (*row..row + 64).flat_map(|y| values[y * width + column..][..64].to_vec()).collect()
}

fn values(record: &Record) -> Vec<f64> {
    let bytes = record.read().unwrap();
    Scan::open(&bytes, "crop").unwrap().frame(0).unwrap().physical()
}

fn is_empty(record: &Record) -> bool {
    let Truth::Masks(raters) = &record.truth else { panic!("a crop has a mask") };
    raters[0].masks.is_empty()
}

/// Every crop has the values of its volume and the mask of its slice.
fn check(dataset: &Dataset) {
    for record in &dataset.records {
        let place = place(record);
        let volume = fixtures().join(match place.0.as_str() {
            "1.2.3" => "luna/subset0/1.2.3.mhd",
            _ => "luna/subset1/4.5.6.mha",
        });
        assert_eq!(values(record), part(&volume, &place), "{}", record.name);
        let mask: Vec<f64> = record.mask(record.extent().unwrap()).unwrap().into_iter().map(f64::from).collect();
        assert!(mask == part(&fixtures().join(format!("luna_masks/{}.mha", place.0)), &place), "{}", record.name);
        assert_eq!(mask.contains(&1.0), !is_empty(record), "{}", record.name);
        assert_eq!(record.group.as_ref(), Some(&place.0));
    }
}

/// The slices of a series in which SimpleITK's mask marks something.
fn marked_slices(series: &str) -> BTreeSet<usize> {
    let bytes = fs::read(fixtures().join(format!("luna_masks/{series}.mha"))).unwrap();
    let scan = Scan::open(&bytes, "mask").unwrap();
    (0..scan.facts().frames).filter(|&k| scan.frame(k).unwrap().marked().contains(&true)).collect()
}

fn slices(dataset: &Dataset, series: &str) -> BTreeSet<usize> {
    dataset.records.iter().map(place).filter(|place| place.0 == series).map(|place| place.1).collect()
}

#[test]
fn nodules_are_spheres_in_the_space_of_their_volume() {
    let dataset = Layout::Luna16.open(&fixtures().join("luna")).unwrap();
    assert_eq!(dataset.classes, ["nodule"]);
    check(&dataset);
    for series in ["1.2.3", "4.5.6"] {
        assert_eq!(slices(&dataset, series), marked_slices(series));
    }
    // A nodule gives a crop in each of its slices; the sphere of 14.2 mm reaches through seven, of 2 mm.
    assert_eq!(dataset.records.iter().filter(|record| place(record).0 == "4.5.6").count(), 7);
    // The same at any time, but nodules lie in many places of their crops.
    assert_eq!(Layout::Luna16.open(&fixtures().join("luna")).unwrap(), dataset);
    let corners: BTreeSet<_> = dataset.records.iter().map(place).map(|(_, _, row, column)| (row, column)).collect();
    assert!(corners.len() > 6, "{corners:?}");
    // Hounsfield units from -1000 to 1000 are black to white.
    let record = &dataset.records[0];
    let Pixels::U16(pixels) = record.decode(Layout::Luna16.intensity()).unwrap().pixels else { panic!("16 bit") };
    let expected: Vec<f64> = values(record).iter().map(|hu| (hu.clamp(-1000.0, 1000.0) + 1000.0) / 2000.0).collect();
    assert!(pixels.iter().zip(expected).all(|(&v, share)| (f64::from(v) / 65535.0 - share).abs() < 1e-4));
}

#[test]
fn crops_reach_the_network_with_their_masks() {
    let mut dataset = Layout::Luna16.open(&fixtures().join("luna")).unwrap();
    dataset.verify(Intensity::CT, false).unwrap();
    let masks: Vec<Vec<u8>> =
        dataset.records.iter().map(|record| record.mask(record.extent().unwrap()).unwrap()).collect();
    let options = LoaderOptions { size: 64, batch: 64, intensity: Intensity::CT, ..LoaderOptions::default() };
    let batch = Loader::new(dataset.records, options).epoch(0, 0).next().unwrap().unwrap();
    assert_eq!(batch.masks, masks.concat());
}

#[test]
fn volumes_of_masks_take_the_place_of_annotations() {
    let folder = copied("annotations");
    for series in ["1.2.3", "4.5.6"] {
        let name = format!("{series}.mha");
        write(folder.path().join("masks").join(&name), fs::read(fixtures().join("luna_masks").join(&name)).unwrap());
    }
    let dataset = Layout::Luna16.open(folder.path()).unwrap();
    check(&dataset);
    for series in ["1.2.3", "4.5.6"] {
        assert_eq!(slices(&dataset, series), marked_slices(series));
    }
    // Of another size they are refused.
    let mask = folder.path().join("masks/4.5.6.mha");
    fs::copy(fixtures().join("luna_masks/1.2.3.mha"), mask).unwrap();
    let error = Layout::Luna16.open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("4.5.6.mha has the size [90, 80, 9], and its volume [70, 66, 7]"), "{error}");
}

#[test]
fn crops_without_a_nodule_have_none() {
    let with = Layout::Luna16.open(&fixtures().join("luna")).unwrap().records.len();
    let dataset = Layout::Luna16Empty.open(&fixtures().join("luna")).unwrap();
    check(&dataset);
    let empty = dataset.records.iter().filter(|record| is_empty(record)).count();
    assert_eq!(dataset.records.len() - empty, with);
    // The small volume has hardly a place without.
    assert!(empty >= 4, "{empty}");
}

#[test]
fn what_is_wrong_with_a_set_is_told() {
    let refused = |folder: &tempfile::TempDir| Layout::Luna16.open(folder.path()).unwrap_err().to_string();
    let folder = copied("annotations");
    assert!(refused(&folder).contains("annotations.csv"), "{}", refused(&folder));
    let annotated = |row: &str| {
        let folder = copied("annotations");
        let header = "seriesuid,coordX,coordY,coordZ,diameter_mm\n";
        write(folder.path().join("annotations.csv"), format!("{header}{row}\n"));
        refused(&folder)
    };
    assert!(annotated("9.9,1,2,3,4").contains("none of the 2 volumes"), "{}", annotated("9.9,1,2,3,4"));
    assert!(annotated("1.2.3,1,2,900,4").contains("lies outside of"), "{}", annotated("1.2.3,1,2,900,4"));
    assert!(annotated("1.2.3,1,2,x,4").contains("\"x\" is no number"), "{}", annotated("1.2.3,1,2,x,4"));
    let folder = copied("zraw");
    assert!(refused(&folder).contains("1.2.3.zraw"), "{}", refused(&folder));
    let folder = copied("");
    fs::copy(folder.path().join("subset1/4.5.6.mha"), folder.path().join("subset0/4.5.6.mha")).unwrap();
    assert!(refused(&folder).contains("4.5.6 is there twice"), "{}", refused(&folder));
    // Crops are cut before anything could be left out.
    let folder = copied("");
    let volume = folder.path().join("subset1/4.5.6.mha");
    write(volume.clone(), &fs::read(volume).unwrap()[..1000]);
    assert!(refused(&folder).contains("replace or remove the volume"), "{}", refused(&folder));
}
