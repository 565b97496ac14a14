//! The learning rate as a function of the step.

use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// The course of the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Course {
    /// The same rate throughout.
    Constant,
    /// Half a cosine from the rate down to the least rate (Loshchilov and Hutter 2017).
    Cosine,
    /// Up from a 25th of the rate and down to a 10 000th of that, both along cosines (Smith and Topin 2019; PyTorch's
    /// `OneCycleLR` with its defaults). The rise is its warm-up.
    OneCycle,
}

/// Share of the steps in which one-cycle rises.
const RISE: f64 = 0.3;
/// One-cycle starts at the rate over this.
const START_DIVISOR: f64 = 25.0;
/// One-cycle ends at its start over this.
const END_DIVISOR: f64 = 1e4;

/// A learning rate for every step of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Its course.
    pub course: Course,
    /// The highest rate.
    pub rate: f64,
    /// Rate at the end of a cosine.
    pub least: f64,
    /// Steps of the run.
    pub total: u64,
    /// Steps of linear warm-up before a constant or cosine course: step `t` of `w` has (t + 1) / w of the rate.
    pub warmup: u64,
}

impl Schedule {
    /// The rate of step `step`, from 0.
    pub fn at(&self, step: u64) -> f64 {
        let (t, total, warmup) = (step as f64, self.total as f64, self.warmup as f64);
        match self.course {
            Course::OneCycle => self.one_cycle(t, total),
            _ if step < self.warmup => self.rate * (t + 1.0) / warmup,
            Course::Constant => self.rate,
            Course::Cosine => anneal(self.rate, self.least, ((t - warmup) / (total - warmup)).min(1.0)),
        }
    }

    fn one_cycle(&self, t: f64, total: f64) -> f64 {
        let (start, peak) = (self.rate / START_DIVISOR, RISE * total - 1.0);
        if t <= peak {
            // A rise of a single step is at the top at once.
            anneal(start, self.rate, if peak > 0.0 { t / peak } else { 1.0 })
        } else {
            anneal(self.rate, start / END_DIVISOR, ((t - peak) / (total - 1.0 - peak)).min(1.0))
        }
    }
}

/// From `from` to `to` along half a cosine, at share `f` of the way.
fn anneal(from: f64, to: f64, f: f64) -> f64 {
    to + (from - to) / 2.0 * (1.0 + (PI * f).cos())
}
