//! Metrics against scikit-learn, SciPy and MONAI; `scripts/make_metric_fixtures.py` writes the fixture.

use roentgen::metrics::{
    Interval, Intervals, LabelScores, LabelSummary, MaskCase, MaskScores, MaskSummary, Measured, NumberScores,
    NumberSummary, Predictions, Scores, Summary,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
    labels: Vec<LabelCase>,
    numbers: Vec<NumberCase>,
    masks: Vec<DrawnCase>,
}

#[derive(Deserialize)]
struct LabelCase {
    name: String,
    truth: Vec<bool>,
    probabilities: Vec<f32>,
    threshold: f64,
    auc: Option<f64>,
    auc_interval: Option<[f64; 2]>,
    average_precision: Option<f64>,
    roc: Vec<[f64; 2]>,
    youden: f64,
    sensitivity: f64,
    specificity: f64,
    precision: f64,
    f1: f64,
    observed: Vec<f64>,
    predicted: Vec<f64>,
    ece: f64,
    log_loss: f64,
}

#[derive(Deserialize)]
struct NumberCase {
    name: String,
    truth: Vec<f64>,
    predictions: Vec<f64>,
    mae: f64,
    rmse: f64,
    r2: f64,
    bias: f64,
    sd: f64,
    limits: [f64; 2],
    chance: f64,
    mae_interval: Option<[f64; 2]>,
    rmse_interval: Option<[f64; 2]>,
    r2_interval: Option<[f64; 2]>,
}

#[derive(Deserialize)]
struct DrawnCase {
    name: String,
    width: usize,
    truth: String,
    predicted: String,
    dice: f64,
    iou: f64,
    hd95: Option<f64>,
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

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("fixtures/metrics.json")).unwrap()
}

fn cases() -> Vec<Case> {
    fixture().cases
}

impl LabelCase {
    fn scores(&self) -> LabelScores {
        LabelScores {
            names: vec![self.name.clone()],
            negative: None,
            thresholds: vec![self.threshold],
            truths: self.truth.clone(),
            probabilities: self.probabilities.clone(),
        }
    }
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
fn labels_equal_scikit_learn() {
    for case in fixture().labels {
        let (name, scores) = (&case.name, case.scores());
        let ours = LabelSummary::new(&scores, None);
        let label = &ours.labels[0];
        close_auc(name, label.auc, case.auc);
        close_auc(name, label.average_precision, case.average_precision);
        close(name, label.sensitivity, case.sensitivity, 1e-9);
        close(name, label.specificity, case.specificity, 1e-9);
        close(name, label.precision, case.precision, 1e-9);
        close(name, label.f1, case.f1, 1e-9);
        close(name, label.ece, case.ece, 1e-9);
        close(name, ours.log_loss, case.log_loss, 1e-9);
        close(name, scores.best_thresholds()[0], case.youden, 1e-9);
        assert_eq!(label.roc.len(), case.roc.len(), "{name}");
        for (ours, theirs) in label.roc.iter().zip(&case.roc) {
            close(name, ours.false_positive_rate, theirs[0], 1e-9);
            close(name, ours.true_positive_rate, theirs[1], 1e-9);
        }
        let filled: Vec<_> = label.reliability.iter().filter(|bin| bin.samples > 0).collect();
        assert_eq!(filled.len(), case.observed.len(), "{name}");
        for (bin, (observed, predicted)) in filled.iter().zip(case.observed.iter().zip(&case.predicted)) {
            close(name, bin.observed, *observed, 1e-9);
            close(name, bin.predicted, *predicted, 1e-9);
        }
    }
}

#[test]
fn several_labels_are_measured_one_by_one() {
    let of: Vec<LabelCase> = fixture().labels.into_iter().take(2).collect();
    let both = |i: usize| of.iter().map(move |case| case.truth[i]);
    let scores = LabelScores {
        names: of.iter().map(|case| case.name.clone()).collect(),
        negative: None,
        thresholds: of.iter().map(|case| case.threshold).collect(),
        truths: (0..of[0].truth.len()).flat_map(both).collect(),
        probabilities: (0..of[0].truth.len()).flat_map(|i| of.iter().map(move |case| case.probabilities[i])).collect(),
    };
    let ours = LabelSummary::new(&scores, None);
    for (label, case) in ours.labels.iter().zip(&of) {
        close_auc(&case.name, label.auc, case.auc);
        close(&case.name, label.f1, case.f1, 1e-9);
    }
    close("mean", ours.log_loss, (of[0].log_loss + of[1].log_loss) / 2.0, 1e-9);
    close("mean", ours.macro_auc.unwrap(), (of[0].auc.unwrap() + of[1].auc.unwrap()) / 2.0, 1e-9);
}

#[test]
fn numbers_equal_scikit_learn() {
    for case in fixture().numbers {
        let scores = NumberScores {
            names: vec!["months".into()],
            truths: case.truth,
            predictions: case.predictions,
            spreads: vec![1.0],
        };
        let ours = &NumberSummary::new(&scores, Some(1)).numbers[0];
        let name = &case.name;
        close(name, ours.mae.value, case.mae, 1e-9);
        close(name, ours.rmse.value, case.rmse, 1e-9);
        close(name, ours.r2.value, case.r2, 1e-9);
        close(name, ours.bias, case.bias, 1e-9);
        close(name, ours.sd, case.sd, 1e-9);
        close(name, ours.limits[0], case.limits[0], 1e-9);
        close(name, ours.limits[1], case.limits[1], 1e-9);
        close(name, ours.chance, case.chance, 1e-9);
        let near = |ours: &Measured, theirs: Option<[f64; 2]>, tolerance: f64| {
            let Some(theirs) = theirs else { return };
            let ours = ours.interval.unwrap();
            close(name, ours.low, theirs[0], tolerance);
            close(name, ours.high, theirs[1], tolerance);
        };
        near(&ours.mae, case.mae_interval, 0.3);
        near(&ours.rmse, case.rmse_interval, 0.3);
        near(&ours.r2, case.r2_interval, 0.02);
    }
}

#[test]
fn masks_equal_scipy_and_monai() {
    let of = fixture().masks;
    let drawn = |text: &str| text.bytes().map(|b| b == b'1').collect::<Vec<bool>>();
    let case = |case: &DrawnCase| MaskCase::new(&drawn(&case.truth), &drawn(&case.predicted), case.width);
    for theirs in &of {
        let ours = case(theirs);
        close(&theirs.name, ours.dice(), theirs.dice, 1e-12);
        close(&theirs.name, ours.iou(), theirs.iou, 1e-12);
        close_auc(&theirs.name, ours.hd95, theirs.hd95);
    }
    // Every case counts in the mean of Dice, those with a distance in the mean of HD95.
    let scores = MaskScores { names: vec!["disc".into()], cases: of.iter().map(case).collect() };
    let ours = MaskSummary::new(&scores, Some(1));
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let structure = &ours.structures[0];
    close("mean", structure.dice.value, mean(of.iter().map(|case| case.dice).collect()), 1e-12);
    close("mean", structure.hd95, mean(of.iter().filter_map(|case| case.hd95).collect()), 1e-9);
    assert_eq!((structure.present, structure.rightly_empty, structure.without_hd95), (8, 1, 2));
    let present = of.iter().filter(|case| case.truth.contains('1'));
    close("shown", structure.dice_present, mean(present.map(|case| case.dice).collect()), 1e-12);
    let interval = structure.dice.interval.unwrap();
    assert!(interval.low < structure.dice.value && structure.dice.value < interval.high);
}

#[test]
fn intervals_of_areas_are_near_those_of_scipy() {
    let case = fixture().labels.into_iter().next().unwrap();
    let [low, high] = case.auc_interval.unwrap();
    let ours = LabelSummary::new(&case.scores(), Some(3)).labels[0].auc_interval.unwrap();
    close("AUC", ours.low, low, 0.015);
    close("AUC", ours.high, high, 0.015);
}

#[test]
fn tables_of_every_task_have_a_cell_for_each_column() {
    let masks = vec![MaskCase::new(&[true, false], &[true, true], 2), MaskCase::new(&[false; 2], &[true; 2], 2)];
    let labels = fixture().labels.remove(0).scores();
    let binary = LabelScores { negative: Some("no".into()), ..labels.clone() };
    let numbers = NumberScores {
        names: vec!["a".into(), "b".into()],
        truths: vec![1.0, 2.0],
        predictions: vec![1.5, 2.5],
        spreads: vec![1.0; 2],
    };
    let all = [
        Predictions::Classes(cases()[0].scores()),
        Predictions::Labels(labels),
        Predictions::Labels(binary),
        Predictions::Numbers(numbers),
        Predictions::Masks(MaskScores { names: vec!["x".into(), "y".into()], cases: masks }),
    ];
    for predictions in all {
        for truth in [true, false] {
            let (columns, cells) = (predictions.columns(truth), predictions.cells(0, truth));
            assert_eq!(columns.len(), cells.len(), "{columns:?} {cells:?}");
        }
        let text = predictions.measures(Some(1)).to_string();
        assert!(text.contains("over "), "{text}");
        assert_eq!(predictions.worst(1).len(), 1);
    }
}

#[test]
fn nothing_to_measure_gives_no_panic() {
    let names = || vec!["a".to_string()];
    let nothing = [
        Predictions::Labels(LabelScores { names: names(), thresholds: vec![0.5], ..LabelScores::default() }),
        Predictions::Numbers(NumberScores { names: names(), spreads: vec![1.0], ..NumberScores::default() }),
        Predictions::Masks(MaskScores { names: names(), ..MaskScores::default() }),
    ];
    for predictions in nothing {
        assert!(predictions.is_empty());
        assert!(predictions.measures(Some(1)).to_string().contains('–'));
    }
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
