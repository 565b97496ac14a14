//! Metrics against scikit-learn and SciPy; `scripts/make_metric_fixtures.py` writes the fixture.

use roentgen::metrics::{Interval, Intervals, Scores, Summary};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    labels: Vec<u32>,
    probabilities: Vec<f32>,
    classes: usize,
    accuracy: f64,
    chance: f64,
    precision: Vec<f64>,
    recall: Vec<f64>,
    f1: Vec<f64>,
    support: Vec<u64>,
    #[serde(rename = "macro")]
    means: [f64; 3],
    auc: Vec<Option<f64>>,
    macro_auc: Option<f64>,
    log_loss: f64,
    confusion: Vec<Vec<u64>>,
    intervals: Option<PeerIntervals>,
}

#[derive(Deserialize)]
struct PeerIntervals {
    accuracy: [f64; 2],
    macro_f1: [f64; 2],
}

impl Case {
    fn scores(&self) -> Scores {
        let classes = (0..self.classes).map(|c| format!("class {c}")).collect();
        Scores { classes, labels: self.labels.clone(), probabilities: self.probabilities.clone() }
    }
}

fn cases() -> Vec<Case> {
    let text = include_str!("fixtures/metrics.json");
    serde_json::from_str::<Fixture>(text).unwrap().cases
}

#[track_caller]
fn close(what: &str, ours: f64, theirs: f64, tolerance: f64) {
    assert!((ours - theirs).abs() <= tolerance, "{what}: {ours} here, {theirs} there");
}

#[track_caller]
fn close_auc(what: &str, ours: Option<f64>, theirs: Option<f64>) {
    assert_eq!(ours.is_some(), theirs.is_some(), "{what}: {ours:?} here, {theirs:?} there");
    close(what, ours.unwrap_or(0.0), theirs.unwrap_or(0.0), 1e-9);
}

#[test]
fn metrics_equal_scikit_learn() {
    for case in cases() {
        let ours = Summary::new(&case.scores());
        let name = &case.name;
        assert_eq!(ours.samples, case.labels.len(), "{name}");
        assert_eq!(ours.confusion.0, case.confusion, "{name}");
        close(name, ours.accuracy, case.accuracy, 1e-9);
        close(name, ours.chance, case.chance, 1e-9);
        close(name, ours.log_loss, case.log_loss, 1e-9);
        close(name, ours.macro_precision, case.means[0], 1e-9);
        close(name, ours.macro_recall, case.means[1], 1e-9);
        close(name, ours.macro_f1, case.means[2], 1e-9);
        close_auc(name, ours.macro_auc, case.macro_auc);
        assert_eq!(ours.classes.len(), case.classes);
        for (c, class) in ours.classes.iter().enumerate() {
            let what = format!("{name}, class {c}");
            assert_eq!(class.support, case.support[c], "{what}");
            close(&what, class.precision, case.precision[c], 1e-9);
            close(&what, class.recall, case.recall[c], 1e-9);
            close(&what, class.f1, case.f1[c], 1e-9);
            close_auc(&what, class.auc, case.auc[c]);
        }
    }
}

#[test]
fn intervals_are_near_those_of_scipy() {
    let near = |what: &str, ours: Interval, [low, high]: [f64; 2]| {
        close(what, ours.low, low, 0.01);
        close(what, ours.high, high, 0.01);
    };
    let mut compared = 0;
    for case in cases() {
        let ours = Summary::with_intervals(&case.scores(), 3).intervals.unwrap();
        if let Some(theirs) = case.intervals {
            near("accuracy", ours.accuracy, theirs.accuracy);
            near("macro F1", ours.macro_f1, theirs.macro_f1);
            compared += 1;
        }
    }
    assert!(compared > 0);
}

#[test]
fn intervals_depend_on_the_seed_only() {
    let case = &cases()[1];
    let confusion = Summary::new(&case.scores()).confusion;
    assert_eq!(Intervals::bootstrap(&confusion, 1), Intervals::bootstrap(&confusion, 1));
    assert_ne!(Intervals::bootstrap(&confusion, 1), Intervals::bootstrap(&confusion, 2));
}

#[test]
fn worst_cases_come_worst_first() {
    let scores = Scores {
        classes: vec!["a".into(), "b".into()],
        labels: vec![0, 1, 0, 1],
        probabilities: vec![0.9, 0.1, 0.8, 0.2, 0.2, 0.8, 0.6, 0.4],
    };
    assert_eq!(scores.worst(3), [1, 2, 3]);
    assert_eq!(scores.worst(9), [1, 2, 3, 0]);
}

#[test]
fn a_summary_survives_json() {
    for case in cases() {
        let summary = Summary::with_intervals(&case.scores(), 0);
        let text = serde_json::to_string(&summary).unwrap();
        assert_eq!(serde_json::from_str::<Summary>(&text).unwrap(), summary);
    }
}

#[test]
fn no_samples_and_broken_scores_give_no_panic() {
    let classes = vec!["a".to_string(), "b".to_string()];
    let empty = Summary::with_intervals(&Scores { classes: classes.clone(), ..Scores::default() }, 0);
    assert!(empty.accuracy.is_nan() && empty.macro_auc.is_none() && empty.intervals.is_none());
    assert!(empty.to_string().contains('–'));
    let text = serde_json::to_string(&empty).unwrap();
    assert!(serde_json::from_str::<Summary>(&text).unwrap().accuracy.is_nan());

    let diverged = Scores { classes, labels: vec![0, 1], probabilities: vec![f32::NAN; 4] };
    let summary = Summary::with_intervals(&diverged, 0);
    assert!(summary.log_loss.is_nan() && summary.to_string().contains("log loss –"));
}

#[test]
fn the_terminal_table_is_aligned_and_complete() {
    let case = &cases()[2];
    let mut scores = case.scores();
    scores.classes[2] = "a class whose name is far too long for a terminal".into();
    scores.classes[3] = "bell\u{7}".into();
    let text = Summary::with_intervals(&scores, 0).to_string();
    assert!(!text.contains('\u{7}'), "{text}");
    assert!(text.contains("95 % interval") && text.contains("macro mean") && text.contains("no AUC"), "{text}");
    let blocks: Vec<Vec<&str>> = text.split("\n\n").map(|b| b.lines().collect()).collect();
    let width = |line: &&str| line.chars().count();
    for table in [&blocks[1][..6], &blocks[2][..]] {
        assert!(table.iter().all(|line| width(line) == width(&table[0])), "{text}");
    }
}
