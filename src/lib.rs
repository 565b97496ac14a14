//! Convolutional networks on radiology images, with an own tensor engine.

pub mod data;
pub mod device;
pub mod error;
pub mod files;
pub mod rng;

pub use error::{Error, Result};
