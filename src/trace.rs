//! What a network launches: every kernel of a pass with its parameters and the tensors it read and wrote.

use crate::{
    Result,
    device::{Block, Kernel},
    models::Model,
    nn::{Entry, Id, Kind, Mode, Params, Pass},
    tensor::Tensor,
};
use std::{collections::HashMap, sync::Arc};

/// A launch as its tape saw it.
///
/// The tape and not the device is asked, because only tensors have shapes: a device would see neither the shape of an
/// image nor that a reshaped tensor, whose memory is the same, is to be looked at differently.
pub struct Launched {
    /// The kernel.
    pub kernel: Kernel,
    /// Bytes of its parameter struct.
    pub params: Vec<u8>,
    /// What it read.
    pub ins: Vec<Operand>,
    /// What it wrote.
    pub outs: Vec<Operand>,
}

/// A tensor of a traced launch. It keeps the memory, so that within a trace one address is one tensor.
pub struct Operand {
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    block: Arc<Block>,
}

impl Operand {
    /// `None` after a device failure.
    pub(crate) fn of(tensor: &Tensor) -> Option<Operand> {
        Some(Operand { shape: tensor.shape().to_vec(), block: tensor.block()?.clone() })
    }

    /// Where its elements are: the same for the views of one tensor, different for two tensors of a trace.
    pub fn address(&self) -> usize {
        self.block.address()
    }
}

/// A pass of a network in evaluation mode.
pub struct Trace<'a> {
    /// The parameters of the network.
    pub params: &'a Params,
    /// The images.
    pub input: Operand,
    /// The numbers beside them, if the network takes any.
    pub given: Option<Operand>,
    /// The scores.
    pub output: Operand,
    /// What was launched in between, in order.
    pub launches: Vec<Launched>,
    addresses: HashMap<usize, Id>,
}

/// A layer: all launches that read parameters which differ in the last part of their names only.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// What the names of its parameters begin with.
    pub name: String,
    /// The kernel that multiplies, or else the last one.
    pub kernel: &'static str,
    /// Shape of the last result.
    pub output: Vec<usize>,
    /// Values that training moves.
    pub parameters: usize,
    /// Multiplications, each with its addition, of convolutions and products of matrices.
    pub macs: u64,
}

impl<'a> Trace<'a> {
    /// Traces `model` on `n` images of side `size`. On a [dry](crate::device::dry) device that costs next to nothing.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn new(model: &'a Model, n: usize, size: usize) -> Result<Trace<'a>> {
        let mut given = None;
        let trace = Trace::of(&model.params, [n, size, size, model.channels], |pass, images| {
            let dtype = model.params.dtype().wide();
            let inputs = (model.inputs > 0).then(|| pass.tape().empty(&[n, model.inputs], dtype, "inputs"));
            given = inputs.as_ref().and_then(Operand::of);
            model.scores(pass, images, inputs.as_ref()).main
        })?;
        Ok(Trace { given, ..trace })
    }

    /// Traces what `network` with these parameters makes of images of this shape.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn of(
        params: &'a Params,
        images: [usize; 4],
        network: impl FnOnce(&Pass, &Tensor) -> Tensor,
    ) -> Result<Trace<'a>> {
        let pass = Pass::new(params, Mode::Eval);
        let tape = pass.tape();
        let images = tape.empty(&images, params.dtype(), "images");
        tape.start_trace();
        let scores = network(&pass, &images);
        let launches = tape.end_trace();
        tape.check()?;
        let operand = |tensor| Operand::of(tensor).expect("nothing failed, so there is memory");
        let floats = params.iter().filter(|(_, entry)| entry.kind != Kind::Counter);
        let blocks = floats.flat_map(|(id, entry)| [Some(entry.block()), entry.shadow()].map(|block| (block, id)));
        let addresses = blocks.filter_map(|(block, id)| Some((block?.address(), id))).collect();
        Ok(Trace { params, input: operand(&images), given: None, output: operand(&scores), launches, addresses })
    }

    /// The parameter that `operand` is, if it is one.
    pub fn parameter(&self, operand: &Operand) -> Option<(Id, &'a Entry)> {
        let id = *self.addresses.get(&operand.address())?;
        Some((id, self.params.entry(id)))
    }

    /// The layers, in the order of their first launch.
    pub fn layers(&self) -> Vec<Layer> {
        let mut layers: Vec<Layer> = vec![];
        for launched in &self.launches {
            let first = launched.ins.iter().find_map(|operand| self.parameter(operand));
            let Some((_, entry)) = first else { continue };
            let name = layer_of(entry);
            let at = layers.iter().position(|layer| layer.name == name).unwrap_or_else(|| {
                let (name, kernel) = (name.to_string(), launched.kernel.name);
                layers.push(Layer { name, kernel, output: vec![], parameters: self.parameters_of(entry), macs: 0 });
                layers.len() - 1
            });
            let layer = &mut layers[at];
            if layer.macs == 0 {
                layer.kernel = launched.kernel.name;
            }
            layer.macs += launched.kernel.macs.map_or(0, |macs| macs(&launched.params));
            layer.output.clone_from(&launched.outs[0].shape);
        }
        layers
    }

    /// Trained values of the layer that `entry` belongs to.
    fn parameters_of(&self, entry: &Entry) -> usize {
        let trained = |other: &&Entry| matches!(other.kind, Kind::Weight | Kind::Undecayed);
        let entries = self.params.iter().map(|(_, entry)| entry).filter(trained);
        entries.filter(|other| layer_of(other) == layer_of(entry)).map(Entry::len).sum()
    }
}

/// The name of an entry without its last part.
fn layer_of(entry: &Entry) -> &str {
    entry.name.rsplit_once('.').map_or("", |(layer, _)| layer)
}
