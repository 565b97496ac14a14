//! The parts of the page. A part without content is empty.

use maud::{Markup, html};

use super::svg::{Chart, Line};
use super::{EpochRecord, Evaluation, Report, SplitCounts, WorstCase};
use crate::metrics::{ClassSummary, Interval, Summary, decimals, percent};

/// More skipped files than this are counted, not listed.
const MOST_SKIPPED: usize = 50;
/// Column headings stand upright above a matrix of more classes, or of longer names.
const LEVEL_HEADINGS: usize = 6;
const LEVEL_NAME: usize = 14;

/// The first evaluation's result in large figures.
pub fn headline(evaluation: &Evaluation) -> Markup {
    let summary = evaluation.summary;
    html! {
        section.headline {
            div.first {
                p.name { "Accuracy on " (evaluation.split) }
                p.figure { (percent(summary.accuracy)) }
                (accuracy_strip(summary))
                p.soft {
                    @if let Some(i) = &summary.intervals {
                        "95 % interval " (percent_range(i.accuracy)) "; "
                    }
                    "chance " (percent(summary.chance)) "; " (images(summary.samples))
                }
            }
            @for (name, value, note) in tiles(summary) {
                div { p.name { (name) } p.figure { (value) } p.soft { (note) } }
            }
        }
    }
}

fn tiles(summary: &Summary) -> [(&'static str, String, String); 3] {
    let f1_note = match &summary.intervals {
        Some(i) => format!("95 % interval {:.3}–{:.3}", i.macro_f1.low, i.macro_f1.high),
        None => "mean over classes".into(),
    };
    let all = summary.classes.len();
    let with_auc = all - summary.without_auc().len();
    let auc_note =
        if with_auc == all { "mean over classes".into() } else { format!("mean over {with_auc} of {all} classes") };
    let chance_loss = (all as f64).ln();
    [
        ("Macro F1", decimals(summary.macro_f1, 3), f1_note),
        ("Macro AUC", decimals(summary.macro_auc, 3), auc_note),
        ("Log loss", decimals(summary.log_loss, 3), format!("nats; equal odds give {chance_loss:.3}")),
    ]
}

/// Accuracy, its interval and chance on a scale from 0 to 100 %.
fn accuracy_strip(summary: &Summary) -> Markup {
    let x = |share: f64| format!("{:.2}", 100.0 * share);
    html! {
        @if summary.accuracy.is_finite() {
            svg.strip viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label="accuracy from 0 to 100 %" {
                rect.track x="0" y="2" width="100" height="2" {}
                rect.value x="0" y="2" width=(x(summary.accuracy)) height="2" {}
                @if let Some(Interval { low, high }) = summary.intervals.map(|i| i.accuracy) {
                    rect.interval x=(x(low)) y="2.75" width=(x(high - low)) height="0.5" {}
                    @for end in [low, high] { rect.interval x=(x(end - 0.0015)) y="1" width="0.3" height="4" {} }
                }
                rect.chance x=(x(summary.chance)) y="0" width="0.5" height="6" { title { "chance" } }
            }
        }
    }
}

fn percent_range(i: Interval) -> String {
    format!("{:.1}–{:.1} %", 100.0 * i.low, 100.0 * i.high)
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

fn charts(report: &Report) -> [Chart; 3] {
    let line = |label, style, value: fn(&EpochRecord) -> Option<f64>| Line {
        label,
        style,
        points: report.history.iter().map(|e| (f64::from(e.epoch), value(e).unwrap_or(f64::NAN))).collect(),
    };
    let best = report.best_epoch.map(f64::from);
    let mut rate = line("learning rate", "rate", |e| Some(e.learning_rate));
    if !report.schedule.is_empty() {
        rate.points = report.schedule.clone();
    }
    [
        Chart {
            title: "Loss",
            lines: vec![
                line("training", "train", |e| Some(e.train_loss)),
                line("validation", "validation", |e| e.validation_loss),
            ],
            best,
            may_be_log: true,
            label: short,
        },
        Chart {
            title: "Accuracy and F1",
            lines: vec![
                line("training accuracy", "train", |e| e.train_accuracy),
                line("validation accuracy", "validation", |e| e.validation_accuracy),
                line("validation macro F1", "f1", |e| e.validation_macro_f1),
            ],
            best,
            may_be_log: false,
            label: |v| format!("{:.4}", v).trim_end_matches('0').trim_end_matches('.').to_string(),
        },
        Chart { title: "Learning rate", lines: vec![rate], best: None, may_be_log: false, label: short },
    ]
}

/// A number in few characters.
fn short(v: f64) -> String {
    match v.abs() {
        0.0 => "0".into(),
        a if !(1e-2..1e5).contains(&a) => format!("{v:.1e}").replace(".0e", "e"),
        _ => format!("{v:.4}").trim_end_matches('0').trim_end_matches('.').into(),
    }
}

fn epochs(history: &[EpochRecord], best: Option<u32>) -> Markup {
    html! {
        div.wide {
            table.numbers {
                thead {
                    tr {
                        th { "epoch" } th { "train loss" } th { "train acc." } th { "val. loss" } th { "val. acc." }
                        th { "val. F1" } th { "rate" } th { "seconds" } th { "images/s" }
                    }
                }
                tbody {
                    @for e in history {
                        tr.best[best == Some(e.epoch)] {
                            th scope="row" { (e.epoch) }
                            td { (decimals(e.train_loss, 4)) }
                            td { (decimals(e.train_accuracy, 4)) }
                            td { (decimals(e.validation_loss, 4)) }
                            td { (decimals(e.validation_accuracy, 4)) }
                            td { (decimals(e.validation_macro_f1, 4)) }
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
    html! {
        section {
            h2 { "Result on " (evaluation.split) }
            (in_a_line(evaluation.summary))
            div.pair.stacked[has_upright_headings(evaluation.summary)] {
                div { h3 { "Confusion matrix" } (confusion(evaluation.summary)) }
                div { h3 { "By class" } (classes(evaluation.summary)) }
            }
            @if !evaluation.worst.is_empty() {
                h3 { "Worst cases" }
                p.soft { "The images whose true class got the lowest probability, worst first, as the network saw them." }
                div.cases { @for case in &evaluation.worst { (worst_case(case)) } }
            }
        }
    }
}

/// The headline figures in one line.
fn in_a_line(summary: &Summary) -> Markup {
    html! {
        p.line {
            "accuracy " b { (percent(summary.accuracy)) }
            @if let Some(i) = &summary.intervals { " (" (percent_range(i.accuracy)) ")" }
            ", macro F1 " b { (decimals(summary.macro_f1, 3)) }
            ", macro AUC " b { (decimals(summary.macro_auc, 3)) }
            ", log loss " b { (decimals(summary.log_loss, 3)) }
            ", " (images(summary.samples))
        }
    }
}

/// `1 image`, `2 images`.
fn images(n: usize) -> String {
    format!("{n} image{}", if n == 1 { "" } else { "s" })
}

/// Counts with the share of their row, shaded by it.
fn confusion(summary: &Summary) -> Markup {
    let names: Vec<&str> = summary.classes.iter().map(|c| c.name.as_str()).collect();
    let upright = has_upright_headings(summary);
    html! {
        div.wide {
            table.confusion {
                thead {
                    tr { td {} th.over colspan=(names.len()) { "predicted" } }
                    tr {
                        th.corner { "truth" }
                        @for name in &names {
                            th.upright[upright] scope="col" style=(format!("width:{:.0}%", 75.0 / names.len() as f64)) {
                                span { (name) }
                            }
                        }
                    }
                }
                tbody {
                    @for (truth, row) in summary.confusion.0.iter().enumerate() {
                        tr {
                            th scope="row" { (names[truth]) }
                            @for (predicted, &count) in row.iter().enumerate() {
                                (confusion_cell(count, summary.confusion.support(truth), truth == predicted))
                            }
                        }
                    }
                }
            }
        }
        p.soft { "Images, and their share of the row. Blue is right, orange is wrong." }
    }
}

/// Whether the class names are too many or too long to stand beside each other.
fn has_upright_headings(summary: &Summary) -> bool {
    summary.classes.len() > LEVEL_HEADINGS || summary.classes.iter().any(|c| c.name.chars().count() > LEVEL_NAME)
}

fn confusion_cell(count: u64, row: u64, right: bool) -> Markup {
    let share = if row == 0 { 0.0 } else { count as f64 / row as f64 };
    // The root lets small shares be seen.
    let shade = share.sqrt();
    let tone = match (right, shade > 0.55) {
        (true, false) => "right",
        (true, true) => "right dark",
        (false, false) => "wrong",
        (false, true) => "wrong dark",
    };
    html! {
        td class=(tone) style=(format!("--shade:{shade:.3}")) {
            (count)
            small { @match count {
                    0 => "\u{a0}",
                    _ if share < 0.005 => "< 1 %",
                    _ => (format!("{:.0} %", 100.0 * share)),
                } }
        }
    }
}

fn classes(summary: &Summary) -> Markup {
    let row = |c: &ClassSummary| {
        html! {
            tr {
                th scope="row" { (c.name) }
                td { (c.support) }
                @for value in [Some(c.precision), Some(c.recall), Some(c.f1), c.auc] { (bar_cell(value)) }
            }
        }
    };
    let means = [Some(summary.macro_precision), Some(summary.macro_recall), Some(summary.macro_f1), summary.macro_auc];
    html! {
        div.wide {
            table.numbers {
                thead {
                    tr { th { "class" } th { "images" } th { "precision" } th { "recall" } th { "F1" } th { "AUC" } }
                }
                tbody { @for class in &summary.classes { (row(class)) } }
                tfoot {
                    tr {
                        th scope="row" { "macro mean" }
                        td { (summary.samples) }
                        @for value in means { (bar_cell(value)) }
                    }
                }
            }
        }
        @let missing = summary.without_auc();
        p.soft {
            "Precision of a class never predicted, and recall of a class without images, count as 0."
            @if !missing.is_empty() { " No AUC, and left out of its mean: " (missing.join(", ")) "." }
        }
    }
}

/// A share as a number over a thin bar.
fn bar_cell(value: Option<f64>) -> Markup {
    let width = value.filter(|v| v.is_finite()).unwrap_or(0.0);
    html! { td.bar style=(format!("--share:{width:.3}")) { (decimals(value, 3)) } }
}

fn worst_case(case: &WorstCase) -> Markup {
    let wrong = case.truth != case.predicted;
    html! {
        figure.case {
            img src=(case.picture.data_uri()) width=(case.picture.width) height=(case.picture.height) alt=(case.name);
            figcaption {
                (odds("truth", "right", &case.truth, case.truth_probability))
                @if wrong { (odds("predicted", "wrong", &case.predicted, case.predicted_probability)) }
                p.file { (case.name) }
            }
        }
    }
}

fn odds(role: &str, style: &str, class: &str, probability: f32) -> Markup {
    let probability = f64::from(probability);
    let width = if probability.is_finite() { probability } else { 0.0 };
    html! {
        p class={ "odds " (style) } style=(format!("--share:{width:.3}")) {
            span { i { (role) } (class) } b { (percent(probability)) }
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
                            tr { th { "split" } @for class in &data.classes { th { (class) } } th { "all" } }
                        }
                        tbody {
                            @for (split, counts) in &data.splits {
                                tr {
                                    th scope="row" { (split) }
                                    @for count in counts { td { (count) } }
                                    td { (counts.iter().sum::<usize>()) }
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
