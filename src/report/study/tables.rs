//! The numbers of a study.

use maud::{Markup, html};

use super::{Compared, Cost, Row, RunFigures, Setting, StudyReport, counted, p_text, share, signed, signed_range};
use crate::{
    metrics::{DASH, decimals},
    statistics::{Interval, Mean, effects::cohens_dz},
};

/// Task × backbone × share of the images × arm: mean over the seeds, its interval, and how it stands to the baseline.
pub fn results(report: &StudyReport) -> Markup {
    html! {
        @if !report.settings.is_empty() {
            section {
                h2 { "Results on test" }
                div.wide {
                    table.numbers.study {
                        (head(report, "training images"))
                        @for setting in &report.settings {
                            tbody {
                                @for (i, row) in setting.rows.iter().enumerate() {
                                    tr {
                                        @if i == 0 {
                                            th scope="rowgroup" rowspan=(setting.rows.len()) {
                                                (setting.name()) small { (setting.metric_name()) (direction(setting)) }
                                            }
                                        }
                                        td { (share(row.fraction)) }
                                        @for arm in 0..report.arms.len() { (result_cell(report, setting, row, arm)) }
                                    }
                                }
                            }
                        }
                    }
                }
                p.soft {
                    "Mean over the seeds with the 95 % interval of the mean (Student's t), which with few seeds may reach beyond \
                     what the metric can be; below it the difference from "
                    (report.arms[0]) " with its 95 % interval. The best mean of a row is bold. * marks a difference that is \
                     significant at 5 %. " (report.test)
                }
            }
        }
    }
}

/// Heads of a table with a column for each arm.
fn head(report: &StudyReport, second: &str) -> Markup {
    html! {
        thead { tr { th { "task, network" } th { (second) } @for arm in &report.arms { th { (arm) } } } }
    }
}

fn direction(setting: &Setting) -> &'static str {
    if setting.higher_is_better { "" } else { ", less is better" }
}

fn result_cell(report: &StudyReport, setting: &Setting, row: &Row, arm: usize) -> Markup {
    let Some(mean) = row.mean(arm) else { return html! { td { (DASH) small { "no tested run" } } } };
    let gain = |arm: usize| row.mean(arm).map(|mean| setting.sign() * mean.value);
    let best = (0..row.arms.len()).filter_map(gain).fold(f64::NEG_INFINITY, f64::max);
    let rate = row.rates.get(arm).copied().flatten().filter(|_| report.learning_rates.len() > 1);
    html! {
        td.best[gain(arm) == Some(best)] {
            span.value { (decimals(mean.value, 3)) }
            small { @match mean.interval { Some(i) => (range(i)), None => (counted(mean.n, "seed")) } }
            @if let Some(compared) = row.between(arm, 0) {
                small.difference {
                    (signed(compared.difference)) @if compared.significant() { b { "*" } } " " (signed_range(compared.interval))
                }
            }
            @if let Some(rate) = rate { small { "lr " (format!("{rate:?}")) } }
        }
    }
}

/// `(0.780 to 0.844)`.
fn range(interval: Interval) -> String {
    format!("({:.3} to {:.3})", interval.low, interval.high).replace('-', "−")
}

/// Every pair of arms.
pub fn comparisons(report: &StudyReport) -> Markup {
    let all: Vec<(&Setting, &Row, &Compared)> = (report.settings.iter())
        .flat_map(|setting| setting.rows.iter().map(move |row| (setting, row)))
        .flat_map(|(setting, row)| row.comparisons.iter().map(move |compared| (setting, row, compared)))
        .collect();
    html! {
        @if !all.is_empty() {
            section {
                h2 { "Arm against arm" }
                div.wide {
                    table.numbers.study.pairs {
                        thead {
                            tr {
                                th { "task, network" } th { "training images" } th { "arms" } th { "difference" } th { "95 % interval" }
                                th { "p" } th { "p, corrected" } th { "d" sub { "z" } } th { "seeds" } th { "test images" }
                            }
                        }
                        tbody {
                            @for (setting, row, compared) in all {
                                tr.best[compared.significant()] {
                                    th scope="row" { (setting.name()) small { (setting.metric_name()) (direction(setting)) } }
                                    td { (share(row.fraction)) }
                                    td { (report.arms[compared.of]) " − " (report.arms[compared.against]) }
                                    td { (signed(compared.difference)) }
                                    td { (signed_range(compared.interval)) }
                                    td { (p_text(compared.p)) }
                                    td { (p_text(compared.adjusted)) }
                                    td { (effect(row, compared)) }
                                    td { (compared.seeds) }
                                    td { (row.test_images) }
                                }
                            }
                        }
                    }
                }
                p.soft {
                    "Differences are the first arm less the second, tested as above. p is corrected, intervals are not: one may \
                     leave out 0 where the corrected p says that this can be chance. d" sub { "z" } " is the mean difference over \
                     the seeds in their standard deviations (Cohen), with an approximate 95 % interval. Significant rows are bold."
                }
            }
        }
    }
}

fn effect(row: &Row, compared: &Compared) -> String {
    let Some(effect) = cohens_dz(&row.paired(compared.of, compared.against)) else { return DASH.into() };
    let interval =
        effect.interval.map_or(String::new(), |i| format!(" ({:.1} to {:.1})", i.low, i.high).replace('-', "−"));
    format!("{:.1}{interval}", effect.value).replace('-', "−")
}

/// Areas under the curves: over the shares of the images on test, and over the first epochs on validation.
pub fn areas(report: &StudyReport) -> Markup {
    let over_fractions = report.settings.iter().filter(|setting| setting.rows.len() > 1).map(|setting| {
        let of = |arm| setting.areas_over_fractions(arm).into_iter().map(|(_, area)| area).collect();
        (setting, "all shares, on test".to_string(), (0..report.arms.len()).map(of).collect::<Vec<Vec<f64>>>())
    });
    let over_epochs = report.settings.iter().flat_map(|setting| setting.rows.iter().map(move |row| (setting, row)));
    let over_epochs = over_epochs.filter(|(_, row)| row.first_epochs() > 1).map(|(setting, row)| {
        let epochs = row.first_epochs();
        let of = |runs: &Vec<RunFigures>| runs.iter().filter_map(|run| run.first_epochs(epochs)).collect();
        let what = format!("{}, epochs 1 to {epochs}, on validation", share(row.fraction));
        (setting, what, row.arms.iter().map(of).collect::<Vec<Vec<f64>>>())
    });
    let lines: Vec<_> = over_fractions.chain(over_epochs).collect();
    html! {
        @if !lines.is_empty() {
            section {
                h2 { "Area under the learning curve" }
                div.wide {
                    table.numbers.study {
                        (head(report, "over"))
                        tbody {
                            @for (setting, what, arms) in &lines {
                                tr {
                                    th scope="row" { (setting.name()) small { (setting.metric_name()) } }
                                    td { (what) }
                                    @for values in arms { (mean_cell(Mean::of(values))) }
                                }
                            }
                        }
                    }
                }
                p.soft {
                    "The area divided by its width, so a mean of the metric: over the logarithm of the share of the training images \
                     (each doubling counts the same), or over the first epochs that all runs have. Trapezoids; mean over the seeds \
                     with its 95 % interval."
                }
            }
        }
    }
}

fn mean_cell(mean: Option<Mean>) -> Markup {
    html! {
        td {
            @match mean {
                None => (DASH),
                Some(mean) => {
                    span.value { (decimals(mean.value, 3)) }
                    @if let Some(i) = mean.interval { small { (range(i)) } }
                }
            }
        }
    }
}

/// Time and energy of a run by arm, and of the pretrainings.
pub fn costs(report: &StudyReport) -> Markup {
    let rows = || report.settings.iter().flat_map(|setting| setting.rows.iter().map(move |row| (setting, row)));
    let runs = || rows().flat_map(|(_, row)| row.arms.iter().flatten());
    let mean = |of: Option<Vec<f64>>| Mean::of(&of.unwrap_or_default()).map(|mean| mean.value);
    let seconds = |runs: &[RunFigures]| mean(Some(runs.iter().map(|run| run.cost.seconds).collect()));
    let joules = |runs: &[RunFigures]| mean(runs.iter().map(|run| run.cost.joules).collect());
    html! {
        @if runs().next().is_some() {
            section {
                h2 { "Time and energy" }
                div.wide {
                    table.numbers.study {
                        (head(report, "training images"))
                        tbody {
                            @for (setting, row) in rows() {
                                tr {
                                    th scope="row" { (setting.name()) }
                                    td { (share(row.fraction)) }
                                    @for runs in &row.arms {
                                        td {
                                            (seconds(runs).map_or(DASH.into(), duration))
                                            @if let Some(joules) = joules(runs) { small { (energy(joules)) } }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
                p.soft {
                    "Wall time of training and validation, mean over the tested runs."
                    @for (name, Cost { seconds, joules }) in &report.pretrainings {
                        " Pretraining " (name) ": " (duration(*seconds))
                        @if let Some(joules) = joules { ", " (energy(*joules)) }
                        "."
                    }
                    @if runs().any(|run| run.cost.joules.is_some()) {
                        " Energy is that of the whole device by its own counter, in the same time, whoever else used it."
                    } @else {
                        " Energy is not known: the device has no counter that could be read."
                    }
                }
            }
        }
    }
}

/// Seconds, minutes or hours.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// Joules, kilojoules or kilowatt hours.
fn energy(joules: f64) -> String {
    match joules {
        j if j < 1e3 => format!("{j:.0} J"),
        j if j < 36e4 => format!("{:.1} kJ", j / 1e3),
        j => format!("{:.1} kWh", j / 36e5),
    }
}
