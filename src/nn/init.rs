//! Initial values, as torchvision draws them.

use crate::rng::Rng;

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// The same value everywhere.
    Constant(f32),
    /// Normal with mean 0 and this standard deviation.
    Normal(f32),
    /// Uniform in ±bound.
    Uniform(f32),
}

impl Init {
    /// Kaiming normal for ReLU (He et al. 2015), from the fan-in or the fan-out: σ = √(2 / fan).
    pub fn kaiming(fan: usize) -> Init {
        Init::Normal((2.0 / fan as f64).sqrt() as f32)
    }

    /// PyTorch's default for linear layers, weight and bias: uniform in ±1/√fan_in.
    pub fn linear(fan_in: usize) -> Init {
        Init::Uniform((1.0 / fan_in as f64).sqrt() as f32)
    }

    /// `n` values.
    pub fn values(self, n: usize, rng: &mut Rng) -> Vec<f32> {
        match self {
            Init::Constant(x) => vec![x; n],
            Init::Normal(sigma) => (0..n).map(|_| sigma * rng.normal()).collect(),
            Init::Uniform(bound) => (0..n).map(|_| rng.range(-bound, bound)).collect(),
        }
    }
}
