//! An ONNX graph under construction: nodes, weights, and what each tensor of the trace is called in it.

use super::{
    proto::{self, Attribute, Dimension, Node},
    unsupported,
};
use crate::{
    Result,
    nn::{Entry, Params},
    trace::{Launched, Operand, Trace},
};
use std::collections::{BTreeSet, HashMap};

/// A tensor in the graph. Images are NCHW there, all others are as in the engine.
#[derive(Clone)]
struct Value {
    name: String,
    /// In the engine.
    shape: Vec<usize>,
}

/// The channels of a tensor that have been written so far.
pub(super) struct Part {
    pub from: usize,
    pub width: usize,
    pub name: String,
}

/// A graph whose nodes follow the launches of a trace.
pub(super) struct Graph<'a> {
    trace: &'a Trace<'a>,
    /// The values of the weights: `trace` is of a network without any.
    params: &'a Params,
    pub nodes: Vec<Node>,
    initializers: Vec<proto::Tensor>,
    known: BTreeSet<String>,
    values: HashMap<usize, Value>,
    /// Parts of tensors that are written piece by piece, by address.
    pub parts: HashMap<usize, Vec<Part>>,
    /// Names of mean and variance, and ε, by the address of what the engine makes of them.
    pub statistics: HashMap<usize, (String, String, f64)>,
}

impl<'a> Graph<'a> {
    /// An empty graph whose input is `input`.
    pub fn new(trace: &'a Trace, params: &'a Params, input: &str) -> Graph<'a> {
        let mut graph = Graph {
            trace,
            params,
            nodes: vec![],
            initializers: vec![],
            known: BTreeSet::new(),
            values: HashMap::new(),
            parts: HashMap::new(),
            statistics: HashMap::new(),
        };
        graph.define(&trace.input, input.into());
        graph
    }

    /// Says that `operand` is called `name`.
    pub fn define(&mut self, operand: &Operand, name: String) {
        self.values.insert(operand.address(), Value { name, shape: operand.shape.clone() });
    }

    /// A node with one result; its name.
    pub fn node(&mut self, op: &str, inputs: &[&str], attribute: Vec<Attribute>) -> String {
        let name = format!("{op}_{}", self.nodes.len());
        let input = inputs.iter().map(|&input| input.into()).collect();
        self.nodes.push(Node { input, output: vec![name.clone()], name: name.clone(), op_type: op.into(), attribute });
        name
    }

    /// What `operand`, a parameter or the result of an earlier launch, is called.
    ///
    /// # Errors
    /// A tensor that no translated launch has made.
    pub fn input(&mut self, operand: &Operand) -> Result<String> {
        match self.trace.parameter(operand) {
            Some(_) => Ok(self.parameter(operand)?.0),
            None => self.viewed(operand, &operand.shape),
        }
    }

    /// The first `width` channels of `operand`, which is written part by part: their concatenation.
    ///
    /// # Errors
    /// Parts that are not those channels.
    pub fn so_far(&mut self, operand: &Operand, width: usize) -> Result<String> {
        let mut parts = self.parts.remove(&operand.address()).unwrap_or_default();
        parts.sort_by_key(|part| part.from);
        if parts.iter().map(|part| part.width).sum::<usize>() != width {
            return Err(unsupported("a range of channels that are written part by part"));
        }
        let names: Vec<&str> = parts.iter().map(|part| &*part.name).collect();
        let name = match names[..] {
            [name] => name.to_string(),
            _ => self.node("Concat", &names, vec![int("axis", 1)]),
        };
        self.parts.insert(operand.address(), vec![Part { from: 0, width, name: name.clone() }]);
        Ok(name)
    }

    /// The weights that `operand` is: their name and their entry.
    ///
    /// # Errors
    /// A tensor that is no parameter, or a failure of the device.
    pub fn parameter(&mut self, operand: &Operand) -> Result<(String, &'a Entry)> {
        let (id, entry) = self.trace.parameter(operand).ok_or_else(|| unsupported("weights that are computed"))?;
        if self.known.insert(entry.name.clone()) {
            let values = self.params.get(id)?;
            self.initializer(&entry.name, &entry.file_shape, proto::FLOAT, bytemuck::cast_slice(&values));
        }
        Ok((entry.name.clone(), entry))
    }

    fn initializer(&mut self, name: &str, shape: &[usize], data_type: i32, bytes: &[u8]) {
        let dims = shape.iter().map(|&extent| extent as i64).collect();
        self.initializers.push(proto::Tensor { dims, data_type, name: name.into(), raw_data: bytes.to_vec() });
    }

    /// A constant list of integers, by its content; its name.
    pub fn integers(&mut self, values: &[i64]) -> String {
        let name = format!("int64{values:?}");
        if self.known.insert(name.clone()) {
            self.initializer(&name, &[values.len()], proto::INT64, bytemuck::cast_slice(values));
        }
        name
    }

    /// A constant called `name`; its name.
    pub fn floats(&mut self, name: String, shape: &[usize], values: &[f32]) -> String {
        if self.known.insert(name.clone()) {
            self.initializer(&name, shape, proto::FLOAT, bytemuck::cast_slice(values));
        }
        name
    }

    /// What `operand`, looked at with this shape, is called.
    ///
    /// # Errors
    /// As [`Graph::input`]; a shape whose first axis is not the batch's.
    pub fn viewed(&mut self, operand: &Operand, shape: &[usize]) -> Result<String> {
        let value = self.values.get(&operand.address()).cloned();
        let Value { name, shape: made } = value.ok_or_else(|| unsupported("a tensor from elsewhere"))?;
        if made == shape {
            return Ok(name);
        }
        let batch = self.trace.input.shape[0];
        if made[0] != batch || shape[0] != batch {
            return Err(unsupported("a view that mixes images"));
        }
        // Through the engine's order of the elements, unless it is that of ONNX anyway.
        let name = match is_image(&made) && !is_pixel(&made) {
            true => self.node("Transpose", &[&name], vec![ints("perm", &[0, 2, 3, 1])]),
            false => name,
        };
        match *shape {
            [_, 1, 1, c] => Ok(self.reshape(&name, &[c, 1, 1])),
            [_, _, _, _] => {
                let name = self.reshape(&name, &shape[1..]);
                Ok(self.node("Transpose", &[&name], vec![ints("perm", &[0, 3, 1, 2])]))
            }
            _ => Ok(self.reshape(&name, &shape[1..])),
        }
    }

    /// An image with its pixels behind one another, channel by channel, as torch flattens it; `None` if `operand` is no
    /// view of an image.
    pub fn flattened(&mut self, operand: &Operand) -> Option<String> {
        let value = self.values.get(&operand.address()).filter(|value| is_image(&value.shape))?.clone();
        Some(self.reshape(&value.name, &[value.shape[1..].iter().product()]))
    }

    /// `x` with these extents behind the batch's.
    pub fn reshape(&mut self, x: &str, image: &[usize]) -> String {
        let extents: Vec<i64> = [-1].into_iter().chain(image.iter().map(|&extent| extent as i64)).collect();
        let shape = self.integers(&extents);
        self.node("Reshape", &[x, &shape], vec![])
    }

    /// The finished graph called `name`, its result called `output`.
    ///
    /// # Errors
    /// As [`Graph::input`].
    pub fn finish(mut self, name: &str, output: &str) -> Result<proto::Graph> {
        let trace = self.trace;
        let result = self.input(&trace.output)?;
        for node in &mut self.nodes {
            let names = node.input.iter_mut().chain(&mut node.output);
            names.filter(|name| **name == result).for_each(|name| *name = output.into());
        }
        let inputs = [Some(&trace.input), trace.given.as_ref()];
        let input = |operand: &Operand| described(&self.values[&operand.address()].name, operand);
        Ok(proto::Graph {
            name: name.into(),
            input: inputs.into_iter().flatten().map(input).collect(),
            output: vec![described(output, &trace.output)],
            node: self.nodes,
            initializer: self.initializers,
        })
    }

    /// How many launches read `operand`.
    pub fn readers(&self, operand: &Operand) -> usize {
        let reads = |launched: &&Launched| launched.ins.iter().any(|other| other.address() == operand.address());
        self.trace.launches.iter().filter(reads).count()
    }
}

fn is_image(shape: &[usize]) -> bool {
    shape.len() == 4
}

fn is_pixel(image: &[usize]) -> bool {
    image[1] * image[2] == 1
}

/// Name and shape of an input or output, for any number of images.
fn described(name: &str, operand: &Operand) -> proto::ValueInfo {
    let number = |&extent: &usize| Dimension { dim_value: Some(extent as i64), dim_param: None };
    let mut dim: Vec<Dimension> = operand.shape.iter().map(number).collect();
    if is_image(&operand.shape) {
        dim[1..].rotate_right(1);
    }
    dim[0] = Dimension { dim_value: None, dim_param: Some("N".into()) };
    let tensor_type = proto::TensorType { elem_type: proto::FLOAT, shape: Some(proto::Shape { dim }) };
    proto::ValueInfo { name: name.into(), r#type: Some(proto::Type { tensor_type: Some(tensor_type) }) }
}

/// An attribute of a list of integers.
pub(super) fn ints(name: &str, values: &[i32]) -> Attribute {
    let ints = values.iter().map(|&value| value.into()).collect();
    Attribute { name: name.into(), ints, r#type: proto::ATTRIBUTE_INTS, ..Attribute::default() }
}

/// An attribute of one integer.
pub(super) fn int(name: &str, value: i32) -> Attribute {
    Attribute { name: name.into(), i: Some(value.into()), r#type: proto::ATTRIBUTE_INT, ..Attribute::default() }
}

/// An attribute of one float.
pub(super) fn float(name: &str, value: f64) -> Attribute {
    Attribute { name: name.into(), f: Some(value as f32), r#type: proto::ATTRIBUTE_FLOAT, ..Attribute::default() }
}

/// An attribute of a word.
pub(super) fn word(name: &str, value: &str) -> Attribute {
    Attribute { name: name.into(), s: Some(value.into()), r#type: proto::ATTRIBUTE_STRING, ..Attribute::default() }
}
