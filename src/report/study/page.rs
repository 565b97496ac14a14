//! The page as a whole: what comes in which order.

use maud::{Markup, html};

use super::{Guideline, Row, Setting, StudyReport, charts, counted, explained, guidelines, tables};
use crate::{
    report::{page::document, sections},
    study::share,
};

/// More runs than this are counted, not listed.
const MOST_LISTED: usize = 50;
/// With fewer seeds the spread of training is hardly known.
const FEW_SEEDS: usize = 5;

/// The page as HTML, complete in itself.
pub fn render(report: &StudyReport) -> String {
    let title = if report.question.is_empty() { "Comparison study" } else { &report.question };
    document(
        title,
        "study report",
        html! {
            (answers(&guidelines(report)))
            (caveats(report))
            (sections::facts(&report.design))
            (tables::results(report))
            (charts::first_epochs(report))
            (charts::fractions(report))
            (tables::areas(report))
            (tables::comparisons(report))
            (explained::explained(report))
            (tables::costs(report))
            (sections::setup(&report.configuration, &report.environment))
        },
    )
}

fn answers(guidelines: &[Guideline]) -> Markup {
    html! {
        @if !guidelines.is_empty() {
            section.answers {
                h2 { "What follows" }
                @for Guideline { claim, evidence } in guidelines {
                    div.answer {
                        p { (claim) }
                        @if !evidence.is_empty() {
                            details open[evidence.len() <= 2] {
                                summary { (counted(evidence.len(), "comparison")) }
                                ul { @for line in evidence { li { (line) } } }
                            }
                        }
                    }
                }
                p.soft {
                    "Computed from the results below; “not decided” means that, and not that there is no difference. Differences of a \
                     metric are the first arm less the other; leads are above 0 where the arm is better. p is corrected, intervals \
                     are not."
                }
            }
        }
    }
}

/// What a reader has to know before believing the rest.
fn caveats(report: &StudyReport) -> Markup {
    let rows = || report.settings.iter().flat_map(|setting| &setting.rows);
    let fewest = |row: &Row| row.arms.iter().map(Vec::len).min().unwrap_or(0);
    let seeds = rows().map(fewest).min().unwrap_or(0);
    let uneven = rows().any(|row| row.arms.iter().any(|runs| runs.len() != fewest(row)));
    let mut warnings = vec![];
    if !report.settings.is_empty() && seeds < FEW_SEEDS {
        warnings.push(format!(
            "The smallest cell has {}; with fewer than {FEW_SEEDS} the spread of training is hardly known, and only large \
             differences can be shown.",
            counted(seeds, "tested run")
        ));
    }
    if uneven {
        warnings.push("Not every arm has the same runs; comparisons use the seeds that both arms have.".into());
    }
    let stuck = report.settings.iter().flat_map(|setting| setting.rows.iter().map(move |row| (setting, row)));
    for (setting, row) in stuck.filter(|(_, row)| all_alike(row)) {
        let place = format!("{}, {}", setting.name(), share(row.fraction));
        warnings
            .push(format!("{place}: all runs of all arms came to the same value. Did the networks learn anything?"));
    }
    warnings.extend(at_the_ends(report));
    warnings.extend(report.settings.iter().flat_map(|setting| stand_still(setting, &report.arms)));
    let missing = report.missing.iter().map(|run| (run.clone(), String::new())).collect();
    let lists = [("failed", report.failed.clone()), ("missing", missing)];
    html! {
        @if !warnings.is_empty() || lists.iter().any(|(_, lines)| !lines.is_empty()) {
            section.warnings {
                h2 { "Before you trust these numbers" }
                ul { @for warning in warnings { li { (warning) } } }
                @for (what, lines) in &lists { (listed(what, lines)) }
            }
        }
    }
}

/// In how many cells the best learning rate is the lowest or highest of three or more, if in any.
fn at_the_ends(report: &StudyReport) -> Option<String> {
    let ends = [f64::min, f64::max].map(|end| report.learning_rates.iter().copied().reduce(end));
    let rates = || report.settings.iter().flat_map(|setting| &setting.rows).flat_map(|row| &row.rates).flatten();
    let ended = rates().filter(|&&rate| ends.contains(&Some(rate))).count();
    (report.learning_rates.len() > 2 && ended > 0).then(|| {
        format!(
            "In {ended} of {} the learning rate that was chosen is the lowest or the highest of those tried, so a better one may lie \
             beyond, for one arm more than for another.",
            counted(rates().count(), "cell")
        )
    })
}

/// Whether several runs of several arms all have one value.
fn all_alike(row: &Row) -> bool {
    let mut values = row.arms.iter().flatten().map(|run| run.value);
    let first = values.next().flatten();
    row.arms.iter().filter(|runs| !runs.is_empty()).count() > 1 && first.is_some() && values.all(|value| value == first)
}

/// Of each arm how many runs begin with looks at validation that all say the same, if any do.
fn stand_still(setting: &Setting, arms: &[String]) -> Vec<String> {
    let warning = |(arm, name): (usize, &String)| {
        let runs = || setting.rows.iter().flat_map(|row| &row.arms[arm]);
        let still =
            runs().filter(|run| matches!(run.curve[..], [Some(first), Some(second), ..] if first == second)).count();
        (still > 0).then(|| {
            format!(
                "{}: in {still} of {} of {name} validation says the same at its first two looks or more, as of a network that \
                 gives one answer whatever it sees. That can be batch norm's running statistics, which have not come near those \
                 of the data yet, so a lead over {name} at first may be no learning.",
                setting.name(),
                counted(runs().count(), "run")
            )
        })
    };
    arms.iter().enumerate().filter_map(warning).collect()
}

fn listed(what: &str, lines: &[(String, String)]) -> Markup {
    html! {
        @if !lines.is_empty() {
            details open[lines.len() <= 5] {
                summary { (counted(lines.len(), "run")) " " (what) }
                table {
                    @for (run, reason) in lines.iter().take(MOST_LISTED) { tr { td { (run) } td { (reason) } } }
                }
                @if lines.len() > MOST_LISTED { p { "and " (lines.len() - MOST_LISTED) " more" } }
            }
        }
    }
}
