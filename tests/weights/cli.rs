//! `roentgen weights`, and training from foreign files.

use super::{
    common::{fail, make_images, quick, roentgen, stderr, succeed},
    fixture,
};
use roentgen::{
    device::{DType, cpu::Cpu},
    models::Model,
    weights::{self, Archive, Stored, Tensors, Values},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The weights of a network with this many classes, as data-parallel training saves them.
fn parallel(dir: &Path, classes: usize) -> (PathBuf, Tensors) {
    let model = Model::new("mobilenet_v3_small", classes, &Cpu::new(1 << 30), DType::F32, 3).unwrap();
    let tensors = weights::tensors(&model.params).unwrap();
    let renamed: Tensors = tensors.iter().map(|(name, stored)| (format!("module.{name}"), stored.clone())).collect();
    let file = dir.join("parallel.safetensors");
    fs::write(&file, weights::encode_weights(&renamed)).unwrap();
    (file, tensors)
}

#[test]
fn inspect_lists_what_is_in_a_file() {
    let output = said(&succeed(&mut roentgen(["weights", "inspect", text(&fixture("checkpoint.tar.gz"))])));
    for line in [
        "format   PyTorch in tar in gzip",
        "weights  under model_state",
        "optimizer_state",
        "4 x 3 x 3 x 3",
        "3 tensors (3 float32), 118 values, 472 bytes",
    ] {
        assert!(output.contains(line), "no {line:?} in {output}");
    }
    let output = said(&succeed(&mut roentgen(["weights", "inspect", text(&fixture("types_legacy.pth"))])));
    assert!(output.contains("bfloat16") && output.contains("2 float16"), "{output}");
    // The short command reads the same files.
    let output = said(&succeed(&mut roentgen(["inspect", text(&fixture("zip.pth"))])));
    assert!(output.contains("conv1.weight") && output.contains("8 tensors"), "{output}");
    let dir = tempfile::tempdir().unwrap();
    let (file, tensors) = parallel(dir.path(), 5);
    let output = said(&succeed(&mut roentgen(["weights", "inspect", text(&file), "--model", "mobilenet_v3_small"])));
    assert_eq!(output.matches("\nrenamed   ").count(), tensors.len());
}

#[test]
fn convert_writes_torchvisions_names() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.safetensors");
    succeed(&mut roentgen(["weights", "convert", text(&fixture("checkpoint_legacy.pth")), text(&out)]));
    let names: Vec<_> = Archive::read(&out).unwrap().tensors.into_keys().collect();
    assert_eq!(names, ["module.model.conv1.weight", "module.model.fc.bias", "module.model.fc.weight"]);

    let (file, tensors) = parallel(dir.path(), 5);
    let convert = |file: &Path, more: &[&str]| {
        let args = ["weights", "convert", text(file), text(&out), "--force", "--model", "mobilenet_v3_small"];
        succeed(&mut roentgen(args.into_iter().chain(more.iter().copied())))
    };
    convert(&file, &["--strict"]);
    assert_eq!(Archive::read(&out).unwrap().tensors, tensors, "the head has the file's five classes");

    convert(&file, &["--channels", "1"]);
    let folded = Archive::read(&out).unwrap().tensors;
    assert_eq!(folded["features.0.0.weight"], weights::fold(&tensors["features.0.0.weight"], 1));

    // What is not in the file is not in the output either, and not passed over in silence.
    let mut partial = tensors.clone();
    partial.remove("features.1.block.0.1.bias");
    partial.retain(|name, _| !name.ends_with("num_batches_tracked"));
    let file = dir.path().join("partial.safetensors");
    fs::write(&file, weights::encode_weights(&partial)).unwrap();
    let output = convert(&file, &[]);
    assert!(stderr(&output).contains("unfilled  features.1.block.0.1.bias"), "{}", stderr(&output));
    let written = Archive::read(&out).unwrap().tensors;
    assert!(!written.contains_key("features.1.block.0.1.bias"));
    assert_eq!(written["features.0.1.num_batches_tracked"].values, Values::I64(vec![0]));

    let args = ["weights", "convert", text(&file), text(&out)];
    fail(&mut roentgen(args), 1, &["already there", "--force"]);
    let args = args.into_iter().chain(["--force", "--model", "mobilenet_v3_small", "--strict"]);
    fail(&mut roentgen(args), 1, &["features.1.block.0.1.bias is missing"]);
}

#[test]
fn diff_tells_how_two_files_differ() {
    let dir = tempfile::tempdir().unwrap();
    let changed = dir.path().join("changed.safetensors");
    let mut tensors = Archive::read(&fixture("zip.pth")).unwrap().tensors;
    tensors.remove("bn1.bias");
    tensors.insert("fc.bias".into(), Stored { shape: vec![1], values: Values::F32(vec![0.0]) });
    let Values::F32(values) = &mut tensors.get_mut("fc.weight").unwrap().values else { panic!("floats") };
    values[1] += 0.5;
    fs::write(&changed, weights::encode_weights(&tensors)).unwrap();
    let output = said(&succeed(&mut roentgen(["weights", "diff", text(&fixture("legacy.pth")), text(&changed)])));
    for part in [
        "legacy.pth: bn1.bias",
        "fc.bias is [2] in one and [1]",
        "5.000e-1",
        "5 tensors the same, 1 differ by up to 0.500, 1 unlike, 1 only in one",
    ] {
        assert!(output.contains(part), "no {part:?} in {output}");
    }
    let (zip, legacy) = (fixture("zip.pth"), fixture("legacy.pth"));
    let args = ["weights", "diff", text(&zip), text(&legacy)];
    assert!(said(&succeed(&mut roentgen(args))).starts_with("8 tensors the same, 0 differ"));
    let output = said(&succeed(&mut roentgen(args.into_iter().chain(["--only", "bn1.*"]))));
    assert!(output.starts_with("5 tensors the same"), "{output}");
    fail(&mut roentgen(args.into_iter().chain(["--only", "bn2.*"])), 1, &["no such tensor"]);
}

#[test]
fn training_starts_from_foreign_weights_and_says_how() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("run"));
    make_images(&data, &["a", "b"], 8);
    let (file, tensors) = parallel(dir.path(), 2);
    let train = |more: &[&str]| {
        let args = quick(text(&data), text(&out)).into_iter().chain([
            "--epochs",
            "1",
            "--lr",
            "1e-30",
            "--weight-decay",
            "0",
            "--force",
        ]);
        let mut command = roentgen(args.chain(["--weights", text(&file)]));
        command.args(more);
        command
    };
    let head = "classifier.3.weight";
    let output = succeed(&mut train(&["--strict"]));
    let all = tensors.len();
    for part in [
        &format!("{} tensors copied, {} of them renamed, 2 skipped, 2 unfilled", all - 2, all - 2),
        "--copy-head",
        "unfilled  classifier.3.bias",
    ] {
        assert!(stderr(&output).contains(part), "no {part:?} in {}", stderr(&output));
    }
    // The folder of a run stands for its best checkpoint, any other for nothing.
    let best = out.join("best.safetensors");
    let same = said(&succeed(&mut roentgen(["weights", "diff", text(&out), text(&best)])));
    assert!(same.contains("0 differ"), "{same}");
    for command in [["inspect", text(&data)].as_slice(), &["convert", text(&data), text(&dir.path().join("c"))]] {
        let words = ["data is no run: it holds no best.safetensors"];
        fail(&mut roentgen(["weights"].iter().chain(command).copied()), 1, &words);
    }
    let trained = Archive::read(&best).unwrap().tensors;
    assert_eq!(trained["features.0.0.weight"], tensors["features.0.0.weight"]);
    assert_ne!(trained[head], tensors[head]);
    succeed(&mut train(&["--copy-head"]));
    assert_eq!(Archive::read(&out.join("best.safetensors")).unwrap().tensors[head], tensors[head]);
    fail(&mut train(&["--strict", "--model", "resnet18"]), 1, &["no tensor of this network"]);
}
