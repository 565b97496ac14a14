//! The CPU device.

pub mod block;
pub mod lanes;
pub mod parallel;
pub mod scratch;
pub mod tile;
