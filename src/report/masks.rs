//! The result of drawing masks.

use maud::{Markup, html};

use super::sections::{Headline, Tile, bar_cell, headline};
use crate::metrics::{MaskSummary, decimals, images};

/// Dice in large figures.
pub fn large(split: &str, summary: &MaskSummary) -> Markup {
    let Some(first) = summary.structures.first() else { return html! {} };
    let several = summary.structures.len() > 1;
    let interval = first.dice.interval.filter(|_| !several);
    let interval = interval.map_or(String::new(), |i| format!("95 % interval {:.3}–{:.3}; ", i.low, i.high));
    let of = if several { format!("of {}", first.name) } else { "mean over images".into() };
    headline(Headline {
        name: format!("Dice on {split}"),
        figure: decimals(summary.dice(), 3),
        strip: html! {},
        note: html! { (interval) (images(summary.samples)) },
        tiles: vec![
            Tile::new("Dice where shown", decimals(first.dice_present, 3), format!("{} images", first.present)),
            Tile::new("IoU", decimals(first.iou.value, 3), of.clone()),
            Tile::new("HD95", decimals(first.hd95, 2), format!("pixels, {of}")),
        ],
    })
}

/// All of it.
pub fn full(summary: &MaskSummary) -> Markup {
    html! {
        div.wide {
            table.numbers {
                thead {
                    tr {
                        th { "structure" } th { "shown in" } th { "Dice" } th { "95 % interval" } th { "Dice where shown" }
                        th { "IoU" } th { "HD95" } th { "no HD95" } th { "rightly empty" }
                    }
                }
                tbody {
                    @for s in &summary.structures {
                        tr {
                            th scope="row" { (s.name) }
                            td { (s.present) }
                            (bar_cell(Some(s.dice.value)))
                            td { (s.dice.interval.map_or(String::new(), |i| format!("{:.3}–{:.3}", i.low, i.high))) }
                            (bar_cell(Some(s.dice_present)))
                            (bar_cell(Some(s.iou.value)))
                            td { (decimals(s.hd95, 2)) }
                            td { (s.without_hd95) }
                            td { (s.rightly_empty) }
                        }
                    }
                }
            }
        }
        p.soft {
            (images(summary.samples)) ", at the size that the network sees. Where neither mask has a pixel, Dice and IoU are 1 and \
            HD95 is 0; where only one has, Dice and IoU are 0 and there is no HD95, the 95th percentile of the distances \
            between the edges in pixels."
        }
    }
}
