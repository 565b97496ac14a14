//! The result of predicting numbers.

use maud::{Markup, html};

use super::{
    sections::{Headline, Tile, headline, short},
    svg::{Axis, Chart, Line},
};
use crate::metrics::{Measured, NumberMetrics, NumberSummary, decimals, images};

/// Samples that are drawn: more are a blot and a large page.
const MOST_DOTS: usize = 1000;

/// The error of the first number in large figures.
pub fn large(split: &str, summary: &NumberSummary) -> Markup {
    let Some(first) = summary.numbers.first() else { return html! {} };
    let [low, high] = first.limits.map(|limit| decimals(limit, 1));
    headline(Headline {
        name: format!("Mean absolute error of {} on {split}", first.name),
        figure: decimals(first.mae.value, 2),
        strip: html! {},
        note: html! {
            (range(&first.mae, 2))
            "always naming the mean gives " (decimals(first.chance, 2)) "; " (images(summary.samples))
        },
        tiles: vec![
            Tile::new("RMSE", decimals(first.rmse.value, 2), "root of the mean squared error"),
            Tile::new("R²", decimals(first.r2.value, 3), "share of the variance explained"),
            Tile::new("Bias", decimals(first.bias, 2), format!("limits of agreement {low} to {high}")),
        ],
    })
}

fn range(measured: &Measured, digits: usize) -> String {
    measured.interval.map_or(String::new(), |i| format!("95 % interval {:.digits$}–{:.digits$}; ", i.low, i.high))
}

/// All of it.
pub fn full(summary: &NumberSummary) -> Markup {
    html! {
        div.wide {
            table.numbers {
                thead {
                    tr {
                        th { "number" } th { "MAE" } th { "95 % interval" } th { "chance" } th { "RMSE" } th { "R²" }
                        th { "bias" } th { "SD" } th { "limits of agreement" }
                    }
                }
                tbody {
                    @for n in &summary.numbers {
                        tr {
                            th scope="row" { (n.name) }
                            td { (decimals(n.mae.value, 2)) }
                            td { (n.mae.interval.map_or(String::new(), |i| format!("{:.2}–{:.2}", i.low, i.high))) }
                            td { (decimals(n.chance, 2)) }
                            td { (decimals(n.rmse.value, 2)) }
                            td { (decimals(n.r2.value, 3)) }
                            td { (decimals(n.bias, 2)) }
                            td { (decimals(n.sd, 2)) }
                            td { (decimals(n.limits[0], 2)) " to " (decimals(n.limits[1], 2)) }
                        }
                    }
                }
            }
        }
        p.soft {
            (images(summary.samples)) ". Chance is the MAE of always naming the mean. Bias is the mean of prediction − truth, the \
            limits of agreement are bias ± 1.96 standard deviations (Bland and Altman 1986)."
        }
        @for number in &summary.numbers {
            @if summary.numbers.len() > 1 { h3 { (number.name) } }
            div.charts { (scatter(number)) (bland_altman(number)) }
        }
    }
}

/// Evenly chosen pairs of truth and prediction.
fn shown(number: &NumberMetrics) -> impl Iterator<Item = &(f64, f64)> {
    number.pairs.iter().step_by(number.pairs.len().div_ceil(MOST_DOTS).max(1))
}

fn scatter(number: &NumberMetrics) -> Markup {
    let truths = || number.pairs.iter().map(|pair| pair.0);
    let ends = [truths().fold(f64::INFINITY, f64::min), truths().fold(f64::NEG_INFINITY, f64::max)];
    Chart {
        title: "Prediction over truth",
        lines: vec![
            Line::dots("images", "validation", shown(number).copied().collect()),
            Line::curve("exact", "rate", ends.map(|end| (end, end)).into()),
        ],
        x: Axis::Number("truth"),
        may_be_log: false,
        label: short,
    }
    .draw()
}

fn bland_altman(number: &NumberMetrics) -> Markup {
    let middle = |&(truth, prediction): &(f64, f64)| ((truth + prediction) / 2.0, prediction - truth);
    let dots: Vec<_> = shown(number).map(middle).collect();
    let xs = || dots.iter().map(|dot| dot.0);
    let ends = [xs().fold(f64::INFINITY, f64::min), xs().fold(f64::NEG_INFINITY, f64::max)];
    let level = |y: f64| ends.map(|x| (x, y)).into();
    Chart {
        title: "Bland–Altman: prediction − truth over their mean",
        lines: vec![
            Line::curve("bias", "train", level(number.bias)),
            Line::curve("limits of agreement", "rate", level(number.limits[0])),
            Line::curve("", "rate", level(number.limits[1])),
            Line::dots("images", "validation", dots),
        ],
        x: Axis::Number("mean of truth and prediction"),
        may_be_log: false,
        label: short,
    }
    .draw()
}
