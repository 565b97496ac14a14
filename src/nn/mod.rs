//! Networks as named parameters and layers over them.

pub mod init;
pub mod layers;
mod params;

pub use init::Init;
pub use params::{Builder, Entry, Id, Kind, Layout, Params};

use crate::{
    device::{Block, DType, Device},
    ops::{
        norm::{BatchNorm, Statistics},
        regularise,
    },
    tape::{Grads, Tape},
    tensor::Tensor,
};
use std::{
    cell::{Cell, OnceCell, RefCell},
    rc::Rc,
    sync::Arc,
};

/// A network: from images `[n, h, w, channels]` to scores `[n, outputs]`, or `[n, h, w, outputs]` for each pixel.
pub trait Network: Send + Sync {
    /// Runs it, reading parameters through `pass`.
    fn forward(&self, pass: &Pass, images: &Tensor) -> Scores;
}

/// What a network makes of images.
pub struct Scores {
    /// Its scores.
    pub main: Tensor,
    /// Those of an auxiliary head of the same task, where the network has one that is trained along.
    pub auxiliary: Option<Tensor>,
}

/// What a forward pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics; omissions drawn from seed and step, or none at all if there is no seed (for proofs).
    Train {
        /// Seed of the run.
        seed: Option<u64>,
        /// Step of the run, from 0.
        step: u32,
    },
    /// Running statistics, no omissions.
    Eval,
}

/// One forward pass: the tape, the parameters as leaves on it, and the mode.
pub struct Pass<'a> {
    tape: Rc<Tape>,
    params: &'a Params,
    leaves: RefCell<Vec<Option<Tensor>>>,
    mode: Mode,
    omissions: Cell<u32>,
    /// The step as the kernels read it.
    step: OnceCell<Tensor>,
    /// Counters of the layers that trained.
    counted: RefCell<Vec<Id>>,
}

impl<'a> Pass<'a> {
    /// A pass over `params` on their device; it records for a backward pass in training mode.
    pub fn new(params: &'a Params, mode: Mode) -> Pass<'a> {
        Pass::with_recording(params, mode, matches!(mode, Mode::Train { .. }))
    }

    /// The same, recording or not whatever the mode.
    pub fn with_recording(params: &'a Params, mode: Mode, recording: bool) -> Pass<'a> {
        let tape = Tape::new(params.device(), recording);
        let leaves = RefCell::new(vec![None; params.len()]);
        Pass { tape, params, leaves, mode, omissions: Cell::new(0), step: OnceCell::new(), counted: RefCell::default() }
    }

    /// Reads the step from `step`, one U32 in memory that outlives the pass, instead of taking the mode's: a recorded pass
    /// repeats what the mode said.
    #[must_use]
    pub fn with_step(self, step: &Arc<Block>) -> Pass<'a> {
        let step = OnceCell::from(self.tape.wrap(&[1], DType::U32, step));
        Pass { step, ..self }
    }

    /// Whether it is for training.
    pub fn training(&self) -> bool {
        matches!(self.mode, Mode::Train { .. })
    }

    /// The tape.
    pub fn tape(&self) -> &Rc<Tape> {
        &self.tape
    }

    /// The device.
    pub fn device(&self) -> &Arc<dyn Device> {
        self.tape.device()
    }

    /// Images `[n, h, w, 3]` in the float type of the parameters.
    #[track_caller]
    pub fn images(&self, shape: [usize; 4], values: &[f32]) -> Tensor {
        let dtype = self.params.dtype();
        self.tape.upload(&shape, dtype, &dtype.encode_single(values))
    }

    /// Parameter `id` as a tensor; a leaf if it is trained. The same tensor at every call.
    pub fn param(&self, id: Id) -> Tensor {
        let mut leaves = self.leaves.borrow_mut();
        let leaf = leaves[id.index()].get_or_insert_with(|| {
            let entry = self.params.entry(id);
            let tensor = match entry.shadow() {
                Some(shadow) => self.tape.wrap(&entry.shape, self.params.dtype(), shadow),
                None => self.tape.wrap(&entry.shape, self.params.dtype().wide(), entry.block()),
            };
            if entry.trained() { tensor.leaf() } else { tensor }
        });
        leaf.clone()
    }

    /// The counters of batches of the layers that trained: for who runs the pass to move, as often as it is run.
    pub fn counted(&self) -> Vec<Id> {
        self.counted.borrow().clone()
    }

    /// The gradient that `grads` holds for parameter `id`, if it was used and trained.
    pub fn gradient<'g>(&self, grads: &'g Grads, id: Id) -> Option<&'g Tensor> {
        grads.of(self.leaves.borrow()[id.index()].as_ref()?)
    }

    /// The tensors of a batch normalisation layer. A frozen layer's statistics are frozen too, and may be by themselves.
    pub fn batch_norm(&self, layer: &layers::BatchNorm) -> BatchNorm {
        let frozen = [layer.weight, layer.running_mean, layer.running_var].map(|id| self.params.entry(id).frozen);
        let trains = self.training() && frozen == [false; 3];
        if trains {
            self.counted.borrow_mut().push(layer.batches);
        }
        BatchNorm {
            weight: self.param(layer.weight),
            bias: self.param(layer.bias),
            running_mean: self.param(layer.running_mean),
            running_var: self.param(layer.running_var),
            eps: layer.eps,
            momentum: layer.momentum,
            statistics: if trains { Statistics::Batch } else { Statistics::Running },
        }
    }

    /// Dropout with probability `p`, in training.
    pub fn dropout(&self, x: &Tensor, p: f32) -> Tensor {
        self.omit(regularise::dropout, x, p)
    }

    /// Stochastic depth with probability `p`, in training.
    pub fn stochastic_depth(&self, x: &Tensor, p: f32) -> Tensor {
        self.omit(regularise::stochastic_depth, x, p)
    }

    fn omit(&self, op: fn(&Tensor, f32, u64, &Tensor, u32) -> Tensor, x: &Tensor, p: f32) -> Tensor {
        let place = self.omissions.replace(self.omissions.get() + 1);
        let Mode::Train { seed: Some(seed), step } = self.mode else { return x.clone() };
        let step = self.step.get_or_init(|| self.tape.upload(&[1], DType::U32, bytemuck::bytes_of(&step)));
        op(x, p, seed, step, place)
    }
}
