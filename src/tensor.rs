//! A tensor: a block of device memory, a shape and, while a tape records, a place on that tape.

use crate::{
    Result,
    device::{Block, DType, Kernel},
    tape::{Back, Tape},
};
use std::{fmt, rc::Rc, sync::Arc};

/// A dense array on a device. Images are NHWC, convolution weights K·R·S·C; there are no strides.
///
/// Cloning shares the memory. After a device failure the tape holds the error and new tensors have no memory; operations
/// on them do nothing, and the error comes out of [`Tape::backward`] or [`Tensor::to_vec`].
#[derive(Clone)]
pub struct Tensor {
    tape: Rc<Tape>,
    shape: Vec<usize>,
    dtype: DType,
    block: Option<Arc<Block>>,
    node: Option<usize>,
}

impl Tensor {
    pub(crate) fn new(tape: &Rc<Tape>, shape: &[usize], dtype: DType, block: Option<Arc<Block>>) -> Tensor {
        Tensor { tape: tape.clone(), shape: shape.to_vec(), dtype, block, node: None }
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The tape it belongs to.
    pub fn tape(&self) -> &Rc<Tape> {
        &self.tape
    }

    /// Its memory; `None` after a device failure.
    pub fn block(&self) -> Option<&Arc<Block>> {
        self.block.as_ref()
    }

    pub(crate) fn node(&self) -> Option<usize> {
        self.node
    }

    /// Whether a gradient will be asked for: a backward closure skips the work for inputs that answer no.
    pub fn wants_grad(&self) -> bool {
        self.node.is_some()
    }

    /// An unwritten tensor of the given shape, with this one's type and tape.
    pub fn empty(&self, shape: &[usize], at: &'static str) -> Tensor {
        self.tape.empty(shape, self.dtype, at)
    }

    /// An unwritten tensor of the given shape in the type that sums of this one are kept in.
    pub fn empty_wide(&self, shape: &[usize], at: &'static str) -> Tensor {
        self.tape.empty(shape, self.dtype.wide(), at)
    }

    /// An unwritten tensor of the same shape and type.
    pub fn like(&self, at: &'static str) -> Tensor {
        self.empty(&self.shape, at)
    }

    /// The same elements in another shape.
    #[track_caller]
    pub fn reshape(&self, shape: &[usize]) -> Tensor {
        assert_eq!(self.len(), shape.iter().product::<usize>(), "reshape: {:?} to {shape:?}", self.shape);
        let from = self.shape.clone();
        let view = Tensor { shape: shape.to_vec(), node: None, ..self.clone() };
        view.record("reshape", &[self], move |g| vec![Some(Tensor { shape: from, ..g })])
    }

    /// Puts the result of an operation on the tape, with the function that turns its gradient into those of `inputs`.
    pub fn record(
        self,
        op: &'static str,
        inputs: &[&Tensor],
        back: impl FnOnce(Tensor) -> Vec<Option<Tensor>> + 'static,
    ) -> Tensor {
        self.record_adding(op, inputs, |gradient, _| back(gradient))
    }

    /// The same for an operation that can add its gradient of the first input to what others have left there: it takes that
    /// and gives back the sum, or leaves it.
    pub(crate) fn record_adding(
        self,
        op: &'static str,
        inputs: &[&Tensor],
        back: impl FnOnce(Tensor, &mut Option<Tensor>) -> Vec<Option<Tensor>> + 'static,
    ) -> Tensor {
        let node = self.tape.push(op, inputs, Back::new(back));
        Tensor { node, ..self }
    }

    /// Whether no other tensor shares the memory, so that it may be written again.
    pub(crate) fn is_alone(&self) -> bool {
        self.block.as_ref().is_some_and(|block| Arc::strong_count(block) == 1)
    }

    /// Makes it a leaf: its gradient will be found in [`crate::tape::Grads`].
    pub fn leaf(self) -> Tensor {
        let node = self.tape.push_leaf();
        Tensor { node, ..self }
    }

    /// The elements as `f64`, whatever the float type.
    ///
    /// # Errors
    /// The first device failure on this tape.
    pub fn to_vec(&self) -> Result<Vec<f64>> {
        let block = self.written()?;
        let mut bytes = vec![0; block.bytes()];
        self.tape.device().download(block, &mut bytes)?;
        Ok(self.dtype.decode(&bytes))
    }

    /// Starts reading the elements as they are after everything launched before; what is returned waits for them.
    ///
    /// # Errors
    /// The first device failure on this tape.
    pub fn read_later(&self) -> Result<impl FnOnce() -> Result<Vec<f64>> + use<>> {
        let (reading, dtype) = (self.tape.device().read_later(self.written()?)?, self.dtype);
        Ok(move || Ok(dtype.decode(&reading()?)))
    }

    /// Its memory, unless something failed on this tape.
    fn written(&self) -> Result<&Block> {
        self.tape.check()?;
        Ok(self.block.as_ref().expect("nothing failed, so there is memory"))
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({:?} {:?})", self.dtype, self.shape)
    }
}

/// Runs a kernel in the narrowest float type of its tensors: what it stores, sums being kept in [`DType::wide`]. Does
/// nothing after a device failure.
pub fn launch<P: bytemuck::Pod>(kernel: &Kernel, params: &P, ins: &[&Tensor], outs: &[&Tensor]) {
    let first = outs.first().expect("a kernel has an output");
    let floats = ins.iter().chain(outs).map(|t| t.dtype).filter(|dtype| dtype.is_float());
    let dtype = floats.min_by_key(|dtype| dtype.size()).expect("a kernel has a float tensor");
    first.tape.launch(kernel, dtype, bytemuck::bytes_of(params), ins, outs);
}
