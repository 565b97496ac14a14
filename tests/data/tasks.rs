//! Tables of labels, numbers and masks, and the published layouts.

use crate::{png_bytes, seen, write};
use roentgen::{
    Result,
    data::{
        Augment, Batch, Columns, Dataset, DiskCache, Fractions, Frame, Intensity, Layout, Loader, LoaderOptions,
        Record, Scaling, Scan, Split, Truth,
        resize::{fit_mask, unfit_mask},
        sampling::Turn,
        scan::{Color, Meaning, Samples},
        split,
    },
    task::Task,
};
use std::{fs, path::Path};

/// A gray PNG of these pixels.
fn picture(width: usize, pixels: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, (pixels.len() / width) as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(pixels).unwrap();
    bytes
}

fn table(rows: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..4 {
        write(folder.path().join(format!("{i}.png")), png_bytes(i));
    }
    write(folder.path().join("list.csv"), rows);
    folder
}

fn columns(target: &[&str]) -> Columns {
    Columns { target: target.iter().map(|name| name.to_string()).collect(), ..Columns::default() }
}

fn numbers(dataset: &Dataset) -> Vec<Vec<f32>> {
    let of = |r: &roentgen::data::Record| match &r.truth {
        Truth::Numbers(numbers) => numbers.clone(),
        other => panic!("{other:?}"),
    };
    dataset.records.iter().map(of).collect()
}

#[test]
fn labels_are_joined_in_one_column_or_have_a_column_each() {
    let folder = table("path,marks,b,a\n0.png,a|b,1,1\n1.png,,0,0\n2.png,b,1,0\n3.png, b | c ,1,0\n");
    let path = folder.path().join("list.csv");
    let joined = Dataset::open_for(Task::MultiLabel, &path, &columns(&["marks"])).unwrap();
    assert_eq!(joined.classes, ["a", "b", "c"]);
    assert_eq!(numbers(&joined), [[1.0, 1.0, 0.0], [0.0; 3], [0.0, 1.0, 0.0], [0.0, 1.0, 1.0]]);
    assert_eq!(joined.class_counts(None), [1, 3, 1]);
    let described: Vec<_> = joined.records.iter().map(|r| joined.describe(r)).collect();
    assert_eq!(described, ["a|b", "", "b", "b|c"]);
    let apart = Dataset::open_for(Task::MultiLabel, &path, &columns(&["b", "a"])).unwrap();
    assert_eq!(apart.classes, ["a", "b"]);
    assert_eq!(numbers(&apart), [[1.0, 1.0], [0.0; 2], [0.0, 1.0], [0.0, 1.0]]);
}

#[test]
fn numbers_and_inputs_are_scaled_by_the_training_images() {
    let folder = table("file,age,male,w\n0.png,10,True,1\n1.png,20,False,1\n2.png,40,M,1\n3.png,1e1,f,1\n");
    let wanted = Columns { path: "file".into(), inputs: vec!["male".into(), "w".into()], ..columns(&["age"]) };
    let dataset = Dataset::open_for(Task::Regression, &folder.path().join("list.csv"), &wanted).unwrap();
    assert_eq!(numbers(&dataset), [[10.0], [20.0], [40.0], [10.0]]);
    let inputs: Vec<_> = dataset.records.iter().map(|r| r.inputs.clone()).collect();
    assert_eq!(inputs, [[1.0, 1.0], [0.0, 1.0], [1.0, 1.0], [0.0, 1.0]]);
    // Where cells are separated by other signs a comma is a decimal point.
    let folder = table("file;age;male;w\n0.png;10,5;True;1\n1.png;2,5e1;False;1\n");
    let commas = Dataset::open_for(Task::Regression, &folder.path().join("list.csv"), &wanted).unwrap();
    assert_eq!(numbers(&commas), [[10.5], [25.0]]);
    let targets = Scaling { mean: vec![20.0], std: vec![10.0] };
    let options = LoaderOptions { size: 8, targets, workers: 0, ..LoaderOptions::default() };
    let batch = Loader::new(dataset.records, options).epoch(0, 0).next().unwrap().unwrap();
    assert_eq!(batch.targets, [-1.0, 0.0, 2.0, -1.0]);
    assert_eq!(batch.inputs, [1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0]);
}

#[test]
fn the_positive_class_comes_last() {
    let folder = table("path,label\n0.png,COVID\n1.png,Normal\n2.png,COVID\n3.png,Normal\n");
    let positive = Columns { positive: Some("COVID".into()), ..Columns::default() };
    let dataset = Dataset::open_for(Task::Binary, &folder.path().join("list.csv"), &positive).unwrap();
    assert_eq!(dataset.classes, ["Normal", "COVID"]);
    assert_eq!(dataset.records.iter().map(|r| r.label()).collect::<Vec<_>>(), [1, 0, 1, 0]);
}

fn mask(record: &Record) -> Result<Vec<u8>> {
    record.mask(record.extent()?)
}

/// Raters agree pixel by pixel, an empty cell marks nothing, and a mask goes where its image goes.
#[test]
fn masks_of_raters_agree_and_follow_the_image() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    // 4 x 2: a rater marks the left half, one the top row, one with the value 1 the top left pixel.
    let [left, top, corner] = [[9, 9, 0, 0, 9, 9, 0, 0], [255, 255, 255, 255, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]];
    for (name, pixels) in [("image", [50; 8]), ("left", left), ("top", top), ("corner", corner)] {
        write(path.join(format!("{name}.png")), picture(4, &pixels));
    }
    write(path.join("list.csv"), "path,r0,r1,r2\nimage.png,left.png,top.png,corner.png\n");
    let drawn = |agree| {
        let wanted = Columns { masks: vec!["nodule=r0,r1,r2".into(), "r2".into()], agree, ..Columns::default() };
        Dataset::open_for(Task::Segmentation, &path.join("list.csv"), &wanted)
    };
    assert!(drawn(2).unwrap_err().to_string().contains("2 of 1 raters"));
    let one = drawn(1).unwrap();
    assert_eq!(one.classes, ["nodule", "mask"]);
    let first = |mask: Vec<u8>| mask.into_iter().step_by(2).collect::<Vec<_>>();
    assert_eq!(first(mask(&one.records[0]).unwrap()), [1, 1, 1, 1, 1, 1, 0, 0]);
    let two = Columns { masks: vec!["r0,r1,r2".into()], agree: 2, ..Columns::default() };
    let two = Dataset::open_for(Task::Segmentation, &path.join("list.csv"), &two).unwrap();
    assert_eq!(mask(&two.records[0]).unwrap(), [1, 1, 0, 0, 0, 0, 0, 0]);
    // The image is centred in the square, and so is the mask.
    let options = LoaderOptions { size: 4, workers: 0, ..LoaderOptions::default() };
    let batch = Loader::new(two.records, options).epoch(0, 0).next().unwrap().unwrap();
    assert_eq!(batch.masks, [0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    // A mask of another size is refused by name.
    write(path.join("left.png"), picture(2, &[1; 8]));
    let error = drawn(1).unwrap().verify(Intensity::Auto, false).unwrap_err().to_string();
    assert!(error.contains("left.png is 2 x 4, its image 4 x 2"), "{error}");
}

#[test]
fn folders_of_images_and_masks_are_pairs() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..3 {
        write(folder.path().join(format!("train/images/{i}.png")), png_bytes(i));
        write(folder.path().join(format!("train/masks/{i}.png")), png_bytes(i + 9));
        write(folder.path().join(format!("test/images/{i}.png")), png_bytes(i + 20));
        write(folder.path().join(format!("test/masks/{i}.png")), png_bytes(i + 29));
    }
    let open = || Dataset::open_for(Task::Segmentation, folder.path(), &Columns::default());
    let mut dataset = open().unwrap();
    assert_eq!((dataset.classes.len(), dataset.of(Some(Split::Test)).count(), dataset.records.len()), (1, 3, 6));
    dataset.verify(Intensity::Auto, false).unwrap();
    // The fingerprint has the masks in it.
    let before = dataset.records[0].fingerprint.unwrap().file;
    write(folder.path().join("test/masks/0.png"), png_bytes(77));
    dataset.verify(Intensity::Auto, false).unwrap();
    assert_ne!(dataset.records[0].fingerprint.unwrap().file, before);
    assert_eq!(dataset.ignored, 0);
    fs::remove_file(folder.path().join("test/images/1.png")).unwrap();
    assert_eq!(open().unwrap().ignored, 1, "the mask of no image");
    fs::remove_file(folder.path().join("test/masks/0.png")).unwrap();
    assert!(open().unwrap_err().to_string().contains("test/images/0.png has no mask"));
}

#[test]
fn masks_come_back_from_the_square() {
    let (width, height, k) = (23, 40, 2);
    let mask: Vec<u8> = (0..width * height * k).map(|i| u8::from(i / k % width > 9 && i % k == i / 700 % 2)).collect();
    let square = fit_mask(&mask, (width, height), k, 80);
    assert_eq!(unfit_mask(&square, (width, height), k, 80), mask);
}

/// Geometry moves a mask as it moves the image: the image of a mask, moved and cut at one half, differs from the moved mask only
/// where it is near one half.
#[test]
fn a_mask_is_varied_as_its_image() {
    let size = 48;
    let mask: Vec<u8> = (0..size * size).map(|i| u8::from((i / size > 30) != (i % size < 17))).collect();
    let augment = Augment {
        flip: 0.5,
        flip_vertical: 0.5,
        rotation: 60.0,
        translation: 0.1,
        scale: [0.8, 1.2],
        shear: 10.0,
        ..Augment::none()
    };
    for record in 0..40 {
        let change = augment.draw(1, Turn { record, pass: 0 }, size, 0.5);
        let pixels = mask.iter().map(|&marked| 255 * marked).collect();
        // Two structures move alike.
        let masks = mask.iter().flat_map(|&m| [m, m]).collect();
        let batch = Batch { changes: vec![change], masks, ..Batch::plain(size, pixels, vec![0]) };
        let (image, moved) = seen(&batch, 1);
        let differs = |(m, &v): (&[f64], &f64)| m[0] != m[1] || (v - 0.5).abs() > 0.3 && (m[0] == 1.0) != (v > 0.5);
        let wrong = moved.chunks(2).zip(&image).filter(|&pair| differs(pair)).count();
        // Corners, and the rim where the image fades into nothing.
        assert!(wrong <= 12, "{change:?}: {wrong} pixels differ");
    }
}

#[test]
fn splits_of_labels_and_groups_are_even() {
    let rows: String = (0..400)
        .map(|i| format!("0.png{i},{},p{}\n", if i % 10 == 0 { "rare|common" } else { "common" }, i / 4))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    for i in 0..400 {
        write(folder.path().join(format!("0.png{i}")), png_bytes(i));
    }
    write(folder.path().join("list.csv"), format!("path,label,group\n{rows}"));
    let mut dataset =
        Dataset::open_for(Task::MultiLabel, &folder.path().join("list.csv"), &Columns::default()).unwrap();
    split::assign(&mut dataset, &Fractions { validation: 0.2, test: 0.2 }, 3).unwrap();
    for (which, wanted) in [(Split::Validation, [80, 8]), (Split::Test, [80, 8]), (Split::Train, [240, 24])] {
        let got = dataset.class_counts(Some(which));
        assert!(got[0].abs_diff(wanted[0]) <= 8 && got[1].abs_diff(wanted[1]) <= 2, "{which}: {got:?}");
    }
    assert!(split::warnings(&dataset).iter().all(|w| !w.contains("groups")));
}

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (i, (name, text)) in files.iter().enumerate() {
        let bytes = if name.ends_with("png") { png_bytes(i) } else { text.as_bytes().to_vec() };
        write(folder.path().join(name), bytes);
    }
    folder
}

fn open(layout: Layout, path: &Path) -> Dataset {
    let mut dataset = layout.open(path).unwrap();
    dataset.verify(Intensity::Auto, false).unwrap();
    dataset
}

#[test]
fn bone_age_opens_as_published_and_as_in_the_study() {
    let study = tree(&[
        ("TrainingSet/train.csv", "id,boneage,male\n1377,180,False\n1378,12,True\n"),
        ("TrainingSet/Images/1377.png", ""),
        ("TrainingSet/Images/1378.png", ""),
        ("ValidationSet/Valid.csv", "id,boneage,male\n1386,30,FALSE\n"),
        ("ValidationSet/Images/1386.png", ""),
        ("TestSet/Test.csv", "id,boneage,male\n4360,168.9,True\n"),
        ("TestSet/Images/4360.png", ""),
    ]);
    let official = tree(&[
        ("boneage-training-dataset.csv", "id,boneage,male\n1377,180,False\n1378,12,True\n"),
        ("boneage-training-dataset/1377.png", ""),
        ("boneage-training-dataset/1378.png", ""),
        ("Validation Dataset.csv", "Image ID,male,Bone Age (months)\n1386,FALSE,30\n"),
        ("boneage-validation-dataset-1/1386.png", ""),
        ("Bone age test.csv", "Case ID,Sex,Ground truth bone age (months)\n4360,M,168.9\n"),
        ("Test set images/4360.png", ""),
        // As Kaggle has it, without ages.
        ("boneage-test-dataset.csv", "Case ID,Sex\n4361,M\n"),
        ("boneage-test-dataset/4361.png", ""),
        ("Test set images/._4360.png", "of a Mac"),
    ]);
    for folder in [study, official] {
        let dataset = open(Layout::RsnaBoneAge, folder.path());
        assert_eq!((dataset.task, &dataset.inputs[..]), (Task::Regression, &["male".to_string()][..]));
        let mut got: Vec<_> = dataset.records.iter().map(|r| (r.split, r.truth.clone(), r.inputs[0])).collect();
        got.sort_by_key(|row| row.0);
        let row = |split, months, male| (Some(split), Truth::Numbers(vec![months]), male);
        assert_eq!(got[2..], [row(Split::Validation, 30.0, 0.0), row(Split::Test, 168.9, 1.0)]);
        assert!(got[..2].contains(&row(Split::Train, 180.0, 0.0)) && got[..2].contains(&row(Split::Train, 12.0, 1.0)));
    }
    let broken = tree(&[("train.csv", "id,boneage,male\n7,180,False\n")]);
    let error = Layout::RsnaBoneAge.open(broken.path()).unwrap_err().to_string();
    assert!(error.contains("no file of image \"7\""), "{error}");
}

#[test]
fn covid_radiography_takes_two_classes() {
    let folder = tree(&[
        ("COVID/images/COVID-1.png", ""),
        ("COVID/masks/COVID-1.png", ""),
        ("Normal/images/Normal-1.png", ""),
        ("Viral Pneumonia/images/V-1.png", ""),
    ]);
    let dataset = open(Layout::CovidRadiography, folder.path());
    assert_eq!(dataset.classes, ["Normal", "COVID"]);
    let got: Vec<_> = dataset.records.iter().map(|r| (r.name.as_str(), r.label())).collect();
    assert_eq!(got, [("COVID/images/COVID-1.png", 1), ("Normal/images/Normal-1.png", 0)]);
}

#[test]
fn grazpedwri_groups_patients() {
    let folder = tree(&[
        ("dataset.csv", "filestem,patient_id,age,osteopenia\n0001_a,1,9,\n0001_b,1,9,1\n0002_a,2,4,1\n"),
        ("images_part1/0001_a.png", ""),
        ("images_part1/0001_b.png", ""),
        ("images_part2/0002_a.png", ""),
    ]);
    let dataset = open(Layout::GrazpedwriDx, folder.path());
    assert_eq!(dataset.classes, ["normal", "osteopenia"]);
    let got: Vec<_> = dataset.records.iter().map(|r| (r.label(), r.group.as_deref())).collect();
    assert_eq!(got, [(0, Some("1")), (1, Some("1")), (1, Some("2"))]);
}

#[test]
fn a_pixel_that_is_not_zero_is_marked() {
    let marks = |image: &[u8]| Scan::open(image, "mask").unwrap().marked(0).unwrap();
    assert_eq!(marks(&picture(2, &[0, 1, 255, 0])), [false, true, true, false]);
    // The least value of a signed type is black, and 0 is not.
    let gray = |meaning| {
        let samples = Samples::I16(vec![0, 1, -2, 0]);
        Frame { width: 2, height: 2, color: Color::Gray, samples, meaning }.marked()
    };
    let signed = Meaning { range: [-32768.0, 32767.0], ..Meaning::picture(16) };
    assert_eq!(gray(signed), [false, true, true, false]);
    assert_eq!(gray(Meaning { lossy: true, ..Meaning::picture(1) }), [false, true, false, false]);
}

#[test]
fn any_channel_of_a_color_marks() {
    for depth in [png::BitDepth::Eight, png::BitDepth::Sixteen] {
        // Black, the darkest blue, and black with alpha.
        let pixels = [[0, 0, 0, 9], [0, 0, 1, 0], [0, 0, 0, 255]].concat();
        let wide: Vec<u8> = pixels.iter().flat_map(|&v| [0, v]).collect();
        let mut bytes = vec![];
        let mut encoder = png::Encoder::new(&mut bytes, 3, 1);
        encoder.set_color(png::ColorType::Rgba);
        encoder.set_depth(depth);
        let pixels = if depth == png::BitDepth::Eight { &pixels } else { &wide };
        encoder.write_header().unwrap().write_image_data(pixels).unwrap();
        assert_eq!(Scan::open(&bytes, "mask").unwrap().marked(0).unwrap(), [false, true, false]);
    }
    // Black, almost black, blue.
    let samples = [[0, 128, 128], [2, 128, 127], [29, 255, 107]].concat();
    let ybr = |lossy| {
        let (samples, meaning) = (Samples::U8(samples.clone()), Meaning { lossy, ..Meaning::picture(8) });
        Frame { width: 3, height: 1, color: Color::Ybr, samples, meaning }.marked()
    };
    assert_eq!(ybr(false), [false, true, true]);
    assert_eq!(ybr(true), [false, false, true]);
}

/// A volume, or several, of 2 x 1 pixels a slice.
fn volumes(slices: usize, values: &[i16]) -> Vec<u8> {
    let header = format!(
        "ObjectType = Image\nNDims = 4\nBinaryDataByteOrderMSB = False\nDimSize = 2 1 {slices} {}\n\
         ElementType = MET_SHORT\nElementDataFile = LOCAL\n",
        values.len() / 2 / slices
    );
    header.into_bytes().into_iter().chain(values.iter().flat_map(|v| v.to_le_bytes())).collect()
}

#[test]
fn slices_of_volumes_have_the_masks_of_their_slices() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path.join("scan.mha"), volumes(3, &[0, 10, 20, 30, 40, 50]));
    write(path.join("mask.mha"), volumes(3, &[0, 0, 0, 1, 1, 0]));
    write(path.join("flat.png"), picture(2, &[1, 1]));
    let rows = "path,slice,m\nscan.mha,0,mask.mha\nscan.mha,1,flat.png\nscan.mha,2,mask.mha\nscan.mha,,mask.mha#2\n";
    write(path.join("list.csv"), rows);
    let columns = Columns { masks: vec!["m".into()], ..Columns::default() };
    let mut dataset = Dataset::open_for(Task::Segmentation, &path.join("list.csv"), &columns).unwrap();
    dataset.verify(Intensity::Auto, false).unwrap();
    let stems: Vec<_> = dataset.records.iter().map(Record::stem).collect();
    assert_eq!(stems, ["scan", "scan-0", "scan-1", "scan-2"]);
    // From the disk cache, the mask comes with its image all the same.
    let disk_cache = Some(DiskCache::open(&path.join("cache")).unwrap());
    let options = LoaderOptions { size: 2, workers: 0, disk_cache, ..LoaderOptions::default() };
    for _ in 0..2 {
        let batch = Loader::new(dataset.records.clone(), options.clone()).epoch(0, 0).next().unwrap().unwrap();
        let rows: Vec<_> = batch.masks.chunks_exact(4).map(|mask| [mask[0] + mask[2], mask[1] + mask[3]]).collect();
        assert_eq!(rows, [[1, 0], [0, 0], [1, 1], [1, 0]]);
    }
}

/// Of two points in time, a mask goes with one or with both; other numbers of slices say nothing of which is which.
#[test]
fn masks_have_as_many_slices_as_their_images() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path.join("scan.mha"), volumes(3, &(0..12).collect::<Vec<i16>>()));
    write(path.join("both.mha"), volumes(3, &[0, 0, 0, 1, 1, 0, 1, 1, 0, 0, 0, 1]));
    write(path.join("one.mha"), volumes(3, &[0, 0, 0, 1, 1, 0]));
    write(path.join("two.mha"), volumes(2, &[0, 1, 1, 0]));
    let masks = |rows: &str| {
        write(path.join("list.csv"), format!("path,m\n{rows}"));
        let columns = Columns { masks: vec!["m".into()], ..Columns::default() };
        let dataset = Dataset::open_for(Task::Segmentation, &path.join("list.csv"), &columns).unwrap();
        dataset.records.iter().map(mask).collect::<Result<Vec<_>>>()
    };
    // The middle slice is the fifth of six.
    let rows = "scan.mha,both.mha\nscan.mha#1,both.mha\nscan.mha#3,both.mha\nscan.mha#5,both.mha#1\n";
    assert_eq!(masks(rows).unwrap(), [[0, 0], [0, 1], [1, 1], [0, 1]]);
    let rows = "scan.mha,one.mha\nscan.mha#1,one.mha\nscan.mha#3,one.mha\nscan.mha#5,two.mha#1\n";
    assert_eq!(masks(rows).unwrap(), [[0, 1], [0, 1], [0, 0], [1, 0]]);
    let said = masks("scan.mha,two.mha\n").unwrap_err().to_string();
    assert!(said.contains("two.mha has 2 frames, the file of its image 6") && said.contains("FILE#N"), "{said}");
}
