//! The page as a whole: what comes in which order.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Report, sections};

/// The page as HTML, complete in itself.
pub fn render(report: &Report) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (report.title) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body { main { (body(report)) } }
        }
    };
    page.into_string()
}

fn body(report: &Report) -> Markup {
    html! {
        header {
            p.brand { "roentgen" span.soft { " training report" } }
            h1 { (report.title) }
        }
        @if let Some(evaluation) = report.evaluations.first() { (sections::large(evaluation)) }
        (sections::facts(&report.facts))
        (sections::warnings(&report.warnings, &report.skipped))
        (sections::learning(report))
        @for evaluation in &report.evaluations { (sections::evaluation(evaluation)) }
        (sections::data(&report.data))
        (sections::setup(&report.configuration, &report.environment))
        footer {
            "Made by roentgen " (env!("CARGO_PKG_VERSION")) ". For research; not a medical device, not for diagnosis."
        }
    }
}
