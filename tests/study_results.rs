//! From the outcomes of a study's runs to what its report shows.

use roentgen::{
    device::{Device, cpu::Cpu},
    report::study::{Cost, StudyReport},
    statistics::Interval,
    study::{CellResults, Choice, Comparison, Curve, Outcome, Results, Status, Study},
};
use std::{fs, sync::Arc};

const STUDY: &str = r#"
question = "Which?"
learning_rates = [1e-3, 1e-4]
fractions = [1.0, 0.25]
seeds = [7, 8]

[backbones.resnet18]
[backbones.mobilenet_v3_small]

[arms.warm]
pretrained = "archive"

[arms.cold]

[pretrain.archive]

[tasks.ages]
task = "regression"
columns = { target = ["age"] }

[tasks.kinds]
"#;

/// A study whose every run came to a number that tells its place, but for one that failed and one that is missing.
fn results(study: &Study) -> Results {
    let outcome = |run: &roentgen::study::Run| {
        let cell = run.cell;
        let place = (cell.task * 8 + cell.backbone * 4 + cell.fraction * 2 + cell.arm) as f64 + run.seed as f64 / 10.0;
        match (cell.task, cell.backbone, cell.fraction, cell.arm, run.seed) {
            (1, 1, 1, 1, 8) => None,
            (0, 0, 0, 1, 7) => Some(study.blank(run, Status::Failed("it diverged".into()))),
            _ => Some(Outcome {
                value: Some(place),
                curve: Curve { metric: vec![Some(0.5), Some(place)], loss: vec![None, None] },
                test_images: 10 + cell.task,
                seconds: 2.0 * place,
                joules: (run.seed == 8).then_some(30.0 * place),
                ..study.blank(run, Status::Done)
            }),
        }
    };
    let cell = |cell| {
        let runs = study.seeds.iter().map(|&seed| study.run(cell, 1e-3, seed));
        let runs = runs.map(|run| (run.clone(), outcome(&run))).collect();
        CellResults { cell, lr: Some(1e-3), runs, others: vec![] }
    };
    Results { cells: study.cells().map(cell).collect() }
}

fn report() -> StudyReport {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("study.toml");
    fs::write(&file, STUDY).unwrap();
    let study = Study::read(&file, None).unwrap();
    let results = results(&study);
    let comparison = |of: usize, difference| Comparison {
        of: &results.cells[of],
        against: &results.cells[of - 1],
        seeds: 2,
        difference,
        interval: Interval { low: difference - 1.0, high: difference + 1.0 },
        p: 0.01,
        adjusted: 0.02,
    };
    results.report(&study, &[comparison(3, 0.25), comparison(13, 0.5)]).unwrap()
}

#[test]
fn runs_tested_on_other_images_are_not_put_together() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("study.toml");
    fs::write(&file, STUDY).unwrap();
    let study = Study::read(&file, Some(&dir.path().join("out"))).unwrap();
    let cell = study.cells().next().unwrap();
    let put = |seed: u64, data: &str, held_out: &str| {
        let run = study.run(cell, 1e-3, seed);
        let blank = study.blank(&run, Status::Done);
        let outcome = Outcome { data: data.into(), held_out: Some(held_out.into()), ..blank };
        fs::create_dir_all(study.run_folder(&run)).unwrap();
        outcome.write(&study.run_folder(&run)).unwrap();
    };
    // Which images are trained on depends on the seed; which are tested on must not.
    put(7, "some", "those");
    put(8, "others", "those");
    Results::read(&study).unwrap();
    put(8, "others", "these");
    let refused = Results::read(&study).err().expect("seeds with other test images were put together").to_string();
    assert!(refused.contains("the data of the run") && refused.contains("seed 8"), "{refused}");
}

#[test]
fn the_layout_of_a_task_says_what_its_learning_rate_is_chosen_by() {
    for monitor in ["", "monitor = \"mae\""] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("study.toml");
        let task = format!("[tasks.ages]\nlayout = \"rsna-bone-age\"\n{monitor}");
        let (before, _) = STUDY.split_once("[tasks.ages]").unwrap();
        fs::write(&file, before.to_string() + &task).unwrap();
        let study = Study::read(&file, Some(&dir.path().join("out"))).unwrap();
        for cell in study.cells() {
            for (run, error) in study.candidates(cell).zip([9.0, 7.0]) {
                let outcome = Outcome { selected_by: Some(error), ..study.blank(&run, Status::Trained) };
                fs::create_dir_all(study.run_folder(&run)).unwrap();
                outcome.write(&study.run_folder(&run)).unwrap();
            }
            assert_eq!(study.choice(cell).unwrap(), Choice::Rate(1e-4), "not the lowest error");
        }
        // It has no classes to explain.
        let device: Arc<dyn Device> = Cpu::new(0);
        assert!(results(&study).explained(&study, &device).unwrap().is_empty());
    }
}

#[test]
fn each_number_stands_at_its_place() {
    let report = report();
    assert_eq!((report.question.as_str(), &report.arms[..]), ("Which?", &["cold".to_string(), "warm".into()][..]));
    let settings: Vec<_> =
        report.settings.iter().map(|s| (s.task.as_str(), s.model.as_str(), s.metric.as_str())).collect();
    let nets = ["mobilenet_v3_small", "resnet18"];
    assert_eq!(
        settings,
        [
            ("ages", nets[0], "mae"),
            ("ages", nets[1], "mae"),
            ("kinds", nets[0], "macro_f1"),
            ("kinds", nets[1], "macro_f1")
        ]
    );
    assert_eq!(report.settings.iter().map(|s| s.higher_is_better).collect::<Vec<_>>(), [false, false, true, true]);
    let row = &report.settings[2].rows[1];
    assert_eq!((row.fraction, row.test_images, &row.rates[..]), (1.0, 11, &[Some(1e-3); 2][..]));
    assert_eq!(report.learning_rates, [1e-3, 1e-4]);
    // Task 1, network 0, share 1, arm 1: 8 + 2 + 1.
    let run = &row.arms[1][1];
    assert_eq!((run.seed, run.value, run.cost), (8, Some(11.8), Cost { seconds: 23.6, joules: Some(354.0) }));
    assert_eq!(run.curve, [Some(0.5), Some(11.8)]);
    let differences = |setting: usize, row: usize| {
        let comparisons = &report.settings[setting].rows[row].comparisons;
        comparisons.iter().map(|c| (c.of, c.against, c.difference, c.adjusted)).collect::<Vec<_>>()
    };
    assert_eq!(differences(0, 1), [(1, 0, 0.25, 0.02)]);
    assert_eq!(differences(3, 0), [(1, 0, 0.5, 0.02)]);
    assert!(differences(0, 0).is_empty() && differences(2, 1).is_empty());
}

#[test]
fn what_failed_is_missing_or_declared_is_named() {
    let report = report();
    let [(failed, reason)] = &report.failed[..] else { panic!("{:?}", report.failed) };
    assert!(failed.contains("ages, mobilenet_v3_small, warm, 25 %") && failed.contains("seed 7"), "{failed}");
    assert_eq!(reason, "it diverged");
    let [missing] = &report.missing[..] else { panic!("{:?}", report.missing) };
    assert!(missing.contains("kinds, resnet18, warm, 100 %") && missing.contains("seed 8"), "{missing}");
    assert_eq!(report.settings[0].rows[0].arms.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
    let fact = |name: &str| report.design.iter().find(|(n, _)| n == name).unwrap().1.as_str();
    assert_eq!(fact("arms"), "cold (random weights), warm (pretrained: archive)");
    assert_eq!(fact("training images"), "25 %, 100 %");
    assert_eq!(fact("tested runs"), "30 of 32");
    assert!(report.test.contains("all comparisons of the study, 2 in number"), "{}", report.test);
    assert!(report.configuration.contains("model = \"mobilenet_v3_small\""), "{}", report.configuration);
}
