//! The tape: what was computed, in order, and how to run it backwards.
//!
//! Operations append themselves, so append order is a topological order and backward is one reverse loop. That loop adds
//! gradients, unless an operation can do so while it writes its own, and what an operation saved is freed as the loop
//! passes it.

use crate::{
    Error, Result,
    device::{Block, DType, Device, Kernel},
    ops::elementwise::add,
    tensor::Tensor,
    trace::{Launched, Operand},
};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

/// Turns the gradient of an operation's result into those of its inputs, one each, `None` for inputs that want none. It
/// also sees what other operations have left as the gradient of its first input, and may take that to add to it in place.
pub(crate) struct Back(Box<BackFn>);

type BackFn = dyn FnOnce(Tensor, &mut Option<Tensor>) -> Vec<Option<Tensor>>;

impl Back {
    pub(crate) fn new(f: impl FnOnce(Tensor, &mut Option<Tensor>) -> Vec<Option<Tensor>> + 'static) -> Back {
        Back(Box::new(f))
    }
}

struct Node {
    op: &'static str,
    inputs: Vec<Option<usize>>,
    /// `None` for a leaf.
    back: Option<Back>,
}

/// One forward pass on a device.
pub struct Tape {
    device: Arc<dyn Device>,
    nodes: RefCell<Vec<Node>>,
    error: RefCell<Option<Error>>,
    recording: Cell<bool>,
    /// What was launched, while that is traced.
    trace: RefCell<Option<Vec<Launched>>>,
}

impl Tape {
    /// A tape on `device`. Without `recording` nothing is saved for a backward pass.
    pub fn new(device: &Arc<dyn Device>, recording: bool) -> Rc<Tape> {
        Rc::new(Tape {
            device: device.clone(),
            nodes: RefCell::default(),
            error: RefCell::default(),
            recording: Cell::new(recording),
            trace: RefCell::default(),
        })
    }

    /// The device that computes.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// Whether operations are recorded.
    pub fn recording(&self) -> bool {
        self.recording.get()
    }

    /// Keeps a list of all launches from here on, with their tensors.
    pub fn start_trace(&self) {
        *self.trace.borrow_mut() = Some(vec![]);
    }

    /// The launches since [`Tape::start_trace`].
    pub fn end_trace(&self) -> Vec<Launched> {
        self.trace.take().unwrap_or_default()
    }

    /// Whether everything has gone well so far.
    ///
    /// # Errors
    /// The first device failure.
    pub fn check(&self) -> Result<()> {
        self.error.borrow().clone().map_or(Ok(()), Err)
    }

    /// An unwritten tensor; `at` names the operation that needs it.
    pub fn empty(self: &Rc<Self>, shape: &[usize], dtype: DType, at: &'static str) -> Tensor {
        let bytes = shape.iter().product::<usize>() * dtype.size();
        let healthy = self.error.borrow().is_none();
        let block = healthy.then(|| self.keep(self.device.alloc(bytes, at))).flatten();
        Tensor::new(self, shape, dtype, block)
    }

    /// A tensor on memory that outlives the tape, such as a parameter.
    #[track_caller]
    pub fn wrap(self: &Rc<Self>, shape: &[usize], dtype: DType, block: &Arc<Block>) -> Tensor {
        let bytes = shape.iter().product::<usize>() * dtype.size();
        assert_eq!(bytes, block.bytes(), "a {dtype:?} tensor of shape {shape:?} on a block of another size");
        Tensor::new(self, shape, dtype, Some(block.clone()))
    }

    /// A tensor with the given elements (bytes of `dtype`, in host order).
    #[track_caller]
    pub fn upload(self: &Rc<Self>, shape: &[usize], dtype: DType, data: &[u8]) -> Tensor {
        let t = self.empty(shape, dtype, "upload");
        if let Some(block) = t.block() {
            assert_eq!(data.len(), block.bytes(), "upload: {} bytes for a {dtype:?} tensor {shape:?}", data.len());
            self.keep(self.device.upload(data, block));
        }
        t
    }

    /// A float tensor from `f64` values, rounded to `dtype`.
    #[track_caller]
    pub fn floats(self: &Rc<Self>, shape: &[usize], dtype: DType, data: &[f64]) -> Tensor {
        self.upload(shape, dtype, &dtype.encode(data))
    }

    /// The first error sticks: every later operation is a no-op, and the next read reports it.
    fn keep<T>(&self, result: Result<T>) -> Option<T> {
        result.map_err(|e| self.error.borrow_mut().get_or_insert(e).clone()).ok()
    }

    pub(crate) fn launch(&self, kernel: &Kernel, dtype: DType, params: &[u8], ins: &[&Tensor], outs: &[&Tensor]) {
        fn blocks<'a>(tensors: &[&'a Tensor]) -> Option<Vec<&'a Block>> {
            tensors.iter().map(|t| t.block().map(|block| &**block)).collect()
        }
        let healthy = self.error.borrow().is_none();
        if let (true, Some(ins), Some(outs)) = (healthy, blocks(ins), blocks(outs)) {
            self.keep(self.device.launch(kernel, dtype, params, &ins, &outs));
        }
        if let Some(trace) = &mut *self.trace.borrow_mut() {
            let operands = |tensors: &[&Tensor]| tensors.iter().filter_map(|t| Operand::of(t)).collect();
            trace.push(Launched { kernel: *kernel, params: params.to_vec(), ins: operands(ins), outs: operands(outs) });
        }
    }

    /// Appends an operation, if any of its inputs leads to a leaf.
    pub(crate) fn push(&self, op: &'static str, inputs: &[&Tensor], back: Back) -> Option<usize> {
        let inputs: Vec<_> = inputs.iter().map(|t| t.node()).collect();
        (self.recording.get() && inputs.iter().any(Option::is_some)).then(|| self.append(op, inputs, Some(back)))
    }

    pub(crate) fn push_leaf(&self) -> Option<usize> {
        self.recording.get().then(|| self.append("leaf", vec![], None))
    }

    fn append(&self, op: &'static str, inputs: Vec<Option<usize>>, back: Option<Back>) -> usize {
        let mut nodes = self.nodes.borrow_mut();
        nodes.push(Node { op, inputs, back });
        nodes.len() - 1
    }

    /// Gradients of `y` (one element) with respect to every leaf; consumes what the tape recorded.
    ///
    /// # Errors
    /// The first device failure of the forward or backward pass.
    #[track_caller]
    pub fn backward(&self, y: &Tensor) -> Result<Grads> {
        assert_eq!(y.len(), 1, "backward: {y:?} is not a scalar; give the gradient of its elements to backward_from");
        self.backward_from(y, y.tape().floats(y.shape(), y.dtype(), &[1.0]))
    }

    /// Gradients of ⟨`y`, `gy`⟩ with respect to every leaf; consumes what the tape recorded.
    ///
    /// # Errors
    /// The first device failure of the forward or backward pass.
    #[track_caller]
    pub fn backward_from(&self, y: &Tensor, gy: Tensor) -> Result<Grads> {
        assert_eq!(y.shape(), gy.shape(), "backward: a gradient of another shape");
        let nodes = self.nodes.take();
        self.recording.set(false);
        let mut grads: Vec<Option<Tensor>> = vec![None; nodes.len()];
        grads[y.node().expect("backward: nothing here leads to a leaf of a recording tape")] = Some(gy);
        for (id, node) in nodes.into_iter().enumerate().rev() {
            let Some(back) = node.back else { continue };
            let Some(gradient) = grads[id].take() else { continue };
            let first = node.inputs.first().copied().flatten();
            let mut so_far = first.and_then(|input| grads[input].take());
            let parts = back.0(gradient, &mut so_far);
            if let Some(input) = first {
                grads[input] = so_far;
            }
            assert_eq!(parts.len(), node.inputs.len(), "{}: one gradient per input", node.op);
            for (input, part) in node.inputs.iter().zip(parts) {
                let Some(input) = *input else { continue };
                let part = part.unwrap_or_else(|| panic!("{}: no gradient for an input that wants one", node.op));
                grads[input] = Some(match grads[input].take() {
                    None => part,
                    Some(sum) => add(&sum, &part),
                });
            }
        }
        self.check()?;
        Ok(Grads(grads))
    }
}

/// What a backward pass found: the gradient of every leaf that the result depends on.
pub struct Grads(Vec<Option<Tensor>>);

impl Grads {
    /// The gradient of leaf `x`; `None` if the result does not depend on it.
    pub fn of(&self, x: &Tensor) -> Option<&Tensor> {
        self.0[x.node()?].as_ref()
    }
}
