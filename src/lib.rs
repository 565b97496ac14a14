//! Convolutional networks on radiology images, with an own tensor engine.

pub mod device;
pub mod error;
pub mod metrics;
pub mod report;
pub mod rng;

pub use error::{Error, Result};
