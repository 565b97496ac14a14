//! Curves of the arms, with the spread over the seeds.

use maud::{Markup, html};

use super::{Row, Setting, StudyReport, share};
use crate::{
    report::{
        sections::short,
        svg::{Axis, Chart, Line},
    },
    statistics::Mean,
};

/// Colours of the style sheet for arms; with more arms they come again.
const STYLES: [&str; 6] = ["arm-0", "arm-1", "arm-2", "arm-3", "arm-4", "arm-5"];

/// The beginning of training, on validation: a chart for each setting and share of the images.
pub fn first_epochs(report: &StudyReport) -> Markup {
    let chart = |row: &Row| {
        let epochs = row.first_epochs();
        let line = |arm: usize| {
            let at = |epoch: usize| {
                let values = row.arms[arm].iter().filter_map(|run| run.curve[epoch]);
                (epoch as f64 + 1.0, values.collect::<Vec<f64>>())
            };
            with_band(&report.arms[arm], arm, (0..epochs).map(at))
        };
        let title = format!("{} of the images", share(row.fraction));
        let lines = (0..report.arms.len()).map(line).collect();
        Chart { title: &title, lines, x: Axis::Epochs { best: None }, may_be_log: false, label: short }.draw()
    };
    let of_setting = |setting: &Setting| {
        let charts: Vec<Markup> = setting.rows.iter().filter(|row| row.first_epochs() > 1).map(chart).collect();
        html! {
            @if shown(&charts) {
                h3 { (setting.name()) ": " (setting.metric_name()) }
                div.charts { @for chart in &charts { (chart) } }
            }
        }
    };
    section(
        "The first epochs",
        "On the validation split after each epoch: mean over the seeds, and one standard deviation to either side.",
        report.settings.iter().map(of_setting).collect(),
    )
}

/// Performance on the test split against the share of the training images: a chart for each setting.
pub fn fractions(report: &StudyReport) -> Markup {
    let chart = |setting: &Setting| {
        let line = |arm: usize| {
            let at = |row: &Row| (row.fraction, row.arms[arm].iter().filter_map(|run| run.value).collect::<Vec<f64>>());
            with_band(&report.arms[arm], arm, setting.rows.iter().map(at))
        };
        let title = format!("{}: {}", setting.name(), setting.metric_name());
        let ticks = setting.rows.iter().map(|row| row.fraction).collect();
        let lines = (0..report.arms.len()).map(line).collect();
        Chart { title: &title, lines, x: Axis::Shares(ticks), may_be_log: false, label: short }.draw()
    };
    let several = report.settings.iter().filter(|setting| setting.rows.len() > 1);
    section(
        "Against the number of training images",
        "On the test split, at the learning rate chosen on validation: mean over the seeds, and one standard deviation to \
         either side.",
        vec![html! { div.charts { @for setting in several { (chart(setting)) } } }],
    )
}

/// The means of `points` (x, values), and a standard deviation to either side.
fn with_band<'a>(arm_name: &'a str, arm: usize, points: impl Iterator<Item = (f64, Vec<f64>)>) -> Line<'a> {
    let means: Vec<(f64, Option<Mean>)> = points.map(|(x, values)| (x, Mean::of(&values))).collect();
    let band = means.iter().filter_map(|&(x, mean)| {
        let Mean { value, sd, .. } = mean?;
        Some((x, value - sd?, value + sd?))
    });
    let curve = means.iter().map(|&(x, mean)| (x, mean.map_or(f64::NAN, |mean| mean.value))).collect();
    Line { band: band.collect(), ..Line::curve(arm_name, STYLES[arm % STYLES.len()], curve) }
}

fn section(heading: &str, note: &str, parts: Vec<Markup>) -> Markup {
    html! {
        @if shown(&parts) {
            section {
                h2 { (heading) }
                p.soft.lead { (note) }
                @for part in parts { (part) }
            }
        }
    }
}

/// Whether one of `parts` has a chart.
fn shown(parts: &[Markup]) -> bool {
    parts.iter().any(|part| part.0.contains("<svg"))
}
