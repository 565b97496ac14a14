//! What images and activations are stored in.

use crate::{
    Error, Result,
    device::{DType, Device},
};
use serde::{Deserialize, Serialize};

/// The type that images, activations and the filters of convolutions are stored in. Sums, statistics, losses and the
/// values that the optimiser moves are kept in single precision in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// bfloat16, on a GPU.
    Bf16,
    /// Half precision with a loss scale that adapts, on a GPU.
    F16,
    /// Single precision.
    F32,
}

impl Precision {
    /// The type of images.
    pub fn dtype(self) -> DType {
        match self {
            Precision::Bf16 => DType::BF16,
            Precision::F16 => DType::F16,
            Precision::F32 => DType::F32,
        }
    }

    /// What `asked` for means on `device`; its best if nothing was.
    ///
    /// # Errors
    /// A type that the device does not compute in.
    pub fn resolve(asked: Option<Precision>, device: &dyn Device) -> Result<Precision> {
        let all = [Precision::Bf16, Precision::F16, Precision::F32];
        let best = device.precisions()[0];
        let precision = asked.or_else(|| all.into_iter().find(|p| p.dtype() == best)).unwrap_or(Precision::F32);
        if device.precisions().contains(&precision.dtype()) {
            return Ok(precision);
        }
        let problem = format!("{} does not compute in {}", device.name(), precision.dtype().suffix());
        Err(Error::unusable(problem, "--precision f32 for a new run, or --device cuda"))
    }
}
