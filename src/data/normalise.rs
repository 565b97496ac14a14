//! Gray values to the channels that the networks read.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Per channel: `(v - mean) / std`, with `v` in `[0, 1]`. Read from both, or from the name of a preset.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Given")]
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

    /// The statistics of ImageNet, for torchvision's weights pretrained there.
    pub fn imagenet() -> Self {
        Normalise { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }
    }

    /// The preset `name` for `model`: `none` or `imagenet`, which is as the weights of torchvision that are pretrained there want
    /// it. Those of InceptionV3 come from a network that was trained on intensities from -1 to 1 (its `transform_input`).
    ///
    /// # Errors
    /// Another name.
    pub fn preset(name: &str, model: &str) -> Result<Self> {
        match name {
            "none" => Ok(Normalise::none()),
            "imagenet" if model.contains("inception") => Ok(Normalise { mean: [0.5; 3], std: [0.5; 3] }),
            "imagenet" => Ok(Normalise::imagenet()),
            _ => Err(Error::unusable(format!("unknown normalisation {name:?}"), "none or imagenet")),
        }
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

/// As a recipe gives it. What it is for its network [`crate::train::Config::layered`] finds out.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields, expecting = "\"none\", \"imagenet\", or mean and std of three channels")]
enum Given {
    Preset(String),
    Values { mean: [f32; 3], std: [f32; 3] },
}

impl TryFrom<Given> for Normalise {
    type Error = String;

    fn try_from(given: Given) -> std::result::Result<Self, String> {
        match given {
            Given::Preset(name) => Normalise::preset(&name, "").map_err(|e| e.to_string()),
            Given::Values { mean, std } => Ok(Normalise { mean, std }),
        }
    }
}
