//! The report page: complete, self-contained, well-formed, and safe with any text.

use roentgen::metrics::{LabelScores, MaskCase, MaskScores, Measures, NumberScores, Predictions, Scores};
use roentgen::report::{EpochRecord, Evaluation, Picture, Report, SplitCounts, WorstCase, render};

#[path = "common/html.rs"]
mod html;
use html::{assert_well_formed, text};

const ATTACK: &str = "<script>alert(\"x\")</script> & 'co'";
const ESCAPED: &str = "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; 'co'";

fn pair(name: &str, value: &str) -> (String, String) {
    (name.into(), value.into())
}

/// Eight samples of three classes, two of them wrong; the third class has no sample.
fn scores() -> Predictions {
    let row = |c: usize| if c == 0 { [0.75, 0.125, 0.125] } else { [0.25, 0.5, 0.25] };
    Predictions::Classes(Scores {
        classes: classes(),
        labels: vec![0, 0, 0, 0, 0, 1, 1, 1],
        probabilities: [0, 0, 0, 0, 1, 1, 1, 0].into_iter().flat_map(row).collect(),
    })
}

fn classes() -> Vec<String> {
    vec!["glioma".into(), ATTACK.into(), "absent".into()]
}

fn epoch(epoch: u32) -> EpochRecord {
    let done = f64::from(epoch);
    EpochRecord {
        epoch,
        train_loss: 1.0 / done,
        train_accuracy: Some(1.0 - 0.5 / done),
        validation_loss: Some(1.25 / done),
        validation_accuracy: Some(1.0 - 0.625 / done),
        validation_macro_f1: Some(1.0 - 0.75 / done),
        learning_rate: 1e-3 / done,
        seconds: 12.5,
        images_per_second: 64.25,
        ..EpochRecord::default()
    }
}

fn full<'a>(history: &'a [EpochRecord], scores: &Predictions, summary: &'a Measures) -> Report<'a> {
    let picture = Picture { width: 4, height: 3, pixels: (0..12).map(|i| i * 20).collect() };
    let case = |i| WorstCase::new(scores, i, format!("case {i} {ATTACK}"), picture.clone());
    Report {
        title: format!("ResNet18 on {ATTACK}"),
        facts: vec![pair("Backbone", "ResNet18"), pair(ATTACK, ATTACK)],
        warnings: vec![format!("duplicates cross splits {ATTACK}")],
        skipped: vec![pair("broken.jpg", "truncated"), pair(ATTACK, ATTACK)],
        history,
        best_epoch: Some(2),
        schedule: vec![(0.0, 0.0), (0.5, 1e-3), (3.0, 0.0)],
        data: SplitCounts {
            classes: classes(),
            splits: vec![("training".into(), vec![31, 41, 59]), (ATTACK.into(), vec![5, 3, 0])],
            overlap: false,
        },
        evaluations: vec![Evaluation {
            split: format!("test {ATTACK}"),
            summary,
            worst: scores.worst(3).into_iter().map(case).collect(),
        }],
        configuration: format!("[train]\nepochs = 3 # {ATTACK}"),
        environment: vec![pair("Device", "CPU, 2 threads"), pair("Host", ATTACK)],
    }
}

/// The page of a full report over the given history.
fn page(history: &[EpochRecord]) -> String {
    let scores = scores();
    let summary = scores.measures(Some(0));
    render(&full(history, &scores, &summary))
}

#[test]
fn the_page_shows_everything() {
    let html = page(&[epoch(1), epoch(2), epoch(3)]);
    let text = text(&html);
    for part in [
        "Accuracy on test",
        "75.0 %",
        "95 % interval",
        "chance 62.5 %; 8 images",
        "Backbone ResNet18",
        "duplicates cross splits",
        "2 files were skipped",
        "broken.jpg truncated",
        "Loss",
        "Accuracy and F1",
        "Learning rate",
        "best 2",
        "2 0.5000 0.7500 0.6250 0.6875 0.6250 5e-4 12.5 64.2",
        "Confusion matrix",
        "glioma 4 80 % 1 20 % 0",
        "macro mean 8",
        "mean over 2 of 3 classes",
        "left out of its mean: absent",
        "training 31 41 59 131",
        "epochs = 3",
        "Device CPU, 2 threads",
    ] {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    for title in ["training, epoch 2: 0.5", "validation, epoch 3: 0.4167", "validation macro F1, epoch 1: 0.25"] {
        assert!(html.contains(title), "{title:?} is no point of a chart");
    }
    for cell in [r#"<td class="right dark" style="--shade:0.894">4"#, r#"<td class="wrong" style="--shade:0.447">1"#] {
        assert!(html.contains(cell), "{cell:?} is no cell of the confusion matrix");
    }
    assert_eq!(html.matches("src=\"data:image/png;base64,").count(), 3);
}

#[test]
fn worst_cases_name_truth_and_prediction() {
    let html = text(&page(&[epoch(1)]));
    let first = format!("truth glioma 25.0 % predicted {ESCAPED} 50.0 % case 4 {ESCAPED}");
    let second = format!("truth {ESCAPED} 12.5 % predicted glioma 75.0 % case 7 {ESCAPED}");
    let at = |part: &str| html.find(part).unwrap_or_else(|| panic!("{part:?} is not in: {html}"));
    assert!(at(&second) < at(&first));
}

#[test]
fn any_text_is_escaped() {
    let html = page(&[epoch(1), epoch(2)]);
    assert!(!html.contains("<script") && !html.contains("alert(\""));
    assert!(html.matches(ESCAPED).count() >= 14);
    assert_well_formed(&html);
}

#[test]
fn nothing_is_loaded_from_elsewhere() {
    let html = page(&[epoch(1), epoch(2)]);
    for reference in ["http", "//", "url(", "@import", "<link", "<script", "<iframe", "srcset"] {
        let without_pictures: String = html.split("base64,").map(|p| p.split_once('"').map_or(p, |(_, p)| p)).collect();
        assert!(!without_pictures.contains(reference), "{reference}");
    }
    assert_eq!(html.matches("src=").count(), html.matches("src=\"data:").count());
}

#[test]
fn runs_of_any_length_and_missing_values_are_shown() {
    let diverged = EpochRecord {
        train_loss: f64::NAN,
        train_accuracy: None,
        validation_loss: Some(f64::INFINITY),
        validation_accuracy: None,
        validation_macro_f1: Some(f64::NAN),
        learning_rate: 0.0,
        ..epoch(2)
    };
    let histories: [Vec<EpochRecord>; 6] = [
        vec![],
        vec![epoch(1)],
        vec![diverged.clone()],
        vec![diverged.clone(), diverged.clone()],
        vec![epoch(1), diverged, epoch(3)],
        (1..=200).map(epoch).collect(),
    ];
    for history in histories {
        let html = page(&history);
        assert_well_formed(&html);
        assert!(!html.contains("NaN") && !html.contains("inf"), "{} epochs", history.len());
        assert_eq!(html.contains("<h2>Learning</h2>"), !history.is_empty());
    }
}

#[test]
fn empty_and_broken_evaluations_are_shown() {
    let classes = vec!["a".to_string(), "b".to_string()];
    let broken = Scores { classes: classes.clone(), labels: vec![1], probabilities: vec![f32::NAN; 2] };
    for scores in [Scores { classes, ..Scores::default() }, broken].map(Predictions::Classes) {
        let summary = scores.measures(Some(0));
        let html = render(&full(&[], &scores, &summary));
        assert_well_formed(&html);
        assert!(!html.contains("NaN"), "{html}");
    }
    assert_well_formed(&render(&Report::default()));
}

#[test]
fn pages_of_the_other_tasks_are_well_formed_and_show_their_figures() {
    let labels = |truths: Vec<bool>, probabilities: Vec<f32>| LabelScores {
        names: vec![ATTACK.into()],
        negative: Some("no".into()),
        thresholds: vec![0.5],
        truths,
        probabilities,
    };
    let numbers = |truths: Vec<f64>, predictions: Vec<f64>| NumberScores {
        names: vec![ATTACK.into()],
        truths,
        predictions,
        spreads: vec![1.0],
    };
    let masks = |cases| MaskScores { names: vec![ATTACK.into()], cases };
    let case = MaskCase::new(&[true, true, false], &[true, false, false], 3);
    let all: [(Predictions, &[&str]); 6] = [
        (
            Predictions::Labels(labels(vec![true, false, true, false], vec![0.75, 0.25, 0.5, 0.75])),
            &["AUC on test", "0.625", "Sensitivity 100.0 %", "Specificity 50.0 %", "ROC", "Reliability"],
        ),
        (
            Predictions::Numbers(numbers(vec![1.0, 2.0, 4.0], vec![2.0, 2.0, 2.0])),
            &["Mean absolute error", "1.00", "Bland–Altman", "2.0 for 4.0"],
        ),
        (Predictions::Masks(masks(vec![case])), &["Dice on test", "0.667", "IoU 0.500", "HD95"]),
        (Predictions::Labels(labels(vec![], vec![])), &[]),
        (Predictions::Numbers(numbers(vec![f64::NAN], vec![1.0])), &[]),
        (Predictions::Masks(masks(vec![])), &[]),
    ];
    for (predictions, parts) in all {
        let summary = predictions.measures(Some(0));
        let html = render(&full(&[epoch(1), epoch(2)], &predictions, &summary));
        assert_well_formed(&html);
        assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
        assert!(!html.contains("<script"));
        let text = text(&html);
        parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} is not in: {text}"));
    }
}

#[test]
fn an_outline_is_drawn_in_colour() {
    let gray = Picture { width: 3, height: 3, pixels: vec![7; 9] };
    let marked = |pixels: [usize; 2]| (0..9).map(|i| pixels.contains(&i)).collect::<Vec<_>>();
    let drawn = gray.outlined(&marked([0, 4]), &marked([4, 8]));
    let pixel = |i: usize| &drawn.pixels[3 * i..][..3];
    assert_eq!((drawn.pixels.len(), pixel(1)), (27, &[7u8, 7, 7][..]));
    // Green where only the truth has an edge, red where only the prediction, yellow where both.
    assert!(pixel(0)[1] > 150 && pixel(0)[0] < 100, "{:?}", pixel(0));
    assert!(pixel(8)[0] > 150 && pixel(8)[1] < 100, "{:?}", pixel(8));
    assert!(pixel(4)[0] > 150 && pixel(4)[1] > 150, "{:?}", pixel(4));
}

#[test]
fn an_epoch_survives_its_line_of_json() {
    let line = serde_json::to_string(&epoch(7)).unwrap();
    assert!(line.starts_with(r#"{"epoch":7,"train_loss":0.14285714285714285,"#), "{line}");
    assert_eq!(serde_json::from_str::<EpochRecord>(&line).unwrap(), epoch(7));

    let diverged = EpochRecord { train_loss: f64::NAN, validation_loss: None, ..epoch(1) };
    let line = serde_json::to_string(&diverged).unwrap();
    assert!(serde_json::from_str::<EpochRecord>(&line).unwrap().train_loss.is_nan());
}
