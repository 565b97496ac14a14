//! The operations of the engine, one module each.

pub mod conv;
pub mod depthwise;
