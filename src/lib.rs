//! Convolutional networks on radiology images, with an own tensor engine.

pub mod device;
pub mod error;
pub mod models;
pub mod nn;
pub mod ops;
pub mod rng;
pub mod shape;
pub mod tape;
pub mod tensor;

pub use error::{Error, Result};
