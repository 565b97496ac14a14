//! Volumes taken apart, and masks in their place.

use roentgen::data::{Intensity, Scan, Source, volume};
use std::{fs, path::Path};

/// Every volume of the fixtures, whatever its type, byte order and packing: a frame alone is that frame, and a mask is read back
/// with the place of its volume.
#[test]
fn frames_and_masks_keep_what_their_volume_is() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/scans");
    let mut tried = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("bad") || ![".nii", ".gz", ".mha", ".mhd"].iter().any(|suffix| name.ends_with(suffix)) {
            continue;
        }
        let original = Source::File(path).read().unwrap().into_owned();
        let plain = volume::unpacked(original.clone());
        assert!(volume::is_volume(&plain), "{name}");
        let (scan, unpacked) = (Scan::open(&original, &name).unwrap(), Scan::open(&plain, &name).unwrap());
        let facts = scan.facts();
        let area = facts.width * facts.height;
        let mask: Vec<u8> = (0..area * facts.frames).map(|i| u8::from(i % 7 == i / area % 7)).collect();
        let (file, suffix) = volume::mask_like(&plain, &mask).unwrap();
        assert_eq!(suffix, if name.starts_with("nifti") { "nii.gz" } else { "mha" });
        let masks = Scan::open(&file, "mask").unwrap();
        let found = masks.facts();
        assert_eq!((found.width, found.height, found.frames), (facts.width, facts.height, facts.frames), "{name}");
        assert_eq!((found.bits, found.channels), (8, 1), "{name}");
        assert_eq!((found.spacing, found.affine), (facts.spacing, facts.affine), "{name}");
        for k in 0..facts.frames {
            let frame = scan.frame(k).unwrap();
            assert_eq!(unpacked.frame(k).unwrap(), frame, "{name}");
            let alone = volume::frame_alone(&plain, k).unwrap();
            let alone = Scan::open(&alone, "frame").unwrap();
            assert_eq!(alone.facts().frames, 1, "{name}");
            assert_eq!(alone.frame(0).unwrap(), frame, "{name}, frame {k}");
            let marked: Vec<u8> = masks.frame(k).unwrap().marked().into_iter().map(u8::from).collect();
            assert!(marked == mask[k * area..(k + 1) * area], "{name}, frame {k}");
        }
        tried += 1;
    }
    assert!(tried > 25, "{tried}");
}

/// Damaged data are unpacked as far as they go; what is not packed comes as it is.
#[test]
fn damaged_volumes_are_unpacked_in_part() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/scans");
    let name = "bad_packed.mha";
    let bytes = fs::read(folder.join(name)).unwrap();
    let plain = volume::unpacked(bytes.clone());
    assert!(volume::is_packed(&bytes) && !volume::is_packed(&plain), "{name}");
    let scan = Scan::open(&plain, name).unwrap();
    let last = scan.frame(scan.facts().frames - 1).expect_err("it is behind the damage").to_string();
    assert!(last.contains("too few for its size"), "{last}");
    // The second is damaged within its header.
    for name in ["bad_short.nii", "bad_packed.nii.gz", "u8.dcm"] {
        let bytes = fs::read(folder.join(name)).unwrap();
        assert!(volume::unpacked(bytes.clone()) == bytes, "{name}");
    }
}

#[test]
fn a_header_without_its_data_file_names_that_file() {
    let folder = tempfile::tempdir().unwrap();
    let header = folder.path().join("ct.mhd");
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/scans/meta_beside.mhd"), &header).unwrap();
    let said = Source::File(header).read().unwrap_err().to_string();
    assert!(said.contains("meta_beside.raw: No such file"), "{said}");
}

/// A MetaImage of 2 x 1 pixels, or more of them, with these lines in its header.
fn metaimage(lines: &str, data: &[u8]) -> Vec<u8> {
    [format!("ObjectType = Image\n{lines}ElementDataFile = LOCAL\n").as_bytes(), data].concat()
}

#[test]
fn the_middle_of_several_volumes_is_in_the_middle_of_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/scans");
    // Two volumes of three slices.
    let nifti = fs::read(folder.join("nifti_time.nii")).unwrap();
    assert_eq!(Scan::open(&nifti, "nifti").unwrap().middle(), 4);
    for (sizes, middle) in [("2 1 1 5", 2), ("2 1 4 3", 6), ("2 1 5", 2), ("2 1", 0)] {
        let rank = sizes.split(' ').count();
        let file = metaimage(&format!("NDims = {rank}\nDimSize = {sizes}\nElementType = MET_UCHAR\n"), &[0; 24]);
        assert_eq!(Scan::open(&file, "meta").unwrap().middle(), middle, "{sizes}");
    }
}

/// SimpleITK reads `MET_LONG` as 32 bit, whatever the `long` of the machine is.
#[test]
fn the_long_types_of_metaimages_have_four_bytes() {
    for (kind, bits, values) in [
        ("MET_LONG", 32, [-2.0, 1.0]),
        ("MET_ULONG", 32, [4294967294.0, 1.0]),
        ("MET_LONG_LONG", 64, [-2.0, 1.0]),
        ("MET_ULONG_LONG", 64, [18446744073709551614.0, 1.0]),
    ] {
        let data: Vec<u8> = match bits {
            32 => [-2i32, 1].iter().flat_map(|v| v.to_le_bytes()).collect(),
            _ => [-2i64, 1].iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        let file = metaimage(&format!("NDims = 2\nDimSize = 2 1\nElementType = {kind}\n"), &data);
        let scan = Scan::open(&file, kind).unwrap();
        assert_eq!(scan.facts().bits, bits, "{kind}");
        assert_eq!(scan.frame(0).unwrap().physical(), values, "{kind}");
    }
}

#[test]
fn metaimages_as_text_are_refused() {
    let file = metaimage("NDims = 2\nBinaryData = False\nDimSize = 2 1\nElementType = MET_UCHAR\n", b"12 34\n");
    let said = Scan::open(&file, "text.mha").err().unwrap().to_string();
    assert!(said.contains("text.mha") && said.contains("BinaryData = False"), "{said}");
}

/// As a CT in DICOM, and so does a slice alone.
#[test]
fn ct_in_a_metaimage_is_shown_by_its_units() {
    let data: Vec<u8> = [-1000i16, 0, 1000, 30].iter().flat_map(|v| v.to_le_bytes()).collect();
    let lines = "NDims = 3\nDimSize = 2 1 2\nModality = MET_MOD_CT\nElementType = MET_SHORT\n";
    for (modality, units) in [("MET_MOD_CT", true), ("MET_MOD_MR", false)] {
        let file = metaimage(&lines.replace("MET_MOD_CT", modality), &data);
        for (file, frame) in [(file.clone(), 1), (volume::frame_alone(&file, 1).unwrap(), 0)] {
            let render = |rule| Source::Embedded(b"").decode(&file, modality, rule).unwrap();
            let frame = Scan::open(&file, modality).unwrap().frame(frame).unwrap();
            assert_eq!(frame.meaning.hounsfield, units, "{modality}");
            assert_eq!(render(Intensity::Auto) == render(Intensity::CT), units, "{modality}");
        }
    }
}
