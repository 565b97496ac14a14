//! Gray values to the channels that the networks read.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Per channel: `(v - mean) / std`, with `v` in `[0, 1]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalise {
    /// Subtracted, per channel.
    pub mean: [f32; 3],
    /// Divided by, per channel.
    pub std: [f32; 3],
}

impl Normalise {
    /// Raw `[0, 1]`: for random weights, and for weights pretrained on RadiologyNET.
    pub fn none() -> Self {
        Normalise { mean: [0.0; 3], std: [1.0; 3] }
    }

    /// The statistics of ImageNet, for weights pretrained there.
    pub fn imagenet() -> Self {
        Normalise { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }
    }

    /// Whether all channels are scaled alike, as those of gray images must be that have only one.
    pub fn is_gray(&self) -> bool {
        let alike = |values: [f32; 3]| values.iter().all(|&value| value == values[0]);
        alike(self.mean) && alike(self.std)
    }
}

impl Default for Normalise {
    fn default() -> Self {
        Normalise::none()
    }
}

impl FromStr for Normalise {
    type Err = Error;

    /// A preset by name: `none` or `imagenet`.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "none" => Ok(Normalise::none()),
            "imagenet" => Ok(Normalise::imagenet()),
            _ => Err(Error::unusable(format!("unknown normalisation {name:?}"), "none or imagenet")),
        }
    }
}
