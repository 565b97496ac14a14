//! The parts of the page. A part without content is empty.

use maud::{Markup, html};

use super::svg::{Axis, Chart, Line};
use super::{EpochRecord, Evaluation, Report, SplitCounts, WorstCase, classes, images, labels, masks, numbers};
use crate::metrics::{Measures, decimals};

/// More skipped files than this are counted, not listed.
const MOST_SKIPPED: usize = 50;
/// A result in large figures.
pub struct Headline {
    pub name: String,
    pub figure: String,
    /// A picture of the figure below it.
    pub strip: Markup,
    pub note: Markup,
    pub tiles: Vec<Tile>,
}

/// A figure beside the headline.
pub struct Tile {
    name: &'static str,
    figure: String,
    note: String,
}

impl Tile {
    pub fn new(name: &'static str, figure: String, note: impl Into<String>) -> Tile {
        Tile { name, figure, note: note.into() }
    }
}

pub fn headline(of: Headline) -> Markup {
    html! {
        section.headline {
            div.first {
                p.name { (of.name) }
                p.figure { (of.figure) }
                (of.strip)
                p.soft { (of.note) }
            }
            @for tile in of.tiles {
                div { p.name { (tile.name) } p.figure { (tile.figure) } p.soft { (tile.note) } }
            }
        }
    }
}

/// The first evaluation's result in large figures.
pub fn large(evaluation: &Evaluation) -> Markup {
    let split = &evaluation.split;
    match evaluation.summary {
        Measures::Classes(summary) => classes::large(split, summary),
        Measures::Labels(summary) => labels::large(split, summary),
        Measures::Numbers(summary) => numbers::large(split, summary),
        Measures::Masks(summary) => masks::large(split, summary),
        Measures::Images(summary) => images::large(split, summary),
    }
}

/// Names and values side by side.
pub fn facts(facts: &[(String, String)]) -> Markup {
    html! {
        @if !facts.is_empty() {
            dl.facts { @for (name, value) in facts { div { dt { (name) } dd { (value) } } } }
        }
    }
}

/// What the reader has to know first.
pub fn warnings(warnings: &[String], skipped: &[(String, String)]) -> Markup {
    html! {
        @if !warnings.is_empty() || !skipped.is_empty() {
            section.warnings {
                h2 { "Before you trust these numbers" }
                ul { @for warning in warnings { li { (warning) } } }
                @if !skipped.is_empty() { (skipped_files(skipped)) }
            }
        }
    }
}

fn skipped_files(skipped: &[(String, String)]) -> Markup {
    let files = if skipped.len() == 1 { "1 file was" } else { &format!("{} files were", skipped.len()) };
    html! {
        details open[skipped.len() <= 5] {
            summary { (files) " skipped" }
            table {
                @for (file, reason) in skipped.iter().take(MOST_SKIPPED) {
                    tr { td { code { (file) } } td { (reason) } }
                }
            }
            @if skipped.len() > MOST_SKIPPED { p { "and " (skipped.len() - MOST_SKIPPED) " more" } }
        }
    }
}

/// Curves over the epochs, and the numbers behind them.
pub fn learning(report: &Report) -> Markup {
    let history = report.history;
    html! {
        @if !history.is_empty() {
            section {
                h2 { "Learning" }
                @if history.len() > 1 {
                    div.charts { @for chart in charts(report) { (chart.draw()) } }
                }
                details open[history.len() == 1] {
                    summary { "Every epoch in numbers" }
                    (epochs(history, report.best_epoch))
                }
            }
        }
    }
}

fn charts<'a>(report: &Report) -> [Chart<'a>; 4] {
    let line = |label, style, value: fn(&EpochRecord) -> Option<f64>| {
        let points = report.history.iter().map(|e| (f64::from(e.epoch), value(e).unwrap_or(f64::NAN)));
        Line::curve(label, style, points.collect())
    };
    let best = report.best_epoch.map(f64::from);
    let mut rate = line("learning rate", "rate", |e| Some(e.learning_rate));
    if !report.schedule.is_empty() {
        rate.points = report.schedule.clone();
    }
    let chart = |title, lines, best| Chart { title, lines, x: Axis::Epochs { best }, may_be_log: false, label: short };
    let shares = vec![
        line("training accuracy", "train", |e| e.train_accuracy),
        line("validation accuracy", "validation", |e| e.validation_accuracy),
        line("validation macro F1", "f1", |e| e.validation_macro_f1),
        line("validation AUC", "f1", |e| e.validation_auc),
        line("validation Dice", "validation", |e| e.validation_dice),
    ];
    let title = match report.history {
        [EpochRecord { validation_auc: Some(_), .. }, ..] => "Accuracy and AUC",
        [EpochRecord { validation_dice: Some(_), .. }, ..] => "Dice",
        _ => "Accuracy and F1",
    };
    [
        Chart {
            may_be_log: true,
            ..chart(
                "Loss",
                vec![
                    line("training", "train", |e| Some(e.train_loss)),
                    line("validation", "validation", |e| e.validation_loss),
                ],
                best,
            )
        },
        Chart {
            label: |v| format!("{:.4}", v).trim_end_matches('0').trim_end_matches('.').to_string(),
            ..chart(title, shares, best)
        },
        chart("Mean absolute error", vec![line("validation MAE", "validation", |e| e.validation_mae)], best),
        chart("Learning rate", vec![rate], None),
    ]
}

/// A number in few characters.
pub fn short(v: f64) -> String {
    match v.abs() {
        0.0 => "0".into(),
        a if !(1e-2..1e5).contains(&a) => format!("{v:.1e}").replace(".0e", "e"),
        _ => format!("{v:.4}").trim_end_matches('0').trim_end_matches('.').into(),
    }
}

fn epochs(history: &[EpochRecord], best: Option<u32>) -> Markup {
    type Column = (&'static str, fn(&EpochRecord) -> Option<f64>);
    let all: [Column; 8] = [
        ("train loss", |e| Some(e.train_loss)),
        ("train acc.", |e| e.train_accuracy),
        ("val. loss", |e| e.validation_loss),
        ("val. acc.", |e| e.validation_accuracy),
        ("val. F1", |e| e.validation_macro_f1),
        ("val. AUC", |e| e.validation_auc),
        ("val. MAE", |e| e.validation_mae),
        ("val. Dice", |e| e.validation_dice),
    ];
    // What this task does not measure has no column.
    let columns: Vec<Column> =
        all.into_iter().filter(|(_, value)| history.iter().any(|e| value(e).is_some())).collect();
    html! {
        div.wide {
            table.numbers {
                thead {
                    tr {
                        th { "epoch" }
                        @for (name, _) in &columns { th { (name) } }
                        th { "rate" } th { "seconds" } th { "images/s" }
                    }
                }
                tbody {
                    @for e in history {
                        tr.best[best == Some(e.epoch)] {
                            th scope="row" { (e.epoch) }
                            @for (_, value) in &columns { td { (decimals(value(e), 4)) } }
                            td { (short(e.learning_rate)) }
                            td { (decimals(e.seconds, 1)) }
                            td { (decimals(e.images_per_second, 1)) }
                        }
                    }
                }
            }
        }
    }
}

/// One evaluation in full.
pub fn evaluation(evaluation: &Evaluation) -> Markup {
    let (full, worst) = match evaluation.summary {
        Measures::Classes(summary) => (
            classes::full(summary),
            "The images whose true class got the lowest probability, worst first, as the network saw them.",
        ),
        Measures::Labels(summary) => {
            (labels::full(summary), "The images with the highest loss, worst first, as the network saw them.")
        }
        Measures::Numbers(summary) => {
            (numbers::full(summary), "The images with the largest errors, worst first, as the network saw them.")
        }
        Measures::Images(_) => {
            (images::full(), "The images with the largest absolute errors, worst first, as they were given.")
        }
        Measures::Masks(summary) => (
            masks::full(summary),
            "The images with the lowest Dice, worst first: the true outline in green, the predicted one in red, \
             both in yellow.",
        ),
    };
    html! {
        section {
            h2 { "Result on " (evaluation.split) }
            (full)
            @if !evaluation.worst.is_empty() {
                h3 { "Worst cases" }
                p.soft { (worst) }
                div.cases { @for case in &evaluation.worst { (worst_case(case)) } }
            }
        }
    }
}

/// A share as a number over a thin bar.
pub fn bar_cell(value: Option<f64>) -> Markup {
    let width = value.filter(|v| v.is_finite()).unwrap_or(0.0);
    html! { td.bar style=(format!("--share:{width:.3}")) { (decimals(value, 3)) } }
}

/// A sample with what is true of it and what was predicted.
pub fn worst_case(case: &WorstCase) -> Markup {
    html! {
        figure.case {
            img src=(case.picture.data_uri()) width=(case.picture.width) height=(case.picture.height) alt=(case.name);
            figcaption {
                @for line in &case.lines {
                    p class={ "odds " (if line.right { "right" } else { "wrong" }) }
                        style=(format!("--share:{:.3}", line.share)) {
                        span { i { (line.role) } (line.text) } b { (line.value) }
                    }
                }
                p.file { (case.name) }
            }
        }
    }
}

/// Images of each class in each split.
pub fn data(data: &SplitCounts) -> Markup {
    html! {
        @if !data.splits.is_empty() {
            section {
                h2 { "Data" }
                div.wide {
                    table.numbers {
                        thead {
                            tr {
                                th { "split" }
                                @for class in &data.classes { th { (class) } }
                                @if !data.overlap { th { "all" } }
                            }
                        }
                        tbody {
                            @for (split, counts) in &data.splits {
                                tr {
                                    th scope="row" { (split) }
                                    @for count in counts { td { (count) } }
                                    @if !data.overlap { td { (counts.iter().sum::<usize>()) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// How the run was set up and where it ran.
pub fn setup(configuration: &str, environment: &[(String, String)]) -> Markup {
    html! {
        @if !configuration.is_empty() {
            section { h2 { "Configuration" } pre { (configuration) } }
        }
        @if !environment.is_empty() {
            section { h2 { "Environment" } (facts(environment)) }
        }
    }
}
