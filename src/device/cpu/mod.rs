//! The CPU device.

pub mod parallel;
