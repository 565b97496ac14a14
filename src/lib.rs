//! Convolutional networks on radiology images, with an own tensor engine.
//!
//! From the machine upwards: [`device`] is memory and named kernels; [`tensor`], [`tape`] and [`ops`] compute and
//! differentiate; [`nn`] and [`models`] are networks over named parameters, which [`trace`] looks into; [`data`] turns
//! files into batches;
//! [`metrics`] and [`report`] say how well it went, [`statistics`] what of it is chance; [`study`] compares many runs.

pub mod cli;
pub mod data;
pub mod device;
pub mod error;
pub mod files;
pub mod metrics;
pub mod models;
pub mod nn;
pub mod ops;
pub mod report;
pub mod rng;
pub mod sample;
pub mod shape;
pub mod statistics;
pub mod study;
pub mod tape;
pub mod task;
pub mod tensor;
pub mod trace;
pub mod train;
pub mod weights;

pub use error::{Error, Result};
