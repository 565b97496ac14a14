//! What follows from a study, computed from its results: a sentence with its evidence, honest where they decide nothing.

use super::{
    ALPHA, Compared, Part, Row, RunFigures, Setting, StudyReport, counted, p_text, share, signed, signed_range,
};
use crate::statistics::{Mean, holm};

/// A sentence and what it rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Guideline {
    /// What follows.
    pub claim: String,
    /// The numbers behind it, one comparison each.
    pub evidence: Vec<String>,
}

/// A gain of an arm over the baseline in one place.
struct Gain {
    text: String,
    /// Whether the arm is better, worse, or neither is shown.
    verdict: Option<bool>,
    /// How far its interval reaches from 0.
    reach: f64,
}

/// Three guidelines for each arm but the baseline: whether it helps, whether more so with few images, and whether early in training.
/// Then for each arm that was pretrained on a part of what another was, which of them is better.
pub fn guidelines(report: &StudyReport) -> Vec<Guideline> {
    let of_arm = |arm| [helps(report, arm), helps_with_little_data(report, arm), helps_early(report, arm)];
    let of_arms = (1..report.arms.len()).flat_map(of_arm).flatten();
    of_arms.chain(report.parts.iter().filter_map(|part| needs_the_whole(report, part))).collect()
}

/// Every row, with the setting that it belongs to.
fn rows(report: &StudyReport) -> impl Iterator<Item = (&Setting, &Row)> {
    report.settings.iter().flat_map(|setting| setting.rows.iter().map(move |row| (setting, row)))
}

fn helps(report: &StudyReport, arm: usize) -> Option<Guideline> {
    let gains: Vec<Gain> = rows(report)
        .filter_map(|(setting, row)| row.between(arm, 0).map(|compared| tested_gain(setting, row, &compared)))
        .collect();
    let (name, base) = (&report.arms[arm], &report.arms[0]);
    let incomparable: Vec<String> = rows(report)
        .filter(|(_, row)| row.between(arm, 0).is_none() && row.shares_seeds(arm, 0))
        .map(|(setting, row)| {
            format!(
                "{}, {}: not compared, since the {} of one of these runs does not exist, be it on all test images or without \
                 those of one group (a patient, say)",
                setting.name(),
                share(row.fraction),
                setting.metric_name()
            )
        })
        .collect();
    let claim = match verdicts(&gains) {
        (0, 0, 0) if incomparable.is_empty() => {
            format!("Nothing can be said of {name}: no comparison with {base} has tested runs of both.")
        }
        (0, 0, 0) => format!(
            "Nothing can be said of {name}: runs of it and of {base} are tested, but their difference cannot be computed."
        ),
        (0, 0, all) => format!(
            "Whether {name} helps is not decided: in none of {} does it differ significantly from {base}. {}",
            counted(all, "comparison"),
            open_effects(report, &gains)
        ),
        (better, 0, 0) => format!("Start from {name}: it beats {base} in {}.", all_of(better)),
        (better, 0, open) => format!(
            "{name} beats {base} in {better} of {} and is worse in none; elsewhere the difference may be chance.",
            counted(better + open, "comparison")
        ),
        (0, worse, 0) => format!("Do not start from {name}: it is worse than {base} in {}.", all_of(worse)),
        (0, worse, open) => format!(
            "{name} is worse than {base} in {worse} of {} and better in none; elsewhere the difference may be chance.",
            counted(worse + open, "comparison")
        ),
        (better, worse, open) => format!(
            "It depends: {name} beats {base} in {better} of {} and is worse in {worse}.",
            counted(better + worse + open, "comparison")
        ),
    };
    Some(Guideline { claim, evidence: texts(gains).into_iter().chain(incomparable).collect() })
}

/// How large effects may still be.
fn open_effects(report: &StudyReport, gains: &[Gain]) -> String {
    let reach = gains.iter().map(|gain| gain.reach).fold(0.0, f64::max);
    match &report.settings[..] {
        _ if reach == 0.0 => "All of their runs came to the same, which tells nothing.".into(),
        [first, rest @ ..] if rest.iter().all(|setting| setting.metric == first.metric) => format!(
            "The intervals reach up to {reach:.3} in {}, so effects of that size remain possible.",
            first.metric_name()
        ),
        _ => "Effects within the intervals remain possible.".into(),
    }
}

fn helps_with_little_data(report: &StudyReport, arm: usize) -> Option<Guideline> {
    let several: Vec<&Setting> = report.settings.iter().filter(|setting| setting.rows.len() > 1).collect();
    let lead = |setting: &&Setting, seed| {
        let values = |arm| setting.across_rows(arm, seed, |run| run.value);
        let (of, base) = (values(arm)?, values(0)?);
        let gain = |i: usize| of[i].1 - base[i].1;
        Some(setting.sign() * (gain(0) - gain(of.len() - 1)))
    };
    let leads = several.iter().map(|setting| {
        let (least, most) = (setting.rows[0].fraction, setting.rows[setting.rows.len() - 1].fraction);
        let values: Vec<f64> = setting.seeds(arm).filter_map(|seed| lead(setting, seed)).collect();
        let (name, metric) = (setting.name(), setting.metric_name());
        (format!("{name}: its lead in {metric} with {} less that with {}", share(least), share(most)), values)
    });
    let gains = seed_gains(leads.collect());
    let (name, base) = (&report.arms[arm], &report.arms[0]);
    let claim = match verdicts(&gains) {
        (0, 0, 0) => return None,
        (0, 0, _) => format!("It is not decided whether {name} leads {base} by more when images are few."),
        (more, 0, open) => format!(
            "Few images favour {name}: its lead over {base} is larger with the smallest share than with the largest in {}.",
            of_settings(more, more + open)
        ),
        (0, less, open) => format!(
            "Few images do not favour {name}: its lead over {base} is smaller with the smallest share than with the \
             largest in {}.",
            of_settings(less, less + open)
        ),
        (more, less, open) => format!(
            "Whether few images favour {name} depends: with the smallest share its lead over {base} is larger in {}, and \
             smaller in {less}.",
            of_settings(more, more + less + open)
        ),
    };
    Some(Guideline { claim, evidence: texts(gains) })
}

fn helps_early(report: &StudyReport, arm: usize) -> Option<Guideline> {
    let leads = rows(report).map(|(setting, row)| {
        let epochs = row.first_epochs();
        let base = |seed| row.arms[0].iter().find(|run| run.seed == seed)?.first_epochs(epochs);
        let lead = |run: &RunFigures| Some(setting.sign() * (run.first_epochs(epochs)? - base(run.seed)?));
        let (name, metric) = (setting.name(), setting.metric_name());
        let place =
            format!("{name}, {}: lead in {metric} on validation over the first {epochs} epochs", share(row.fraction));
        (place, row.arms[arm].iter().filter_map(lead).collect())
    });
    let gains = seed_gains(leads.collect());
    let (name, base) = (&report.arms[arm], &report.arms[0]);
    let claim = match verdicts(&gains) {
        (0, 0, 0) => return None,
        (0, 0, _) => format!("It is not decided whether {name} learns faster than {base} at first."),
        (faster, 0, open) => format!(
            "With few epochs prefer {name}: over the first of them it is ahead of {base} in {}.",
            of_settings(faster, faster + open)
        ),
        (0, slower, open) => {
            format!("{name} is behind {base} over the first epochs in {}.", of_settings(slower, slower + open))
        }
        (faster, slower, open) => format!(
            "Over the first epochs {name} is ahead of {base} in {}, and behind in {slower}.",
            of_settings(faster, faster + slower + open)
        ),
    };
    Some(Guideline { claim, evidence: texts(gains) })
}

fn needs_the_whole(report: &StudyReport, Part { whole, part, of }: &Part) -> Option<Guideline> {
    let gains: Vec<Gain> = rows(report)
        .filter_map(|(setting, row)| row.between(*whole, *part).map(|compared| tested_gain(setting, row, &compared)))
        .collect();
    let (whole, part) = (&report.arms[*whole], &report.arms[*part]);
    let both = format!("{whole}, pretrained on everything, and {part}, pretrained in the same way on {of} alone");
    let claim = match verdicts(&gains) {
        (0, 0, 0) => return None,
        (0, 0, all) => format!("Of {both}, neither is shown to be better in any of {}.", counted(all, "comparison")),
        (better, worse, open) => format!(
            "Of {both}, the first is better in {better} of {} and worse in {worse}.",
            counted(better + worse + open, "comparison")
        ),
    };
    Some(Guideline { claim, evidence: texts(gains) })
}

/// A comparison by the study's own test.
fn tested_gain(setting: &Setting, row: &Row, compared: &Compared) -> Gain {
    let text = format!(
        "{}, {}: {} {} {}, {}, {}, corrected p {}",
        setting.name(),
        share(row.fraction),
        setting.metric_name(),
        signed(compared.difference),
        signed_range(compared.interval),
        if compared.seeds == 1 { "1 seed and so two networks alone".into() } else { counted(compared.seeds, "seed") },
        counted(row.test_images, "test image"),
        p_text(compared.adjusted)
    );
    let better = setting.sign() * compared.difference > 0.0;
    let reach = compared.interval.low.abs().max(compared.interval.high.abs());
    Gain { text, verdict: compared.significant().then_some(better), reach }
}

/// Mean gains over seeds, tested by Student's t and corrected together. Of one seed there is no test, of none no gain.
fn seed_gains(leads: Vec<(String, Vec<f64>)>) -> Vec<Gain> {
    let means: Vec<(String, Mean)> =
        leads.into_iter().filter_map(|(place, values)| Some((place, Mean::of(&values)?))).collect();
    let adjusted = holm(&means.iter().map(|(_, mean)| mean.p.unwrap_or(1.0)).collect::<Vec<_>>());
    let gain = |((place, mean), p): ((String, Mean), f64)| {
        let n = counted(mean.n, "seed");
        let text = match mean.interval {
            Some(interval) => {
                format!("{place}: {} {}, {n}, corrected p {}", signed(mean.value), signed_range(interval), p_text(p))
            }
            None => format!("{place}: {}, {n}, no interval", signed(mean.value)),
        };
        Gain { text, verdict: (p < ALPHA).then_some(mean.value > 0.0), reach: 0.0 }
    };
    means.into_iter().zip(adjusted).map(gain).collect()
}

/// How many gains are better, worse and open.
fn verdicts(gains: &[Gain]) -> (usize, usize, usize) {
    let count = |verdict| gains.iter().filter(|gain| gain.verdict == verdict).count();
    (count(Some(true)), count(Some(false)), count(None))
}

fn texts(gains: Vec<Gain>) -> Vec<String> {
    gains.into_iter().map(|gain| gain.text).collect()
}

fn all_of(n: usize) -> String {
    if n == 1 { "the one comparison".into() } else { format!("all {n} comparisons") }
}

fn of_settings(n: usize, all: usize) -> String {
    format!("{n} of {}", counted(all, "case"))
}
