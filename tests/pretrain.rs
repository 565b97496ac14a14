//! Pretraining: balanced classes, looks at the validation split within epochs, budgets of steps, filters, reconstruction.

mod common;

use common::{
    fail, make_images, roentgen,
    runs::{ALL, begin, go_on, in_parts, recipe, resume, same},
    stderr, succeed,
};
use roentgen::{
    data::{Batch, Sampling},
    train::{Checkpoint, Config, Outcome, RunState, schedule::Course},
};
use std::{fmt::Write, fs, path::Path};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn state(out: &Path) -> RunState {
    Checkpoint::open(&out.join("last.safetensors")).unwrap().state
}

/// Two classes, of 20 and 6 images.
fn unbalanced(data: &Path) -> Config {
    make_images(data, &["a", "b"], 6);
    make_images(data, &["a"], 20);
    Config { sampling: Sampling::Balanced, ..recipe(data) }
}

#[test]
fn balanced_epochs_show_every_class_equally_often() {
    let dir = tempfile::tempdir().unwrap();
    let config = unbalanced(&dir.path().join("data"));
    let session = begin(&config, &dir.path().join("run"), 0);
    let batches = |workers, epoch, from| -> Vec<Batch> {
        session.prepared.training_loader(&session.state, workers).epoch(epoch, from).map(Result::unwrap).collect()
    };
    let first = batches(0, 0, 0);
    // 14 and 4 images are trained on: 28 turns, of which the last four make no batch.
    assert_eq!(first.len(), 3);
    for batch in &first {
        assert_eq!(batch.labels.iter().filter(|&&label| label == 1).count(), 4);
    }
    // What comes again comes in another guise.
    let all = || first.iter().flat_map(|batch| batch.indices.iter().zip(&batch.changes));
    for (i, (index, change)) in all().enumerate() {
        assert!(all().skip(i + 1).all(|(other, varied)| index != other || change != varied), "image {index} twice");
    }
    assert_eq!(batches(3, 0, 0), first);
    assert_eq!(batches(2, 0, 1), first[1..]);
    assert_ne!(batches(0, 1, 0), first);
}

#[test]
fn looks_within_epochs_keep_the_best_and_are_resumed_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { validate_every: 0.4, epochs: 2, ..unbalanced(&dir.path().join("data")) };
    let whole = dir.path().join("whole");
    assert_eq!(go_on(begin(&config, &whole, 1), ALL), Outcome::Complete);
    let history = fs::read_to_string(whole.join("metrics.jsonl")).unwrap();
    // Of three steps after the first, the second and at the end.
    assert_eq!(history.matches("\"step\":1").count(), 2, "{history}");
    assert_eq!(history.matches("\"step\":2").count(), 2, "{history}");
    for (i, pauses) in [vec![1], vec![2], vec![1, 1, 2], vec![3, 1]].into_iter().enumerate() {
        let out = dir.path().join(format!("parts{i}"));
        in_parts(&config, &out, &pauses, i);
        same(&whole, &out, &format!("paused after {pauses:?} steps"));
    }
    // A network that cannot change is best at its first look, and its run stops when patience ends.
    let still = Config { freeze: vec!["features.*".into()], lr: 1e-12, epochs: 9, patience: 2, ..config };
    let out = dir.path().join("still");
    assert_eq!(go_on(begin(&still, &out, 1), ALL), Outcome::Complete);
    let best = state(&out).best.unwrap();
    assert_eq!((best.epoch, best.step, state(&out).epoch), (1, 1, 3));
    let kept = Checkpoint::open(&out).unwrap().state;
    assert_eq!((kept.step, kept.step_in_epoch), (1, 1));
}

#[test]
fn a_budget_of_steps_is_kept_whatever_the_size_of_the_data() {
    let dir = tempfile::tempdir().unwrap();
    let small =
        Config { steps: Some(10), epochs: 4, schedule: Course::Constant, ..unbalanced(&dir.path().join("small")) };
    let large = dir.path().join("large");
    make_images(&large, &["a", "b"], 60);
    for (name, config) in [("s", small.clone()), ("l", Config { data: Some(large), ..small.clone() })] {
        let out = dir.path().join(name);
        assert_eq!(go_on(begin(&config, &out, 1), ALL), Outcome::Complete);
        assert_eq!((state(&out).step, state(&out).epoch), (10, 4), "{name}");
    }
    // The last epoch is the short one, and it too is resumed.
    let out = dir.path().join("parts");
    assert_eq!(go_on(begin(&small, &out, 1), 9), Outcome::Interrupted);
    assert_eq!(go_on(resume(&out, 1), ALL), Outcome::Complete);
    same(&dir.path().join("s"), &out, "paused after 9 steps");
}

#[test]
fn rows_are_chosen_by_their_columns() {
    let dir = tempfile::tempdir().unwrap();
    make_images(dir.path(), &["a", "b"], 16);
    let mut table = String::from("path,label,Modality,exam\n");
    for i in 0..32 {
        let (class, modality) = (["a", "b"][i % 2], ["CT", "MR", "XA"][i % 3]);
        writeln!(table, "{class}/{:03}.png,{class},{modality},e{}", i / 2, i / 4).unwrap();
    }
    let data = dir.path().join("table.csv");
    fs::write(&data, table).unwrap();
    let out = dir.path().join("run");
    let recipe = "pretrain --model mobilenet_v3_small --size 32 --epochs 1 --batch 4 --threads 2 --group exam --data";
    let args = |more: &str, out: &Path| -> Vec<String> {
        let args = recipe.split(' ').chain([text(&data), "--out", text(out)]).chain(more.split(' '));
        args.map(String::from).collect()
    };
    let run = |more: &str, out: &Path| roentgen(args(more, out).iter().map(String::as_str));
    let said = stderr(&succeed(&mut run("--modalities CT,MR --where exam=e0,e1,e2,e3,e4,e5,e6", &out)));
    assert!(said.contains("split   by group: 7 groups"), "{said}");
    let manifest = fs::read_to_string(out.join("manifest.csv")).unwrap();
    let rows: Vec<&str> = manifest.lines().skip(1).collect();
    // Of the rows 0 to 27 every third is left out.
    assert_eq!(rows.len(), 19);
    assert!(rows.iter().all(|row| !row.starts_with("a/001") && !row.starts_with("a/007")), "{rows:?}");
    // Exams stay whole.
    let split = |row: &str| -> (String, String) {
        let cells: Vec<&str> = row.split(',').collect();
        (cells[2].into(), cells[3].into())
    };
    for (a, b) in rows.iter().flat_map(|a| rows.iter().map(move |b| (split(a), split(b)))) {
        assert!(a.0 != b.0 || a.1 == b.1, "{a:?}, {b:?}");
    }
    let no = dir.path().join("no");
    fail(&mut run("--modalities CT,NM", &no), 1, &["no row", "\"NM\"", "CT, MR, XA"]);
    fail(&mut run("--where side=left", &no), 1, &["no column \"side\""]);
    fail(&mut run("--where CT", &no), 1, &["--where COLUMN=VALUE"]);
    let folder = ["pretrain", "--data", text(dir.path()), "--modalities", "CT", "--out", text(&no)];
    fail(&mut roentgen(folder), 1, &["cannot say the other columns"]);
}

#[test]
fn the_sample_gives_weights_with_a_card_that_another_run_starts_from() {
    let dir = tempfile::tempdir().unwrap();
    let (out, next) = (dir.path().join("run"), dir.path().join("next"));
    let quick = "--model mobilenet_v3_small --size 32 --epochs 1 --threads 2";
    let args = ["pretrain", "--modalities", "CT", "--out", text(&out)].into_iter().chain(quick.split(' '));
    let said = stderr(&succeed(&mut roentgen(args)));
    assert!(said.contains("step 5/10") && !said.contains("mr-brain"), "{said}");
    let card = fs::read_to_string(out.join("model-card.md")).unwrap();
    for part in ["| network | mobilenet_v3_small, 15", "| ct-head | 32 | 8 | 8 |", "to be filled in", "accuracy"] {
        assert!(card.contains(part), "no {part} in {card}");
    }
    assert!(card.contains("num_classes=5") && card.contains("sampling = \"balanced\""), "{card}");
    let weights = out.join("best.safetensors");
    let args = ["finetune", "--weights", text(&weights), "--out", text(&next)].into_iter().chain(quick.split(' '));
    succeed(&mut roentgen(args));
}

#[test]
fn u_nets_learn_to_reconstruct() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    make_images(&data, &["a", "b"], 16);
    for (model, most) in [("unet_reconstruction", 0.15), ("unet_mobilenet_v3_small", 0.35)] {
        let out = dir.path().join(model);
        let recipe = "pretrain --task reconstruction --size 32 --epochs 6 --batch 4 --lr 0.003 --threads 2 --data";
        let args = recipe.split(' ').chain([text(&data), "--out", text(&out)]).chain(["--model", model]);
        succeed(&mut roentgen(args));
        let history = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        let mae =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["validation_mae"].as_f64().unwrap();
        let (first, last) = (mae(history.lines().next().unwrap()), mae(history.lines().last().unwrap()));
        assert!(last < most && last < 0.8 * first, "{model}: {first}, then {last}");
        let predictions = fs::read_to_string(out.join("predictions.csv")).unwrap();
        assert!(predictions.starts_with("path,split,mae,rmse\n"), "{predictions}");
        let said = succeed(&mut roentgen(["predict", text(&out), text(&data.join("a/000.png"))])).stdout;
        assert!(String::from_utf8(said).unwrap().starts_with("path,mae,rmse\n"));
    }
    let out = dir.path().join("no");
    let refused = |flags: &str, words: &[&str]| {
        let args = ["pretrain", "--data", text(&data), "--out", text(&out)].into_iter().chain(flags.split(' '));
        fail(&mut roentgen(args), 1, words);
    };
    refused("--task reconstruction --model resnet18", &["draws no images", "unet_resnet18"]);
    refused("--task reconstruction --normalise imagenet", &["intensities from 0 to 1"]);
    refused("--validate-every 0", &["validate_every cannot be 0"]);
}
