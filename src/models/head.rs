//! What turns the last feature map of a backbone into scores.

use crate::{
    nn::{Builder, Init, Pass, layers::Linear},
    ops::{activation::Act, elementwise::activate, pool::global_avg_pool},
    tensor::Tensor,
};

/// From a feature map `[n, h, w, c]` to scores `[n, outputs]`.
pub trait Head: Send + Sync {
    /// The scores.
    fn scores(&self, pass: &Pass, map: &Tensor) -> Tensor;
}

/// Global average pooling, a hidden layer where there is one, dropout, linear layer.
pub struct Pooled {
    pub hidden: Option<(Linear, Act)>,
    pub dropout: f32,
    pub linear: Linear,
}

impl Pooled {
    /// Without hidden layer and dropout, the linear layer called `name` and initialised as PyTorch does.
    pub fn linear(b: &mut Builder, name: &str, features: usize, outputs: usize) -> Pooled {
        let init = Init::linear(features);
        Pooled { hidden: None, dropout: 0.0, linear: Linear::new(b, name, (features, outputs), init, init) }
    }
}

impl Head for Pooled {
    fn scores(&self, pass: &Pass, map: &Tensor) -> Tensor {
        let x = global_avg_pool(map);
        let x = match &self.hidden {
            Some((hidden, act)) => activate(&hidden.forward(pass, &x), *act),
            None => x,
        };
        let x = if self.dropout > 0.0 { pass.dropout(&x, self.dropout) } else { x };
        self.linear.forward(pass, &x)
    }
}
