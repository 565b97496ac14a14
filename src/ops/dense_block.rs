//! Dense blocks (Huang et al. 2017): each layer reads the channels of all layers before it and adds some of its own.
//!
//! They grow in one buffer, so nothing is copied twice and no layer keeps an input of its own; the gradients flow back
//! through one buffer too, to which each layer adds. A channel is the same for all that read it, so its statistics are
//! taken once, when it is written.

use super::{
    Case, Spec,
    activation::Act,
    conv::{Moments, conv2d_with_moments},
    norm::{BatchNorm, case_norm, channel_moments, normalise_first},
    slice::{channels, concat, put},
};
use crate::{
    shape::{Window, nhwc},
    tensor::Tensor,
};

/// A dense block under construction.
pub struct DenseBlock {
    /// `[n, h, w, c]`, of which the first `filled` are written.
    buffer: Tensor,
    /// Of all `c` channels, as far as they are written.
    moments: Option<Moments>,
    filled: usize,
}

impl DenseBlock {
    /// A block of `c` channels that begins with those of x `[n, h, w, _]`. `moments` are kept for normalisations with the
    /// statistics of the batch.
    #[track_caller]
    pub fn new(x: &Tensor, c: usize, moments: bool) -> DenseBlock {
        let [n, h, w, _] = nhwc(x.shape(), "dense block");
        let first = moments.then(|| channel_moments(x));
        let moments = first.as_ref().map(|Moments { parts, rows }| Moments {
            parts: parts.empty(&[parts.shape()[0], 2, c], "dense block"),
            rows: *rows,
        });
        let mut block = DenseBlock { buffer: x.empty(&[n, h, w, c], "dense block"), moments, filled: 0 };
        block.append(x, first.as_ref());
        block
    }

    /// Appends what the convolution of x `[n, h, w, _]` with w `[k, r, s, _]` gives.
    #[track_caller]
    pub fn append_conv(&mut self, x: &Tensor, w: &Tensor, window: Window) {
        let (y, moments) = conv2d_with_moments(x, w, window, self.moments.is_some());
        self.append(&y, moments.as_ref());
    }

    fn append(&mut self, part: &Tensor, moments: Option<&Moments>) {
        let [_, _, _, c] = nhwc(self.buffer.shape(), "dense block");
        let range = self.filled..self.filled + part.shape()[3];
        assert!(range.end <= c, "dense block: {c} channels, and {part:?} after {}", self.filled);
        // The normalisations' kernels count the packs of a row by the channels that they read.
        assert!(part.shape()[3].is_multiple_of(8) && c.is_multiple_of(8), "dense block: wants channels by eights");
        put(part, &self.buffer, range.start);
        if let (Some(all), Some(moments)) = (&self.moments, moments) {
            put(&moments.parts, &all.parts, range.start);
        }
        self.filled = range.end;
        let wanted = part.wants_grad();
        self.buffer = self.buffer.clone().record("dense block", &[&self.buffer, part], move |g| {
            let part = wanted.then(|| channels(&g, range));
            vec![Some(g), part]
        });
    }

    /// Batch normalisation of the channels so far, which are those that `bn` is over, then the activation.
    #[track_caller]
    pub fn batch_norm(&self, bn: &BatchNorm, act: Act) -> Tensor {
        assert_eq!(bn.weight.shape(), [self.filled], "dense block: a normalisation of other channels");
        normalise_first(&self.buffer, self.moments.clone(), bn, act, None)
    }

    /// All channels, once they are written: `[n, h, w, c]`.
    #[track_caller]
    pub fn output(&self) -> Tensor {
        assert_eq!(self.buffer.shape()[3], self.filled, "dense block: not all channels are written");
        self.buffer.clone()
    }
}

/// Cases of [`DenseBlock`].
pub static DENSE_BLOCK: Spec = Spec {
    name: "dense_block",
    cases: || {
        use super::{
            elementwise::add,
            norm::Statistics::{self, Batch, Running},
        };
        let case = |label, [n, h, w, c]: [usize; 4], growth: usize, statistics: Statistics| {
            let (x, beside, all) = ([n, h, w, c], [n, h, w, 16], c + growth);
            let shapes: [&[usize]; 7] = [&x, &[c], &[c], &beside, &[growth, 3, 3, 16], &[all], &[all]];
            Case::new(label, &shapes, move |t| {
                let norm = |i: usize| case_norm(&t[i], &t[i + 1], statistics);
                let mut block = DenseBlock::new(&t[0], all, statistics == Batch);
                let first = block.batch_norm(&norm(1), Act::Silu);
                block.append_conv(&t[3], &t[4], Window::square(3, 1, 1));
                // The gradient of the sum goes to both, in one piece of memory.
                concat(&[&first, &add(&block.batch_norm(&norm(5), Act::Identity), &block.output())])
            })
            .wide(&[1, 2, 5, 6])
        };
        vec![
            case("batch", [2, 3, 4, 8], 8, Batch),
            case("running", [1, 2, 3, 16], 24, Running),
            case("56x56, 64 and 32", [8, 56, 56, 64], 32, Batch).real(),
        ]
    },
};
