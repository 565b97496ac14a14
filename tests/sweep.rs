//! Studies: whatever happens on the way, the tables are the same; every run is done once; what fails is said.

mod common;

use common::{fail, make_images, roentgen, stderr, succeed};
use roentgen::{
    data::{Record, Source, Split, Truth},
    device::{DType, Device, cpu::Cpu},
    metrics::{Cases, LabelScores, MaskCase, MaskScores, NumberScores, Predictions, Scores},
    models::Model,
    rng::{Purpose, Rng},
    study::{Choice, Outcome, Results, Shard, Study, claim::Claims, outcome},
    train::write_predictions,
    weights,
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A study of 9 runs of a second or less, and one pretraining.
const STUDY: &str = r#"
question = "Do stripes help with stripes?"
learning_rates = [1e-3]
fractions = [0.5, 1.0]
seeds = [1, 2]

[recipe]
size = 32
batch = 4
epochs = 2

[backbones.mobilenet_v3_small]

[pretrain.stripes]
data = "archive"
sampling = "natural"

[arms.random]

[arms.pretrained]
pretrained = "stripes"

[tasks.direction]
data = "images"
"#;

/// A folder with images and a study of them, as `change` has it.
fn study(change: impl Fn(&str) -> String) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    make_images(&dir.path().join("images"), &["a", "b"], 16);
    make_images(&dir.path().join("archive"), &["p", "q", "r"], 8);
    let file = dir.path().join("study.toml");
    fs::write(&file, change(STUDY)).unwrap();
    (dir, file)
}

fn sweep(file: &Path, out: &Path, more: &[&str]) -> Command {
    roentgen(["sweep", text(file), "--out", text(out), "--device", "cpu", "--threads", "1"].iter().chain(more).copied())
}

/// All tables but the one of times.
fn table(out: &Path) -> String {
    let names = ["results.csv", "table.csv", "table.md", "table.tex", "comparisons.csv"];
    names.map(|name| fs::read_to_string(out.join(name)).unwrap()).concat()
}

fn outcomes(out: &Path) -> usize {
    let runs = fs::read_dir(out.join("runs")).into_iter().flatten().flatten();
    runs.filter(|run| run.path().join("outcome.json").exists()).count()
}

/// Runs and pretrainings that a worker says it took to their end.
fn done(output: &Output) -> Vec<String> {
    let run = |line: &str| Some(line.split_once(" of 9  ")?.1.split_once("  test ")?.0.to_string());
    stderr(output).lines().filter_map(run).collect()
}

#[test]
fn killed_or_in_parts_or_beside_another_the_tables_are_the_same() {
    let (dir, file) = study(str::to_string);
    let out = |name: &str| dir.path().join(name);
    let whole = out("whole");
    let output = succeed(&mut sweep(&file, &whole, &[]));
    assert_eq!(done(&output).len(), 9, "{}", stderr(&output));
    let expected = table(&whole);
    assert_eq!(expected.lines().filter(|line| line.contains(",yes,done,")).count(), 8, "{expected}");
    assert!(whole.join("timings.csv").exists());
    let page = fs::read_to_string(whole.join("report.html")).unwrap();
    // Two classes, as they are and as the two arms see them.
    assert!(page.contains("What the arms see") && !page.contains("Not shown"), "no Grad-CAMs");
    assert_eq!(page.matches("<img src=\"data:image/png").count(), 6);
    tables_hold_what_the_runs_came_to(&Study::read(&file, Some(&whole)).unwrap());

    // Once more: nothing is left to do.
    let output = succeed(&mut sweep(&file, &whole, &[]));
    assert_eq!((done(&output).len(), table(&whole)), (0, expected.clone()));

    // Killed in the middle of several runs.
    let killed = out("killed");
    let mut kills = 0;
    loop {
        let mut child = sweep(&file, &killed, &[]).stderr(Stdio::null()).spawn().unwrap();
        let (before, start) = (outcomes(&killed), Instant::now());
        let next = |ended: bool| ended || outcomes(&killed) > before;
        while !next(child.try_wait().unwrap().is_some()) {
            assert!(start.elapsed() < Duration::from_secs(120), "no run ends");
            sleep(Duration::from_millis(10));
        }
        sleep(Duration::from_millis(50 + 70 * kills));
        if child.try_wait().unwrap().is_some() || kills == 3 {
            child.kill().unwrap();
            child.wait().unwrap();
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    assert!(kills > 1, "no kill hit a run: the test shows nothing");
    succeed(&mut sweep(&file, &killed, &[]));
    assert_eq!(table(&killed), expected);

    // In two parts, of which one is missing at first.
    let parts = out("parts");
    succeed(&mut sweep(&file, &parts, &["--shard", "1/2"]));
    fail(&mut sweep(&file, &parts, &["--report"]), 1, &["4 of 8 runs are missing", "shard 2/2 has never run"]);
    assert_ne!(table(&parts), expected);
    succeed(&mut sweep(&file, &parts, &["--shard", "2/2"]));
    assert_eq!(table(&parts), expected);

    // Two workers in one folder at once do every run, and none twice.
    let shared = out("shared");
    let spawn = || sweep(&file, &shared, &[]).stderr(Stdio::piped()).spawn().unwrap();
    let workers = [spawn(), spawn()].map(|worker| worker.wait_with_output().unwrap());
    assert!(workers.iter().all(|worker| worker.status.success()), "{}", stderr(&workers[0]) + &stderr(&workers[1]));
    let all: Vec<String> = workers.iter().flat_map(done).collect();
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (9, 9), "{all:?}");
    assert_eq!(table(&shared), expected);
    assert_eq!(fs::read_dir(shared.join("claims")).unwrap().count(), 0, "claims are left");
}

#[test]
fn a_killed_run_goes_on_from_its_checkpoint() {
    let (dir, file) = study(|text| {
        text.replace("fractions = [0.5, 1.0]", "")
            .replace("seeds = [1, 2]", "seeds = [1]")
            .replace("epochs = 2", "epochs = 40")
            .replace("[arms.pretrained]\npretrained = \"stripes\"\n", "")
    });
    let out = dir.path().join("out");
    let study = Study::read(&file, Some(&out)).unwrap();
    let run = study.cells().flat_map(|cell| study.grid(cell)).next().unwrap();
    let log = || fs::read_to_string(study.run_folder(&run).join("metrics.jsonl")).unwrap_or_default();
    let mut child = sweep(&file, &out, &[]).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while log().lines().count() < 2 {
        assert!(start.elapsed() < Duration::from_secs(120), "no epoch ends");
        sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(outcomes(&out), 0, "the kill came too late: the test shows nothing");
    let before = log();
    succeed(&mut sweep(&file, &out, &[]));
    // The first line has the time that its epoch took, which is another each time.
    let after = log();
    assert_eq!((after.lines().next(), after.lines().count()), (before.lines().next(), 40));
}

/// A folder and what is in it, and when each was written.
#[cfg(unix)]
fn contents(folder: &Path) -> Vec<(PathBuf, std::time::SystemTime, Vec<u8>)> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).chain([folder.into()]);
    let written = |path: PathBuf| {
        let when = path.metadata().unwrap().modified().unwrap();
        (path.clone(), when, fs::read(path).unwrap_or_default())
    };
    let mut all: Vec<_> = paths.map(written).collect();
    all.sort();
    all
}

#[cfg(unix)]
#[test]
fn a_stopped_worker_leaves_a_run_that_was_finished_without_it_alone() {
    let (dir, file) = study(|text| {
        text.replace("fractions = [0.5, 1.0]", "")
            .replace("seeds = [1, 2]", "seeds = [1]")
            .replace("epochs = 2", "epochs = 2\nsteps = 400")
            .replace("[arms.pretrained]\npretrained = \"stripes\"\n", "")
    });
    let out = dir.path().join("out");
    let study = Study::read(&file, Some(&out)).unwrap();
    let run = study.cells().flat_map(|cell| study.grid(cell)).next().unwrap();
    let folder = study.run_folder(&run);
    let mut stopped = sweep(&file, &out, &["--stale", "1"]).stderr(Stdio::null()).spawn().unwrap();
    let signal = |name: &str| {
        assert!(Command::new("kill").args([name, &stopped.id().to_string()]).status().unwrap().success());
    };
    let start = Instant::now();
    while !folder.join("manifest.csv").exists() {
        assert!(start.elapsed() < Duration::from_secs(120), "no run begins");
        sleep(Duration::from_millis(5));
    }
    // Among the 200 steps of its first epoch.
    sleep(Duration::from_millis(200));
    signal("-STOP");
    assert!(!folder.join("last.safetensors").exists(), "the stop came too late: the test shows nothing");
    succeed(&mut sweep(&file, &out, &["--stale", "1"]));
    let (before, tables) = (contents(&folder), table(&out));
    signal("-CONT");
    assert!(stopped.wait().unwrap().success());
    assert!(contents(&folder) == before && table(&out) == tables, "the run is another");
}

#[test]
fn arms_of_one_modality_each_are_trained_as_long_and_set_against_all() {
    let (dir, file) = study(|text| {
        let pretrain = |name: &str, rows: &str| {
            format!(
                "[pretrain.{name}]\ndata = \"archive.csv\"\nsteps = 3\nepochs = 1\nsplit = {{ validation = 0.25, test = 0.25 }}\n\
                 columns = {{ {rows} }}\n\n[arms.{name}]\npretrained = \"{name}\"\n\n"
            )
        };
        let parts = pretrain("all", "") + &pretrain("ct", "where = [\"modality=CT\"]");
        let (before, after) = text.split_once("[pretrain.stripes]").unwrap();
        let (_, tasks) = after.split_once("[tasks.direction]").unwrap();
        format!("{before}{parts}[arms.random]\n\n[tasks.direction]{tasks}").replace("fractions = [0.5, 1.0]\n", "")
    });
    let rows = ["p", "q", "r"].map(|label| {
        let row = |i: usize| format!("archive/{label}/{i:03}.png,{label},{}\n", ["CT", "MR"][usize::from(i >= 5)]);
        (0..8).map(row).collect::<String>()
    });
    fs::write(dir.path().join("archive.csv"), format!("path,label,modality\n{}", rows.concat())).unwrap();
    let out = dir.path().join("out");
    succeed(&mut sweep(&file, &out, &[]));

    let study = Study::read(&file, Some(&out)).unwrap();
    let images = study.all_pretrainings().into_iter().map(|pretraining| {
        let log = fs::read_to_string(out.join(pretraining.place()).join("metrics.jsonl")).unwrap();
        let outcome = Outcome::read(&out.join(pretraining.place())).unwrap().unwrap();
        (pretraining.name, log.lines().count(), outcome.train_images)
    });
    assert_eq!(images.collect::<Vec<_>>(), [("all".to_string(), 1, 12), ("ct".into(), 1, 9)]);
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("ct (pretrained: ct of modality=CT)"), "{page}");
    assert!(page.contains("Of all, pretrained on everything, and ct, pretrained in the same way on modality=CT alone"));
}

/// The means and differences of the tables, from the predictions of the runs.
fn tables_hold_what_the_runs_came_to(study: &Study) {
    let results = Results::read(study).unwrap();
    let mut means = vec![];
    for cell in &results.cells {
        let values: Vec<f64> = cell.tested().map(|outcome| outcome.value.unwrap()).collect();
        for (outcome, value) in cell.tested().zip(&values) {
            let predictions = study.folder.join(outcome.predictions.as_ref().unwrap());
            let cases = Cases::read(&predictions, "test", &outcome.metric.name).unwrap();
            assert_eq!((cases.names.len(), &cases.groups), (outcome.test_images, &cases.names));
            assert!((cases.metric(&vec![1.0; cases.names.len()]).unwrap() - value).abs() < 1e-12);
        }
        means.push(values.iter().sum::<f64>() / values.len() as f64);
    }
    for (summary, mean) in results.summaries().iter().zip(&means) {
        assert!((summary.mean.unwrap().value - mean).abs() < 1e-12);
    }
    let comparisons = results.comparisons(study).unwrap();
    assert_eq!(comparisons.len(), 2, "one a fraction");
    for (comparison, means) in comparisons.iter().zip(means.chunks(2)) {
        assert_eq!((comparison.against.cell.arm, comparison.of.cell.arm, comparison.seeds), (0, 1, 2));
        assert!((comparison.difference - (means[1] - means[0])).abs() < 1e-12);
        assert!(comparison.p <= comparison.adjusted && comparison.adjusted <= 1.0);
    }
    let markdown = fs::read_to_string(study.folder.join("table.md")).unwrap();
    assert!(
        markdown.starts_with("| task | network | images | random | pretrained |\n|---|---|---|---|---|\n"),
        "{markdown}"
    );
    assert!(markdown.contains("| direction (macro_f1) | mobilenet_v3_small | 50 % | "), "{markdown}");
    let tex = fs::read_to_string(study.folder.join("table.tex")).unwrap();
    assert!(tex.contains(r"direction (macro\_f1) & mobilenet\_v3\_small & 50 \% & "), "{tex}");
}

/// Records `0`, `1`, … of which the even ones belong to one group.
fn records(n: usize) -> Vec<Record> {
    let record = |i: usize| Record {
        name: i.to_string(),
        truth: Truth::Class(0),
        inputs: vec![],
        group: i.is_multiple_of(2).then(|| "even".into()),
        split: None,
        source: Source::Embedded(b""),
        fingerprint: None,
    };
    (0..n).map(record).collect()
}

/// The cases of `predictions`, by way of a table in which other rows stand for validation.
fn cases(predictions: &Predictions, metric: &str) -> Cases {
    let dir = tempfile::tempdir().unwrap();
    let (path, records) = (dir.path().join("predictions.csv"), records(predictions.len()));
    let rows = [(Split::Validation, &records[..], predictions), (Split::Test, &records[..], predictions)];
    write_predictions(&path, &rows).unwrap();
    Cases::read(&path, "test", metric).unwrap()
}

#[test]
fn cases_of_every_task_have_the_metric_of_the_task() {
    let draw = |n: usize| {
        let mut rng = Rng::new(3, Purpose::Test, n as u32, 0);
        (0..n).map(move |_| rng.uniform()).collect::<Vec<f32>>()
    };
    let n = 12;
    let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    let truths = |k: usize| draw(n * k + 1)[1..].iter().map(|&x| x > 0.4).collect::<Vec<bool>>();
    let labels = |negative: Option<&str>, of: &[&str]| {
        Predictions::Labels(LabelScores {
            names: names(of),
            negative: negative.map(String::from),
            thresholds: vec![0.5; of.len()],
            truths: truths(of.len()),
            // With ties.
            probabilities: draw(n * of.len()).iter().map(|x| (x * 8.0).round() / 8.0).collect(),
        })
    };
    let classes = Predictions::Classes(Scores {
        classes: names(&["a", "b", "c"]),
        labels: (0..n as u32).map(|i| i % 3).collect(),
        probabilities: draw(n * 3),
    });
    let numbers = Predictions::Numbers(NumberScores {
        names: names(&["x", "y"]),
        truths: draw(2 * n).into_iter().map(f64::from).collect(),
        predictions: draw(2 * n + 1)[1..].iter().copied().map(f64::from).collect(),
        spreads: vec![1.0; 2],
    });
    let mask = |i: usize| MaskCase::new(&truths(2)[i..i + 9], &truths(1)[i % 3..i % 3 + 9], 3);
    let masks = Predictions::Masks(MaskScores { names: names(&["s"]), cases: (0..n).map(mask).collect() });
    for (predictions, metric) in [
        (classes, "macro_f1"),
        (labels(Some("no"), &["yes"]), "auc"),
        (labels(None, &["p", "q"]), "auc"),
        (numbers, "mae"),
        (masks, "dice"),
    ] {
        let cases = cases(&predictions, metric);
        let expected = outcome::measures(&predictions.measures(None))[metric];
        let found = cases.metric(&vec![1.0; n]).unwrap();
        assert!((found - expected).abs() < 1e-6, "{metric}: {found}, not {expected}");
        assert_eq!(
            (&cases.groups[0], &cases.groups[2], &cases.names[2]),
            (&"even".into(), &"even".into(), &"2".into())
        );
        assert!(cases.groups[1] != cases.groups[3] && cases.groups[1] != "even");
        // What counts twice is there twice; what counts not is not there.
        let weights: Vec<f64> = (0..n).map(|i| [2.0, 1.0, 0.0, 1.0][i % 4]).collect();
        let twice: Vec<f64> = weights.iter().map(|weight| 2.0 * weight).collect();
        let weighted = cases.metric(&weights).unwrap();
        assert!((weighted - cases.metric(&twice).unwrap()).abs() < 1e-12 && weighted != found, "{metric}: {weighted}");
    }
}

#[test]
fn the_learning_rate_is_chosen_on_validation_and_failures_are_shown() {
    let (dir, file) = study(|text| {
        text.replace("learning_rates = [1e-3]", "learning_rates = [1e-3, 1e-2, 1e30]")
            .replace("fractions = [0.5, 1.0]", "")
            .replace("epochs = 2", "epochs = 2\nmonitor = \"loss\"")
            .replace("[arms.pretrained]\npretrained = \"stripes\"\n", "")
    });
    let out = dir.path().join("out");
    let output = sweep(&file, &out, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("1 run failed") && stderr(&output).contains("learning rate 1e30"),
        "{}",
        stderr(&output)
    );

    let study = Study::read(&file, Some(&out)).unwrap();
    let cell = study.cells().next().unwrap();
    let Choice::Rate(chosen) = study.choice(cell).unwrap() else { panic!("no choice") };
    let losses: Vec<_> = study.candidates(cell).map(|run| (run.lr, study.outcome(&run).unwrap().unwrap())).collect();
    let best =
        losses.iter().filter_map(|(lr, outcome)| Some((outcome.selected_by?, lr))).min_by(|a, b| a.0.total_cmp(&b.0));
    assert_eq!(Some(&chosen), best.map(|(_, lr)| lr));
    for (lr, outcome) in &losses {
        assert_eq!(outcome.value.is_some(), *lr == chosen, "the test is for the chosen rate only");
        assert_eq!(out.join("runs").join(&outcome.hash).join("predictions.csv").exists(), *lr == chosen);
        assert!(!out.join("runs").join(&outcome.hash).join("last.safetensors").exists());
    }
    let results = Results::read(&study).unwrap();
    assert_eq!((results.failed().count(), results.missing().count()), (1, 0));
    assert_eq!(results.cells[0].tested().count(), 2);
    let table = table(&out);
    assert!(table.contains(",no,failed,") && table.contains("diverg"), "{table}");

    // Again, the failure included.
    let output = sweep(&file, &out, &["--retry"]).output().unwrap();
    let said = stderr(&output);
    let done_again =
        said.lines().any(|line| line.contains(" of 4  direction") && line.contains("lr 1e30  seed 1  failed: "));
    assert!(done_again && output.status.code() == Some(1), "{said}");
    assert_eq!(self::table(&out), table);
}

#[test]
fn what_cannot_work_is_refused_before_anything_runs() {
    let refused = |change: &dyn Fn(&str) -> String, words: &[&str]| {
        let (dir, file) = study(change);
        write_weights(dir.path(), "resnet18", 1);
        fs::write(dir.path().join("unlabelled.csv"), "path,kind\nimages/a/000.png,x\n").unwrap();
        let out = dir.path().join("out");
        fail(&mut sweep(&file, &out, &[]), 1, words);
        assert!(!out.exists(), "something ran");
    };
    let swap = |from: &'static str, to: &'static str| move |text: &str| text.replace(from, to);
    refused(&swap("epochs = 2", "epoch = 1"), &["line 10", "unknown field `epoch`"]);
    refused(&swap("seeds = [1, 2]", ""), &["missing field `seeds`"]);
    refused(&swap("epochs = 2", "epochs = 0"), &["epochs cannot be 0", "the pretraining stripes"]);
    refused(&swap("epochs = 2", "lr = 1"), &["[recipe] sets lr"]);
    refused(&swap("pretrained = \"stripes\"", "pretrained = \"spots\""), &["\"spots\", which is not declared"]);
    let none = swap("[pretrain.stripes]\ndata = \"archive\"\nsampling = \"natural\"\n", "");
    refused(&none, &["\"stripes\", which is not declared", "none is declared"]);
    let alike = "the arms pretrained and random come to the same recipe";
    refused(&swap("pretrained = \"stripes\"", ""), &[alike]);
    let again = swap("[tasks.direction]", "[tasks.again]\ndata = \"images\"\n\n[tasks.direction]");
    refused(&again, &["the tasks again and direction come to the same recipe"]);
    refused(&swap("data = \"images\"", "data = \"nowhere\""), &["the task direction", "nowhere"]);
    refused(&swap("data = \"images\"", "data = \"unlabelled.csv\""), &["the task direction", "label"]);
    refused(&swap("data = \"images\"", "data = \"images\"\nsplit = { test = 0.0 }"), &["no test images"]);
    refused(
        &swap("pretrained = \"stripes\"", "weights = \"weights.safetensors\""),
        &["the arm pretrained", "weights.safetensors"],
    );
    refused(&swap("pretrained = \"stripes\"", "weights = \"none.pth\""), &["the arm pretrained", "none.pth"]);
    refused(&swap("fractions = [0.5, 1.0]", "fractions = [0.5, 1.5]"), &["train_fraction cannot be 1.5"]);
    let many = |n: usize| (1..=n).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
    let million = |text: &str| {
        let text = text.replace("seeds = [1, 2]", &format!("seeds = [{}]", many(1000)));
        text.replace(
            "fractions = [0.5, 1.0]",
            &format!(
                "fractions = [{}]",
                (1..=500).map(|i| format!("{}", f64::from(i) / 500.0)).collect::<Vec<_>>().join(", ")
            ),
        )
    };
    refused(&million, &["the study has 1000000 runs", "500 fractions, 1000 seeds"]);
}

/// A study of two runs, one from the file `weights.safetensors`.
fn study_of_weights() -> (tempfile::TempDir, PathBuf) {
    let (dir, file) = study(|text| {
        text.replace("fractions = [0.5, 1.0]\n", "")
            .replace("seeds = [1, 2]", "seeds = [1]")
            .replace("epochs = 2", "epochs = 1")
            .replace("pretrained = \"stripes\"", "weights = \"weights.safetensors\"")
    });
    write_weights(dir.path(), "mobilenet_v3_small", 1);
    (dir, file)
}

fn write_weights(folder: &Path, model: &str, seed: u64) {
    let device: Arc<dyn Device> = Cpu::new(1 << 30);
    let network = Model::new(model, 2, &device, DType::F32, seed).unwrap();
    let tensors = weights::tensors(&network.params).unwrap();
    fs::write(folder.join("weights.safetensors"), weights::encode(&tensors, "")).unwrap();
}

#[test]
fn weights_are_tried_on_the_network_of_the_task() {
    let (dir, file) = study_of_weights();
    let with_head = |text: String| {
        text.replace("\"weights.safetensors\"", "\"weights.safetensors\"\nrecipe = { copy_head = true }")
    };
    fs::write(&file, with_head(fs::read_to_string(&file).unwrap())).unwrap();
    Study::read(&file, None).unwrap().check().unwrap();
    make_images(&dir.path().join("images"), &["c"], 16);
    let refused = Study::read(&file, None).unwrap().check().expect_err("a head for two classes of three").to_string();
    assert!(refused.contains("the arm pretrained") && refused.contains("classifier.3"), "{refused}");
}

#[test]
fn changed_weights_or_data_are_noticed_before_anything_runs() {
    let (dir, file) = study_of_weights();
    let out = dir.path().join("out");
    succeed(&mut sweep(&file, &out, &[]));
    let done = table(&out);

    write_weights(dir.path(), "mobilenet_v3_small", 2);
    fail(
        &mut sweep(&file, &out, &[]),
        1,
        &["the weights have changed since the run", "pretrained, 100 %", "--out DIR"],
    );
    let more_seeds = fs::read_to_string(&file).unwrap().replace("seeds = [1]", "seeds = [1, 2]");
    fs::write(&file, more_seeds).unwrap();
    fail(&mut sweep(&file, &out, &[]), 1, &["the weights have changed"]);
    write_weights(dir.path(), "mobilenet_v3_small", 1);
    for i in 12..16 {
        fs::remove_file(dir.path().join(format!("images/a/{i:03}.png"))).unwrap();
    }
    fail(&mut sweep(&file, &out, &[]), 1, &["the task direction: the data have changed since the run", "seed 1"]);
    assert_eq!((outcomes(&out), table(&out)), (2, done), "something ran");
}

#[test]
fn an_image_that_cannot_be_read_is_told_once_before_anything_runs() {
    let (dir, file) = study(str::to_string);
    let out = dir.path().join("out");
    let spoil = |image: &str| fs::write(dir.path().join(image), b"\x89PNG\r\n\x1a\n").unwrap();
    spoil("images/b/003.png");
    let output = sweep(&file, &out, &[]).output().unwrap();
    let said = stderr(&output);
    assert_eq!((output.status.code(), said.matches("003.png").count(), outcomes(&out)), (Some(1), 1, 0), "{said}");
    assert!(said.contains("the task direction: ") && said.contains("skip_bad = true in [recipe]"), "{said}");
    spoil("archive/q/001.png");
    fail(&mut sweep(&file, &out, &[]), 1, &["the pretraining stripes: ", "001.png"]);
    assert_eq!(fs::read_dir(out.join("claims")).unwrap().count(), 0, "claims are left");
}

#[test]
fn what_fails_for_one_reason_is_told_together_at_the_end() {
    let (dir, file) = study(|text| {
        text.replace("fractions = [0.5, 1.0]\n", "")
            .replace("[arms.random]\n", "")
            .replace("sampling = \"natural\"", "sampling = \"natural\"\nlr = 1e30")
    });
    let output = sweep(&file, &dir.path().join("out"), &[]).output().unwrap();
    let said = stderr(&output);
    let told: Vec<&str> = said.lines().filter(|line| line.starts_with("failed: ")).collect();
    let [line] = told[..] else { panic!("{said}") };
    assert!(line.contains("seed 1, learning rate 0.001, and 1 more: the pretraining stripes failed: "), "{said}");
    assert!(said.contains("error: 2 runs failed") && output.status.code() == Some(1), "{said}");
}

/// A limit on the size of files stands in for a full disk.
#[cfg(unix)]
#[test]
fn a_full_disk_ends_the_work_and_loses_nothing() {
    let (dir, file) = study(|text| {
        text.replace("fractions = [0.5, 1.0]", "").replace("[arms.pretrained]\npretrained = \"stripes\"\n", "")
    });
    let (out, whole) = (dir.path().join("out"), dir.path().join("whole"));
    let binary = env!("CARGO_BIN_EXE_roentgen");
    let script = format!(
        "trap '' XFSZ; ulimit -f 10000; exec '{binary}' sweep '{}' --out '{}' --device cpu --threads 1",
        text(&file),
        text(&out)
    );
    fail(Command::new("sh").args(["-c", &script]), 1, &["cannot write", "free some space", "give the command again"]);
    assert_eq!(outcomes(&out), 0, "a full disk is no failure of the run");
    succeed(&mut sweep(&file, &out, &[]));
    succeed(&mut sweep(&file, &whole, &[]));
    assert_eq!(table(&out), table(&whole));
}

#[test]
fn the_plan() {
    let (dir, file) = study(|text| text.replace("learning_rates = [1e-3]", "learning_rates = [1e-3, 1e-4]"));
    let study = Study::read(&file, None).unwrap();
    assert_eq!(study.folder, dir.path().join("study.results"));
    assert_eq!((study.size(), study.runs(), study.all_pretrainings().len()), (4, 12, 1));
    assert_eq!(study.arms[0].name, "random", "the baseline comes first");
    let grid: Vec<_> = study.cells().flat_map(|cell| study.grid(cell)).collect();
    let hashes: BTreeSet<_> = grid.iter().map(|run| run.hash.clone()).collect();
    assert_eq!((grid.len(), hashes.len()), (16, 16));
    // The same study elsewhere has the same runs.
    let (_elsewhere, moved) =
        self::study(|text| text.replace("learning_rates = [1e-3]", "learning_rates = [1e-4, 1e-3]"));
    let moved = Study::read(&moved, None).unwrap();
    assert_eq!(moved.cells().flat_map(|cell| moved.grid(cell)).map(|run| run.hash).collect::<BTreeSet<_>>(), hashes);
    // Every cell is in one of the parts.
    for of in 1..=5 {
        let parts = (1..=of).flat_map(|number| study.cells_of(Shard { number, of }).collect::<Vec<_>>());
        assert_eq!(parts.collect::<BTreeSet<_>>(), study.cells().collect());
    }
    let (_reconstruct, file_of_it) =
        self::study(|text| text.replace("sampling = \"natural\"", "task = \"reconstruction\""));
    let reconstructing = Study::read(&file_of_it, None).unwrap();
    reconstructing.check().unwrap();
    assert_eq!(reconstructing.pretraining(0, 0).model, "unet_mobilenet_v3_small");
    let sample = Study::sample(&dir.path().join("sample")).unwrap();
    sample.check().unwrap();
    assert_eq!((sample.runs(), sample.all_pretrainings().len()), (16, 1));
    fail(&mut sweep(&file, &dir.path().join("out"), &["--report"]), 1, &["nothing of the study has run yet"]);
    let output = succeed(&mut sweep(&file, &dir.path().join("out"), &["--dry-run"]));
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("runs  12, and 1 pretrainings") && told.contains(" minutes, one run after"), "{told}");
    assert!(told.contains("reading images and making reports come on top") && !told.contains("at most"), "{told}");
    let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["archive", "images", "study.toml"]);

    let output = succeed(&mut sweep(&file, &dir.path().join("o'ut"), &["--slurm", "7"]));
    let script = String::from_utf8(output.stdout).unwrap();
    assert!(
        script.contains("#SBATCH --array=1-7") && script.contains("--shard \"$SLURM_ARRAY_TASK_ID/7\""),
        "{script}"
    );
    let script_file = dir.path().join("script");
    fs::write(&script_file, script).unwrap();
    assert!(Command::new("sh").arg("-n").arg(&script_file).status().unwrap().success());
    let output = succeed(&mut sweep(&file, &dir.path().join("out"), &["--kubernetes", "7"]));
    let manifest = String::from_utf8(output.stdout).unwrap();
    assert!(manifest.contains("completions: 7") && manifest.contains("$((JOB_COMPLETION_INDEX + 1))/7"), "{manifest}");
}

#[test]
fn the_cost_counts_what_training_does() {
    let device: Arc<dyn Device> = Cpu::new(1 << 30);
    let cost = |recipe: &str| {
        let (dir, file) = study(|text| {
            let split = "split = { validation = 0.25, test = 0.25 }";
            text.replace("fractions = [0.5, 1.0]", "")
                .replace("seeds = [1, 2]", "seeds = [1]")
                .replace("epochs = 2", &format!("epochs = 2\n{split}\n{recipe}"))
                .replace("[arms.pretrained]\npretrained = \"stripes\"\n", "")
        });
        make_images(&dir.path().join("images"), &["c"], 4);
        let cost = Study::read(&file, None).unwrap().cost(&device).unwrap();
        (cost.trained, cost.evaluated)
    };
    // 8, 8 and 2 images to train on, in batches of 4; 9 to validate and 9 to test.
    assert_eq!(cost(""), (32.0, 36.0));
    assert_eq!(cost("validate_every = 0.5"), (32.0, 54.0));
    assert_eq!(cost("sampling = \"balanced\""), (48.0, 36.0));
    assert_eq!(cost("steps = 5"), (20.0, 36.0));
    // Two epochs of one step, in which there is no more than one look.
    assert_eq!(cost("steps = 2\nvalidate_every = 0.5"), (8.0, 36.0));
}

/// Short enough for a test, long enough for a busy machine to give signs of life in.
const STALE: Duration = Duration::from_millis(1500);

fn claims(folder: &Path) -> Claims {
    Claims::new(folder, STALE).unwrap()
}

#[test]
fn a_claim_is_one_workers_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let flag = Arc::new(AtomicBool::new(false));
    let (mut ours, mut theirs) = (claims(dir.path()), claims(dir.path()));
    let claim = ours.take("run", &flag).unwrap().expect("nobody has it");
    let other = theirs.take("other", &flag).unwrap().expect("nobody has that");
    let start = Instant::now();
    while start.elapsed() < 2 * STALE {
        assert!(theirs.take("run", &flag).unwrap().is_none(), "taken from the living");
        sleep(Duration::from_millis(100));
    }
    assert!(!claim.halt.load(Ordering::Relaxed));
    flag.store(true, Ordering::Relaxed);
    sleep(Duration::from_millis(500));
    assert!(claim.halt.load(Ordering::Relaxed) && !claim.is_lost(), "an interruption halts");
    flag.store(false, Ordering::Relaxed);
    drop(claim);
    assert!(theirs.take("run", &flag).unwrap().is_some(), "given up");
    drop(other);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_dead_workers_claim_is_taken_over_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let flag = Arc::new(AtomicBool::new(false));
    // Of another machine: after the time without a sign of life.
    fs::write(dir.path().join("far.0"), "elsewhere 1 1 0\n...").unwrap();
    let mut ours = claims(dir.path());
    assert!(ours.take("far", &flag).unwrap().is_none());
    let start = Instant::now();
    let taken = loop {
        if let Some(claim) = ours.take("far", &flag).unwrap() {
            break claim;
        }
        assert!(start.elapsed() < 4 * STALE, "never taken over");
        sleep(Duration::from_millis(50));
    };
    assert!(start.elapsed() >= STALE - Duration::from_millis(200), "after {:?}", start.elapsed());
    // The dead one was only slow: it hears of it.
    drop(taken);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let slow = ours.take("slow", &flag).unwrap().unwrap();
    fs::write(dir.path().join("slow.1"), "elsewhere 1 1 0\n").unwrap();
    sleep(STALE / 2);
    assert!(slow.is_lost() && slow.halt.load(Ordering::Relaxed));
    drop(slow);
    assert!(dir.path().join("slow.1").exists(), "the claim of who took it over stays");

    // It was stopped for so long that all was done since, and somebody has it anew.
    let stopped = ours.take("stopped", &flag).unwrap().unwrap();
    fs::remove_file(dir.path().join("stopped.0")).unwrap();
    assert!(stopped.is_lost());
    sleep(STALE / 2);
    assert!(stopped.halt.load(Ordering::Relaxed));
    drop(stopped);
    let stopped = ours.take("stopped", &flag).unwrap().unwrap();
    fs::write(dir.path().join("stopped.0"), "elsewhere 1 1 0\n").unwrap();
    drop(stopped);
    assert!(dir.path().join("stopped.0").exists(), "the claim of another is removed");

    // Of a process of this machine that is gone: at once, and by one of many.
    let Ok(line) = fs::read_to_string({
        let claim = ours.take("near", &flag).unwrap().unwrap();
        let copy = dir.path().join("copy");
        fs::copy(dir.path().join("near.0"), &copy).unwrap();
        drop(claim);
        copy
    }) else {
        panic!("no claim")
    };
    let mut words: Vec<&str> = line.split(' ').collect();
    if words[0] == "-" {
        return;
    }
    words[2] = "1";
    for round in 0..10 {
        let name = format!("near{round}");
        fs::write(dir.path().join(format!("{name}.0")), words.join(" ")).unwrap();
        let winners = std::thread::scope(|scope| {
            let take = || claims(dir.path()).take(&name, &flag).unwrap();
            let workers: Vec<_> = (0..8).map(|_| scope.spawn(take)).collect();
            workers.into_iter().filter_map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(winners.len(), 1, "round {round}");
    }
}
