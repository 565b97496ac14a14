//! Depthwise convolution: one filter per channel.

pub mod cpu;
