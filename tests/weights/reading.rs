//! That files are read to the values that PyTorch reads from them.

use super::{expected, fixture};
use roentgen::{
    device::{DType, cpu::Cpu},
    models::Model,
    nn::Mode,
    weights::{Archive, Format, Listing, Stored, Transfer, Values, encode_weights, load_matching},
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

fn float(value: &Value) -> f32 {
    match value {
        Value::String(text) => text.parse().unwrap(),
        number => number.as_f64().unwrap() as f32,
    }
}

/// The tensor that the fixtures describe so.
fn described(tensor: &Value) -> Stored {
    let shape = tensor["shape"].as_array().unwrap().iter().map(|extent| extent.as_u64().unwrap() as usize).collect();
    let values = tensor["values"].as_array().unwrap();
    let values = match tensor["dtype"].as_str().unwrap().contains("float") {
        true => Values::F32(values.iter().map(float).collect()),
        false => Values::I64(values.iter().map(|value| value.as_i64().unwrap()).collect()),
    };
    Stored { shape, values }
}

#[test]
fn every_format_type_and_view_is_read() {
    let files = expected();
    assert!(files.len() > 12);
    for (name, file) in &files {
        let listing = Listing::open(&fixture(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(listing.container, file["container"].as_str().unwrap(), "{name}");
        let read = listing.read().unwrap_or_else(|e| panic!("{name}: {e}")).tensors;
        let tensors = file["tensors"].as_object().unwrap();
        assert!(read.keys().eq(tensors.keys().collect::<std::collections::BTreeSet<_>>()), "{name}");
        for (tensor, wanted) in tensors {
            assert_eq!(read[tensor], described(wanted), "{tensor} of {name}");
            assert_eq!(listing.places[tensor].dtype.name(), wanted["dtype"], "{tensor} of {name}");
        }
    }
}

#[test]
fn formats_are_told_by_their_first_bytes_and_their_wrapping() {
    let dir = tempfile::tempdir().unwrap();
    for (name, format, wrapping) in [
        ("zip.pth", Format::TorchZip, ""),
        ("legacy.pth", Format::TorchLegacy, ""),
        ("types.safetensors", Format::Safetensors, ""),
        ("legacy.pth.gz", Format::TorchLegacy, "in gzip"),
        ("checkpoint.tar.gz", Format::TorchZip, "in tar in gzip"),
    ] {
        let disguised = dir.path().join("weights.bin");
        fs::copy(fixture(name), &disguised).unwrap();
        let listing = Listing::open(&disguised).unwrap();
        assert_eq!((listing.format, listing.wrapping), (format, wrapping), "{name}");
    }
}

#[test]
fn the_optimiser_is_named_and_not_read() {
    // Whole though every byte of the optimiser's storages is missing from the legacy file's end or wrong in the zip.
    let listing = Listing::open(&fixture("checkpoint.pth")).unwrap();
    for beside in ["optimizer_state", "time", "epoch", "best"] {
        assert!(listing.beside.iter().any(|name| name == beside), "{:?}", listing.beside);
    }
    let mut bytes = fs::read(fixture("checkpoint.pth")).unwrap();
    let names = listing.places.keys().cloned().collect::<Vec<_>>();
    // The moments are the storages after those of the weights; their values start with 0.1, the first moment of ones.
    let moment =
        bytes.windows(8).position(|window| window == [0xcd, 0xcc, 0xcc, 0x3d, 0xcd, 0xcc, 0xcc, 0x3d]).unwrap();
    bytes[moment] ^= 1;
    let damaged = Listing::of_bytes(bytes, Path::new("damaged.pth")).unwrap().read().unwrap();
    assert!(damaged.tensors.keys().eq(names.iter()), "weights alone are read");
}

#[test]
fn damaged_values_are_noticed() {
    let archive = Archive::read(&fixture("zip.pth")).unwrap();
    let Values::F32(weight) = &archive.tensors["conv1.weight"].values else { panic!("floats") };
    let mut bytes = fs::read(fixture("zip.pth")).unwrap();
    let at = bytes.windows(4).position(|window| window == weight[5].to_le_bytes()).unwrap();
    bytes[at] ^= 1;
    let error = Listing::of_bytes(bytes, Path::new("flipped.pth")).unwrap().read().unwrap_err().to_string();
    assert!(error.contains("flipped.pth") && error.contains("checksum of conv1.weight"), "{error}");
}

#[test]
fn what_is_written_is_read_again() {
    let archive = Archive::read(&fixture("views.pth")).unwrap();
    let listing = Listing::of_bytes(encode_weights(&archive.tensors), Path::new("again")).unwrap();
    assert_eq!((listing.state.as_ref(), listing.read().unwrap().tensors), (None, archive.tensors));
}

/// An array in NumPy's file format, of floats.
fn npy(path: &Path) -> Vec<f32> {
    let bytes = fs::read(path).unwrap();
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert!(bytes[..header].windows(3).any(|window| window == b"<f4"));
    bytemuck::pod_collect_to_vec(&bytes[header..])
}

/// A ResNet18 that others trained on brain MR, with the pooled features that torchvision computes with it.
#[test]
fn real_weights_give_torchvisions_features() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/weights");
    let file = folder.join("resnet18_brainmri_ps_0.1.5.pt");
    if !file.exists() {
        eprintln!("skipped: no {}", file.display());
        return;
    }
    let (image, features) = (
        npy(&folder.join("reference/input_1x3x96x96.npy")),
        npy(&folder.join("reference/resnet18_brainmri_ps.features.npy")),
    );
    // With the identity for a head the logits are the features.
    const C: usize = 512;
    let model = Model::new("resnet18", C, &Cpu::new(1 << 30), DType::F32, 1).unwrap();
    let matched = load_matching(&model.params, &Archive::read(&file).unwrap(), Transfer::default()).unwrap();
    assert_eq!((matched.copied.len(), matched.unfilled.len(), matched.skipped.len()), (120, 2, 2));
    let identity: Vec<f32> = (0..C * C).map(|i| f32::from(u8::from(i / C == i % C))).collect();
    model.params.set(model.params.find("fc.weight").unwrap(), &identity).unwrap();
    model.params.set(model.params.find("fc.bias").unwrap(), &[0.0; C]).unwrap();
    const PLANE: usize = 96 * 96;
    let pixels: Vec<f32> = (0..PLANE * 3).map(|i| image[i % 3 * PLANE + i / 3]).collect();
    let pass = model.pass(Mode::Eval);
    let logits = model.forward(&pass, &pass.images([1, 96, 96, 3], &pixels)).to_vec().unwrap();
    let worst = logits.iter().zip(&features).map(|(a, b)| (a - f64::from(*b)).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-4, "features differ by {worst}");
}

/// `ROENTGEN_TIME_FILES=a.pth:b.pth cargo test --release --test weights -- --ignored --nocapture times`
#[test]
#[ignore = "prints times; scripts/time_loading.py runs it beside torch.load"]
fn times() {
    let files = std::env::var("ROENTGEN_TIME_FILES").expect("files to read, with colons between");
    for file in files.split(':').map(PathBuf::from) {
        let mut times: Vec<f64> = (0..12)
            .map(|_| {
                let start = Instant::now();
                let archive = Archive::read(&file).unwrap();
                let time = start.elapsed().as_secs_f64() * 1e3;
                assert!(!archive.tensors.is_empty());
                time
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!("{}: {:.1} ms, best {:.1} ms", file.display(), times[times.len() / 2], times[0]);
    }
}
