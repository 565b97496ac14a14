//! Checkpoints: what is in them, and that no accident on the way leaves a run without one.

mod common;

use common::{fail, make_images, quick, roentgen, stderr, succeed};
use roentgen::{
    device::{DType, cpu::Cpu},
    models::Model,
    train::Checkpoint,
    weights::{self, Archive, Stored, Values},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A run of one epoch; the folder of its data and its own.
fn small_run(dir: &Path) -> (PathBuf, PathBuf) {
    let (data, run) = (dir.join("data"), dir.join("run"));
    make_images(&data, &["a", "b"], 10);
    succeed(&mut roentgen(quick(text(&data), text(&run)).into_iter().chain(["--epochs", "1"])));
    (data, run)
}

/// Names and shapes as PyTorch's `state_dict()` has them, from the fixtures made with torchvision.
#[test]
fn files_hold_what_torchvision_wants() {
    for name in ["resnet18", "mobilenet_v3_small"] {
        let golden = fs::read_to_string(format!("tests/fixtures/golden/{name}.json")).unwrap();
        let golden: serde_json::Value = serde_json::from_str(&golden).unwrap();
        let model = Model::new(name, 10, &Cpu::new(1 << 30), DType::F32, 1).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("weights.safetensors");
        fs::write(&file, weights::encode(&weights::tensors(&model.params).unwrap(), "{}")).unwrap();
        let mut archive = Archive::read(&file).unwrap();
        for line in golden["state_dict"].as_array().unwrap() {
            let (name, shape) = line.as_str().unwrap().split_once(' ').unwrap();
            let shape: Vec<usize> = shape.split('x').filter_map(|extent| extent.parse().ok()).collect();
            let stored = archive.tensors.remove(name).unwrap_or_else(|| panic!("{name} is missing"));
            assert_eq!(stored.shape, shape, "{name}");
            assert_eq!(matches!(stored.values, Values::I64(_)), name.ends_with("num_batches_tracked"), "{name}");
        }
        assert!(archive.tensors.is_empty(), "more than torchvision has: {:?}", archive.tensors.keys());
    }
}

#[test]
fn values_survive_the_way_through_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("weights.safetensors");
    let device = Cpu::new(1 << 30);
    let net = |seed| Model::new("mobilenet_v3_small", 3, &device, DType::F32, seed).unwrap();
    let (a, b) = (net(1), net(2));
    a.params.set_counter(a.params.find("features.0.1.num_batches_tracked").unwrap(), 77);
    let tensors = weights::tensors(&a.params).unwrap();
    fs::write(&file, weights::encode(&tensors, "{}")).unwrap();
    weights::load(&b.params, &Archive::read(&file).unwrap(), "optimizer.").unwrap();
    assert_eq!(weights::tensors(&b.params).unwrap(), tensors);
}

#[test]
fn damaged_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (_, run) = small_run(dir.path());
    let whole = fs::read(run.join("best.safetensors")).unwrap();
    let file = dir.path().join("damaged.safetensors");
    let refused = |bytes: &[u8], what: &str| {
        fs::write(&file, bytes).unwrap();
        let error = Checkpoint::open(&file).err().unwrap_or_else(|| panic!("{what}: accepted")).to_string();
        assert!(error.contains("damaged.safetensors") && error.contains("try: "), "{what}: {error}");
    };
    for part in 0..16 {
        refused(&whole[..whole.len() * part / 16], &format!("cut at {part}/16"));
    }
    refused(&[&whole[..], b"more"].concat(), "more bytes");
    // Flipped bits: in the length, the names, the state, the values.
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let state = whole.windows(8).position(|window| window == b"roentgen").unwrap();
    for at in [0, 5, 9, state + 20, header / 2, header - 40, header + 3, (header + whole.len()) / 2, whole.len() - 1] {
        for bit in [0, 6] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            refused(&bytes, &format!("bit {bit} of byte {at}"));
        }
    }
    refused(b"PK\x03\x04 a pickle", "a pickle");
}

#[test]
fn a_checkpoint_of_another_network_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (data, run) = small_run(dir.path());
    let best = run.join("best.safetensors");
    // Weights of one network as a start for another.
    let out = dir.path().join("other");
    let args = quick(text(&data), text(&out)).into_iter().chain(["--model", "resnet18", "--weights", text(&best)]);
    fail(&mut roentgen(args), 1, &["best.safetensors", "no tensor of this network", "classifier.0.bias"]);
    // A tensor that does not fit what the file says of itself.
    let archive = Archive::read(&best).unwrap();
    let state = archive.state.unwrap();
    let with = |change: &dyn Fn(&mut weights::Tensors)| {
        let mut tensors = archive.tensors.clone();
        change(&mut tensors);
        fs::write(&best, weights::encode(&tensors, &state)).unwrap();
    };
    with(&|tensors| drop(tensors.remove("features.4.block.1.0.weight")));
    fail(&mut roentgen(["evaluate", text(&run)]), 1, &["best.safetensors", "features.4.block.1.0.weight is missing"]);
    with(&|tensors| {
        tensors.insert("classifier.3.bias".into(), Stored { shape: vec![3], values: Values::F32(vec![0.0; 3]) });
    });
    fail(&mut roentgen(["predict", text(&run), text(&data)]), 1, &["best.safetensors", "classifier.3.bias is [3]"]);
    with(&|tensors| {
        tensors.insert("fc.weight".into(), Stored { shape: vec![1], values: Values::F32(vec![0.0]) });
    });
    fail(&mut roentgen(["evaluate", text(&run)]), 1, &["best.safetensors", "no fc.weight"]);
    // Weights alone do not say what they were trained for.
    fs::write(&best, b"\x02\0\0\0\0\0\0\0{}").unwrap();
    fail(&mut roentgen(["evaluate", text(&run)]), 1, &["best.safetensors", "--weights"]);
}

#[test]
fn weights_start_a_run_with_another_head() {
    let dir = tempfile::tempdir().unwrap();
    let (_, run) = small_run(dir.path());
    let (data, out) = (dir.path().join("three"), dir.path().join("out"));
    make_images(&data, &["a", "b", "c"], 8);
    let best = run.join("best.safetensors");
    let args = quick(text(&data), text(&out)).into_iter().chain(["--epochs", "1", "--weights", text(&best)]);
    let said = stderr(&succeed(&mut roentgen(args)));
    assert!(said.contains("242 tensors copied, 2 skipped, 2 unfilled"), "{said}");
    assert!(said.contains("classifier.3.weight: is [2, 1024] there and [3, 1024] in the network"), "{said}");
    let mut archive = Archive::read(&best).unwrap();
    let Some(Stored { values: Values::F32(values), .. }) = archive.tensors.get_mut("features.0.0.weight") else {
        panic!("the stem has floats")
    };
    values[7] = f32::NAN;
    let damaged = dir.path().join("damaged.safetensors");
    fs::write(&damaged, weights::encode_weights(&archive.tensors)).unwrap();
    let args = quick(text(&data), text(&out)).into_iter().chain(["--force", "--weights", text(&damaged)]);
    fail(&mut roentgen(args), 1, &["features.0.0.weight holds NaN"]);
}

#[test]
fn a_run_goes_on_only_with_its_own_data_and_recipe() {
    let dir = tempfile::tempdir().unwrap();
    let (data, run) = small_run(dir.path());
    fail(&mut roentgen(["finetune", "--resume", text(&run), "--lr", "1"]), 1, &["--lr", "--resume"]);
    fail(&mut roentgen(["finetune", "--resume", text(&data)]), 1, &["last.safetensors"]);
    let recipe = run.join("config.toml");
    let written = fs::read_to_string(&recipe).unwrap();
    for edited in [written.replace("epochs = 1", "epochs = 2"), "epochs is 2".into()] {
        fs::write(&recipe, edited).unwrap();
        fail(&mut roentgen(["finetune", "--resume", text(&run)]), 1, &["config.toml was changed"]);
    }
    fs::write(&recipe, written).unwrap();
    succeed(&mut roentgen(["finetune", "--resume", text(&run)]));
    common::write_png(&data.join("a/000.png"), 4, &[7; 16]);
    fail(&mut roentgen(["finetune", "--resume", text(&run)]), 1, &["a/000.png", "changed"]);
    fs::remove_file(data.join("a/000.png")).unwrap();
    fail(&mut roentgen(["finetune", "--resume", text(&run)]), 1, &["a/000.png"]);
}

/// Starts a long run and waits for its first checkpoint.
fn long_run(dir: &Path) -> (PathBuf, Child) {
    let (data, run) = (dir.join("data"), dir.join("run"));
    make_images(&data, &["a", "b"], 10);
    let args = quick(text(&data), text(&run)).into_iter().chain(["--epochs", "1000"]);
    let child = roentgen(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while !run.join("last.safetensors").exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "no checkpoint after a minute");
        sleep(Duration::from_millis(5));
    }
    (run, child)
}

#[cfg(unix)]
#[test]
fn one_process_trains_in_a_folder_and_a_run_without_a_checkpoint_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let (run, mut child) = long_run(dir.path());
    let data = dir.path().join("data");
    let again = || quick(text(&data), text(&run)).into_iter().chain(["--epochs", "1"]);
    fail(&mut roentgen(again().chain(["--force"])), 1, &["another process is training in"]);
    fail(&mut roentgen(["finetune", "--resume", text(&run)]), 1, &["another process is training in"]);
    assert!(child.try_wait().unwrap().is_none(), "it was not held up");
    child.kill().unwrap();
    child.wait().unwrap();
    let results = ["last.safetensors", "best.safetensors", "last.json", "best.json"].map(|name| run.join(name));
    for file in &results {
        fail(&mut roentgen(again()), 1, &["already holds a run"]);
        fs::remove_file(file).ok();
    }
    fail(&mut roentgen(["finetune", "--resume", text(&run)]), 1, &["the command that began it"]);
    // A recipe that no run wrote is not replaced, nor the one that is given.
    let recipe = run.join("config.toml");
    let written = fs::read_to_string(&recipe).unwrap();
    fs::write(&recipe, "epochs = 1\n").unwrap();
    fail(&mut roentgen(again()), 1, &["already holds a run"]);
    fail(&mut roentgen(again().chain(["--force", "--config", text(&recipe)])), 1, &["would replace", "config.toml"]);
    fs::write(&recipe, written).unwrap();
    succeed(&mut roentgen(again()));
}

#[test]
fn nothing_that_is_read_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (data, run) = small_run(dir.path());
    let best = run.join("best.safetensors");
    let before = fs::read(&best).unwrap();
    let image = data.join("a/000.png");
    let copy = ["weights", "convert", text(&run), text(&best), "--force"];
    fail(&mut roentgen(copy), 1, &["best.safetensors is read, too"]);
    for file in [&best, &run.join("manifest.csv")] {
        fail(&mut roentgen(["evaluate", text(&run), "--out", text(file), "--force"]), 1, &["is read, too"]);
    }
    let again = quick(text(&data), text(&run)).into_iter().chain(["--force", "--weights", text(&run)]);
    fail(&mut roentgen(again), 1, &["would replace", "best.safetensors"]);
    let over = ["predict", text(&run), text(&image), "--out", text(&image), "--force"];
    fail(&mut roentgen(over), 1, &["000.png is read, too"]);
    // A table of the user's among the files of a run.
    let manifest = dir.path().join("store/manifest.csv");
    fs::create_dir(manifest.parent().unwrap()).unwrap();
    fs::write(&manifest, "path,label\n../data/a/000.png,a\n../data/b/000.png,b\n").unwrap();
    let store = dir.path().join("store");
    let shares = ["--validation", "0", "--test", "0"];
    let train = || quick(text(&manifest), text(&store)).into_iter().chain(shares);
    fail(&mut roentgen(train()), 1, &["has a manifest.csv, which a run would replace"]);
    fail(&mut roentgen(train().chain(["--force"])), 1, &["would replace", "manifest.csv"]);
    fail(&mut roentgen(["convert", text(&data), "--out", text(&store)]), 1, &["is no store and has a manifest.csv"]);
    assert!(fs::read_to_string(&manifest).unwrap().starts_with("path,label"));
    assert_eq!(fs::read(&best).unwrap(), before);
    // Other files in the way are replaced on request alone.
    let shown = ["predict", text(&run), text(&image), "--explain", text(&store)];
    fs::write(store.join("000.png"), "a picture").unwrap();
    fail(&mut roentgen(shown), 1, &["000.png is already there", "--force"]);
    assert_eq!(fs::read_to_string(store.join("000.png")).unwrap(), "a picture");
    succeed(&mut roentgen(shown.into_iter().chain(["--force"])));
}

#[test]
fn killed_while_saving_a_whole_checkpoint_remains() {
    let dir = tempfile::tempdir().unwrap();
    let (run, mut child) = long_run(dir.path());
    let last = run.join("last.safetensors");
    let is_half = |path: &Path| text(path).contains("last.safetensors.") && text(path).ends_with(".tmp");
    let half = || fs::read_dir(&run).unwrap().filter(|entry| is_half(&entry.as_ref().unwrap().path())).count();
    let mut halfway = 0;
    for _ in 0..8 {
        // In the middle of a save, which the first epoch of every start ends in.
        let start = Instant::now();
        while half() == 0 {
            assert!(start.elapsed() < Duration::from_secs(60), "the run does not save");
            sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        halfway += half();
        let before = Checkpoint::open(&last).unwrap().state.step;
        let command = &mut roentgen(["finetune", "--resume", text(&run)]);
        child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        while Checkpoint::open(&last).unwrap().state.step == before {
            assert!(start.elapsed() < Duration::from_secs(60), "the resumed run does not go on");
            sleep(Duration::from_millis(5));
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(halfway > 0, "no kill hit a save: the test shows nothing");
}

#[cfg(unix)]
#[test]
fn a_signal_saves_and_says_how_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (data, whole, run) = (dir.path().join("data"), dir.path().join("whole"), dir.path().join("run"));
    make_images(&data, &["a", "b"], 40);
    let recipe = ["--epochs", "6", "--batch", "4"];
    succeed(&mut roentgen(quick(text(&data), text(&whole)).into_iter().chain(recipe)));
    let mut command = roentgen(quick(text(&data), text(&run)).into_iter().chain(recipe));
    for signal in ["-INT", "-TERM"] {
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // Both times somewhere within an epoch.
        let start = Instant::now();
        let before = fs::read(run.join("last.json")).unwrap_or_default();
        while fs::read(run.join("last.json")).unwrap_or_default() == before {
            assert!(start.elapsed() < Duration::from_secs(60), "no checkpoint after a minute");
            sleep(Duration::from_millis(2));
        }
        sleep(Duration::from_millis(40));
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
        assert!(stderr(&output).contains(&format!("roentgen finetune --resume {}", text(&run))), "{}", stderr(&output));
        command = roentgen(["finetune", "--resume", text(&run)]);
    }
    succeed(&mut command);
    for name in ["best.safetensors", "last.safetensors", "predictions.csv"] {
        assert!(fs::read(whole.join(name)).unwrap() == fs::read(run.join(name)).unwrap(), "{name} differs");
    }
}

/// A limit on the size of files stands in for a full disk: the small best checkpoint fits, the last one does not.
#[cfg(unix)]
#[test]
fn a_full_disk_stops_the_run_and_keeps_the_last_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (run, mut child) = long_run(dir.path());
    child.kill().unwrap();
    child.wait().unwrap();
    let last = run.join("last.safetensors");
    let before = fs::read(&last).unwrap();
    let binary = env!("CARGO_BIN_EXE_roentgen");
    let script = format!("trap '' XFSZ; ulimit -f 10000; exec '{binary}' finetune --resume '{}'", text(&run));
    fail(Command::new("sh").args(["-c", &script]), 1, &["last.safetensors"]);
    assert!(fs::read(&last).unwrap() == before, "the last checkpoint has changed");
    let mut child = roentgen(["finetune", "--resume", text(&run)]).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while fs::read(&last).unwrap() == before {
        assert!(start.elapsed() < Duration::from_secs(60), "the run does not go on");
        sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
