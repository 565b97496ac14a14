//! The result of naming one class of several.

use maud::{Markup, html};

use super::sections::{Headline, Tile, bar_cell, headline};
use crate::metrics::{ClassSummary, Interval, Summary, decimals, images, percent};

/// Column headings stand upright above a matrix of more classes, or of longer names.
const LEVEL_HEADINGS: usize = 6;
const LEVEL_NAME: usize = 14;

/// The accuracy in large figures, beside it the means over the classes.
pub fn large(split: &str, summary: &Summary) -> Markup {
    headline(Headline {
        name: format!("Accuracy on {split}"),
        figure: percent(summary.accuracy),
        strip: accuracy_strip(summary),
        note: html! {
            @if let Some(i) = &summary.intervals { "95 % interval " (percent_range(i.accuracy)) "; " }
            "chance " (percent(summary.chance)) "; " (images(summary.samples))
        },
        tiles: tiles(summary).into(),
    })
}

fn tiles(summary: &Summary) -> [Tile; 3] {
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
        Tile::new("Macro F1", decimals(summary.macro_f1, 3), f1_note),
        Tile::new("Macro AUC", decimals(summary.macro_auc, 3), auc_note),
        Tile::new("Log loss", decimals(summary.log_loss, 3), format!("nats; equal odds give {chance_loss:.3}")),
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

/// All of it.
pub fn full(summary: &Summary) -> Markup {
    html! {
        (in_a_line(summary))
        div.pair.stacked[has_upright_headings(summary)] {
            div { h3 { "Confusion matrix" } (confusion(summary)) }
            div { h3 { "By class" } (classes(summary)) }
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
