//! The whole interface between the engine and a machine: memory, and named kernels.

pub mod cpu;
mod real;

pub use real::Real;
