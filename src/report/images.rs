//! The result of reconstructing images.

use maud::{Markup, html};

use super::sections::{Headline, Tile, headline};
use crate::metrics::{ImageSummary, decimals, images};

/// The absolute error in large figures.
pub fn large(split: &str, summary: &ImageSummary) -> Markup {
    let interval = summary.mae.interval;
    let interval = interval.map_or(String::new(), |i| format!("95 % interval {:.4}–{:.4}; ", i.low, i.high));
    headline(Headline {
        name: format!("Mean absolute error on {split}"),
        figure: decimals(summary.mae.value, 4),
        strip: html! {},
        note: html! { (interval) (images(summary.samples)) },
        tiles: vec![
            Tile::new("RMSE", decimals(summary.rmse.value, 4), "over all pixels"),
            Tile::new("PSNR", decimals(summary.psnr.value, 1), "dB, for intensities from 0 to 1"),
        ],
    })
}

/// What they mean.
pub fn full() -> Markup {
    html! { p.soft { "Errors between the network's input and its output, over all pixels, in the units of the input." } }
}
