//! The page as a whole: what comes in which order.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Report, sections};

/// The page as HTML, complete in itself.
pub fn render(report: &Report) -> String {
    document(&report.title, "training report", body(report))
}

/// A page of this title and kind around its sections.
pub fn document(title: &str, kind: &str, sections: Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                main {
                    header {
                        p.brand { "roentgen" span.soft { " " (kind) } }
                        h1 { (title) }
                    }
                    (sections)
                    footer {
                        "Made by roentgen " (env!("CARGO_PKG_VERSION"))
                        ". For research; not a medical device, not for diagnosis."
                    }
                }
            }
        }
    };
    page.into_string()
}

fn body(report: &Report) -> Markup {
    html! {
        @if let Some(evaluation) = report.evaluations.first() { (sections::large(evaluation)) }
        (sections::facts(&report.facts))
        (sections::warnings(&report.warnings, &report.skipped))
        (sections::learning(report))
        @for evaluation in &report.evaluations { (sections::evaluation(evaluation)) }
        (sections::data(&report.data))
        (sections::setup(&report.configuration, &report.environment))
    }
}
