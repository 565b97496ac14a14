//! The result of yes-or-no answers.

use maud::{Markup, html};

use super::{
    sections::{Headline, Tile, bar_cell, headline, short},
    svg::{Axis, Chart, Line},
};
use crate::metrics::{LabelMetrics, LabelSummary, calibration::BINS, decimals, images, percent};

/// Points of an ROC curve that are drawn.
const ROC_POINTS: usize = 200;
/// Labels whose curves are drawn; the table has all.
const MOST_CURVES: usize = 12;

/// The area under the ROC curve in large figures.
pub fn large(split: &str, summary: &LabelSummary) -> Markup {
    let interval = match &summary.labels[..] {
        [only] => only.auc_interval.map(|i| format!("95 % interval {:.3}–{:.3}; ", i.low, i.high)),
        _ => Some("mean over labels; ".into()),
    };
    let precision = decimals(summary.macro_average_precision, 3);
    let precision = Tile::new("Average precision", precision, "area under precision over recall");
    let tiles = match &summary.labels[..] {
        [only] => {
            let at = format!("threshold {}", decimals(only.threshold, 3));
            let share = |name, share| Tile::new(name, percent(share), at.clone());
            vec![share("Sensitivity", only.sensitivity), share("Specificity", only.specificity), precision]
        }
        _ => vec![precision, Tile::new("Log loss", decimals(summary.log_loss, 3), "nats; even odds give 0.693")],
    };
    headline(Headline {
        name: format!("AUC on {split}"),
        figure: decimals(summary.macro_auc, 3),
        strip: html! {},
        note: html! { (interval.unwrap_or_default()) "chance 0.5; " (images(summary.samples)) },
        tiles,
    })
}

/// All of it.
pub fn full(summary: &LabelSummary) -> Markup {
    html! {
        p.line {
            "AUC " b { (decimals(summary.macro_auc, 3)) }
            ", average precision " b { (decimals(summary.macro_average_precision, 3)) }
            ", accuracy " b { (percent(summary.accuracy)) }
            ", log loss " b { (decimals(summary.log_loss, 3)) }
            ", " (images(summary.samples))
        }
        (table(&summary.labels))
        @for label in summary.labels.iter().take(MOST_CURVES) {
            @if summary.labels.len() > 1 { h3 { (label.name) } }
            div.charts { (roc(label)) (reliability(label)) }
        }
    }
}

fn table(labels: &[LabelMetrics]) -> Markup {
    html! {
        div.wide {
            table.numbers {
                thead {
                    tr {
                        th { "label" } th { "positive" } th { "AUC" } th { "95 % interval" } th { "AP" } th { "threshold" }
                        th { "sensitivity" } th { "specificity" } th { "precision" } th { "F1" } th { "ECE" }
                    }
                }
                tbody {
                    @for l in labels {
                        tr {
                            th scope="row" { (l.name) }
                            td { (l.positives) }
                            (bar_cell(l.auc))
                            td { (l.auc_interval.map_or(String::new(), |i| format!("{:.3}–{:.3}", i.low, i.high))) }
                            (bar_cell(l.average_precision))
                            td { (decimals(l.threshold, 3)) }
                            @for share in [l.sensitivity, l.specificity, l.precision, l.f1] { (bar_cell(Some(share))) }
                            td { (decimals(l.ece, 3)) }
                        }
                    }
                }
            }
        }
        p.soft {
            "A label is predicted from its threshold on: the one with the highest sensitivity + specificity on the validation \
             split, 0.5 without one. ECE is the mean distance of probability and observed share over " (BINS)
            " bins of equal width. Shares of nothing count as 0."
        }
    }
}

fn roc(label: &LabelMetrics) -> Markup {
    let points: Vec<_> = label.roc.iter().map(|p| (p.false_positive_rate, p.true_positive_rate)).collect();
    if points.is_empty() {
        return html! {};
    }
    let stride = points.len().div_ceil(ROC_POINTS);
    let thinned = points.iter().enumerate().filter(|(i, _)| i % stride == 0 || i + 1 == points.len());
    let curve = std::iter::once((0.0, 0.0)).chain(thinned.map(|(_, &p)| p)).collect();
    let chosen = (1.0 - label.specificity, label.sensitivity);
    Chart {
        title: "ROC: sensitivity over 1 − specificity",
        lines: vec![
            Line::curve("this network", "validation", curve),
            Line::curve("chance", "rate", vec![(0.0, 0.0), (1.0, 1.0)]),
            Line::dots("threshold", "f1", vec![chosen]),
        ],
        x: Axis::Number("1 − specificity"),
        may_be_log: false,
        label: short,
    }
    .draw()
}

fn reliability(label: &LabelMetrics) -> Markup {
    let filled = label.reliability.iter().filter(|bin| bin.samples > 0);
    Chart {
        title: "Reliability: observed share over probability",
        lines: vec![
            Line::curve("this network", "validation", filled.map(|bin| (bin.predicted, bin.observed)).collect()),
            Line::curve("calibrated", "rate", vec![(0.0, 0.0), (1.0, 1.0)]),
        ],
        x: Axis::Number("predicted probability"),
        may_be_log: false,
        label: short,
    }
    .draw()
}
