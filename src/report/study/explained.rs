//! What the arms see, side by side.

use maud::{Markup, html};

use super::{Explained, StudyReport};
use crate::report::sections::worst_case;

/// For each setting a column a test image: as it is, and under the Grad-CAM of each arm.
pub fn explained(report: &StudyReport) -> Markup {
    html! {
        @if !report.explained.is_empty() || report.unexplained.is_some() {
            section {
                h2 { "What the arms see" }
                p.soft.lead {
                    "Grad-CAM: where in the first test image of each class the network sees the evidence for that class, on the \
                     grid of its last feature map; each picture up to its own maximum. Such maps show where a network looks, not why."
                }
                @if let Some(reason) = &report.unexplained { p { "Not shown: " (reason) } }
                @for setting in &report.explained { (of_setting(report, setting)) }
            }
        }
    }
}

fn of_setting(report: &StudyReport, setting: &Explained) -> Markup {
    html! {
        h3 { (setting.setting) }
        div.wide {
            table.explained {
                thead { tr { th {} @for class in &setting.classes { th { (class) } } } }
                tbody {
                    tr {
                        th scope="row" { "image" }
                        @for picture in &setting.pictures {
                            td.case { img src=(picture.data_uri()) width=(picture.width) height=(picture.height) alt=""; }
                        }
                    }
                    @for (arm, cases) in report.arms.iter().zip(&setting.arms) {
                        tr {
                            th scope="row" { (arm) }
                            @for case in cases { td { (worst_case(case)) } }
                        }
                    }
                }
            }
        }
    }
}
