//! Decoding, resizing and augmentation give what Pillow and torchvision give.

use crate::{fixtures, pattern, seen};
use roentgen::{
    data::{Batch, Gray, Intensity, Normalise, Pixels, Scan, Source, augment::Geometry, decode, fit},
    ops::augment::Change,
};
use serde_json::Value;
use std::fs;

fn expected(part: &str) -> Value {
    let text = fs::read_to_string(fixtures().join("expected.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[part].take()
}

fn rows(value: &Value) -> Vec<Vec<i64>> {
    let numbers = |row: &Value| row.as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect();
    value.as_array().unwrap().iter().map(numbers).collect()
}

fn number(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn values(image: &Gray) -> (usize, Vec<i64>) {
    match &image.pixels {
        Pixels::U8(values) => (8, values.iter().map(|&v| v.into()).collect()),
        Pixels::U16(values) => (16, values.iter().map(|&v| v.into()).collect()),
    }
}

#[test]
fn every_flavour_decodes_as_in_pillow() {
    let cases = expected("decode");
    for (name, case) in cases.as_object().unwrap() {
        let image = decode(&fs::read(fixtures().join(name)).unwrap(), name).unwrap();
        let (bits, got) = values(&image);
        let want = rows(&case["pixels"]);
        assert_eq!((image.width, image.height, bits), (want[0].len(), want.len(), number(&case["bits"])), "{name}");
        let worst = got.iter().zip(want.concat()).map(|(a, b)| (a - b).abs()).max().unwrap();
        assert!(worst <= case["tolerance"].as_i64().unwrap(), "{name} differs from Pillow by {worst}");
    }
    assert_eq!(cases.as_object().unwrap().len(), 26);
}

/// Compression leaves noise where nothing was marked.
#[test]
fn jpeg_masks_mark_what_was_drawn() {
    let cases = expected("masks");
    for (name, drawn) in cases.as_object().unwrap() {
        let bytes = fs::read(fixtures().join(name)).unwrap();
        let marked = Scan::open(&bytes, name).unwrap().marked(0).unwrap();
        assert!(marked.into_iter().map(i64::from).eq(rows(drawn).concat()), "{name}");
    }
    assert_eq!(cases.as_object().unwrap().len(), 3);
}

#[test]
fn resizing_is_within_one_level_of_pillow() {
    for case in expected("resize").as_array().unwrap() {
        let (width, height) = (number(&case["from"][0]), number(&case["from"][1]));
        let (size, bits) = (number(&case["size"]), number(&case["bits"]));
        let name = format!("{width} x {height} at {bits} bit to {size}");
        let source = pattern(width, height, 1 << bits.min(16));
        let pixels = match bits {
            8 => Pixels::U8(source.iter().map(|&v| v as u8).collect()),
            _ => Pixels::U16(source),
        };
        let image = fit(&Gray { width, height, pixels }, size);
        assert_eq!((image.width, image.height), (size, size), "{name}");

        let (got_bits, got) = values(&image);
        assert_eq!(got_bits, bits, "{name}");
        let (left, top) = (number(&case["left_top"][0]), number(&case["left_top"][1]));
        let (to_width, to_height) = (number(&case["to"][0]), number(&case["to"][1]));
        let step = number(&case["step"]);
        for (i, row) in rows(&case["pixels"]).iter().enumerate() {
            for (j, want) in row.iter().enumerate() {
                let have = got[(top + i * step) * size + left + j * step];
                assert!((have - want).abs() <= 1, "{name}: {have} for {want} at row {i}, column {j}");
            }
        }
        let inside = |x: usize, y: usize| (left..left + to_width).contains(&x) && (top..top + to_height).contains(&y);
        let padding = (0..size * size).filter(|i| !inside(i % size, i / size));
        assert!(padding.clone().all(|i| got[i] == 0), "{name}: the padding is not black");
        assert_eq!(padding.count(), size * size - to_width * to_height, "{name}");
    }
}

/// The reference's own example: 512 x 400 becomes 224 x 175, with 24 black rows on top and 25 below.
#[test]
fn the_longer_side_fills_the_square_and_the_rest_is_centred() {
    let white = |width: usize, height: usize| Gray { width, height, pixels: Pixels::U8(vec![255; width * height]) };
    let lit = |image: &Gray| -> Vec<usize> {
        let (_, got) = values(image);
        (0..224).filter(|y| got[y * 224..][..224].iter().any(|&v| v > 0)).collect()
    };
    let wide = fit(&white(512, 400), 224);
    assert_eq!(lit(&wide), (24..199).collect::<Vec<_>>());
    assert_eq!(lit(&fit(&white(400, 512), 224)).len(), 224);
    for side in 1..400 {
        assert_eq!(lit(&fit(&white(1, side), 224)).len(), 224, "a side of {side}");
    }
}

#[test]
fn augmentation_is_that_of_torchvision() {
    for case in expected("augment").as_array().unwrap() {
        let size = number(&case["size"]);
        let real = |name: &str| case[name].as_f64().unwrap() as f32;
        let change = Change {
            affine: Geometry {
                flip: [0, 1].map(|i| case["flip"][i].as_bool().unwrap()),
                degrees: real("degrees"),
                shift: [0, 1].map(|i| case["shift"][i].as_f64().unwrap() as f32),
                scale: real("scale"),
                shear: real("shear"),
            }
            .affine(),
            brightness: real("brightness"),
            contrast: real("contrast"),
            pivot: real("pivot"),
            gamma: real("gamma"),
            ..Change::NONE
        };
        let stored = pattern(size, size, 256).into_iter().map(|v| v as u8).collect::<Vec<_>>();
        let masks = stored.iter().map(|&v| u8::from(v > 120)).collect();
        let batch = Batch { changes: vec![change], masks, ..Batch::plain(size, stored, vec![0]) };
        let (image, mask) = seen(&batch, 1);
        for (i, (a, b)) in image.iter().zip(case["pixels"].as_array().unwrap()).enumerate() {
            let b = b.as_f64().unwrap();
            assert!((a - b).abs() < 1e-5, "{case}: {a} for {b} at {i}");
        }
        let wanted = case["mask"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap());
        assert_eq!(mask, wanted.collect::<Vec<_>>(), "{case}");
    }
}

#[test]
fn an_image_becomes_three_normalised_channels() {
    let path = fixtures().join("gray16.png");
    let gray = Source::of_path(&path).fitted("gray16.png", 21, Intensity::Auto).unwrap();
    let Pixels::U16(values) = gray.pixels else { panic!("other pixels") };
    let batch = |normalise| {
        let pixels = bytemuck::cast_slice(&values).to_vec();
        Batch { bytes: 2, normalise, ..Batch::plain(21, pixels, vec![0]) }
    };
    let (raw, scaled) = (seen(&batch(Normalise::none()), 3).0, seen(&batch(Normalise::imagenet()), 3).0);
    assert_eq!(raw.len(), 21 * 21 * 3);
    let first = pattern(21, 13, 65536);
    for (i, pixel) in raw.chunks_exact(3).enumerate() {
        let (x, y) = (i % 21, i / 21);
        let want = if (4..17).contains(&y) { f64::from(first[(y - 4) * 21 + x]) / 65535.0 } else { 0.0 };
        assert!(pixel.iter().all(|v| (v - want).abs() < 1e-7));
        let normal = [(want - 0.485) / 0.229, (want - 0.456) / 0.224, (want - 0.406) / 0.225];
        assert!(scaled[3 * i..][..3].iter().zip(normal).all(|(a, b)| (a - b).abs() < 1e-5));
    }
    assert!(Normalise::preset("mean", "resnet18").is_err());
}
