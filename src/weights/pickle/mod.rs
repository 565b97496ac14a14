//! A reader of pickles that executes nothing.
//!
//! A pickle is a program for a stack machine that calls Python functions. This one only notes what would be called, and
//! only for the functions on a list; any other is refused by name. Values are nodes in a list and refer to each other by
//! number, so that a node costs memory once, however often it is referred to, and nothing here recurses.

mod machine;

use super::source::Fault;
use machine::Machine;

/// Number of a node.
pub(in crate::weights) type Id = u32;

/// A value.
#[derive(Debug)]
pub(in crate::weights) enum Node<'a> {
    Int(i64),
    Str(&'a str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    /// Also an OrderedDict; keys in order.
    Dict(Vec<(Id, Id)>),
    Callable(Callable),
    /// A class of storages, as `FloatStorage`.
    StorageType(&'a str),
    /// A type of values, as `float32`.
    Dtype(&'a str),
    /// A reference to bytes outside the pickle.
    Storage(Storage<'a>),
    /// A tensor over a storage: the tuple of arguments of `torch._utils._rebuild_tensor*`.
    Tensor(Id),
    /// A value of no meaning here: none, a truth value, a float, a date, ...
    Opaque,
}

/// `numel` values, kept under `key`.
#[derive(Clone, Copy, Debug)]
pub(in crate::weights) struct Storage<'a> {
    pub kind: &'a str,
    pub key: &'a str,
    pub numel: u64,
}

/// What a pickle may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::weights) enum Callable {
    Dict,
    RebuildTensor,
    /// Returns its first argument.
    First,
    /// Makes something of no meaning here.
    Opaque,
}

/// Types of values and storages that PyTorch has, those not supported here included: they may stand in what is not read.
const DTYPES: &str = " float64 double float32 float float16 half bfloat16 int64 long int32 int int16 short int8 uint8 bool \
    uint16 uint32 uint64 complex32 complex64 complex128 qint8 quint8 qint32 float8_e4m3fn float8_e5m2 ";
const STORAGES: &str = " DoubleStorage FloatStorage HalfStorage BFloat16Storage LongStorage IntStorage ShortStorage \
    CharStorage ByteStorage BoolStorage ComplexFloatStorage ComplexDoubleStorage QInt8Storage QUInt8Storage QInt32Storage \
    UntypedStorage ";

fn listed(list: &str, name: &str) -> bool {
    list.split(' ').any(|word| word == name && !word.is_empty())
}

/// What `module.name` is here.
fn global<'a>(module: &str, name: &'a str) -> Result<Node<'a>, Fault> {
    use Callable::{Dict, First, Opaque, RebuildTensor};
    let callable = match (module, name) {
        ("collections", "OrderedDict" | "defaultdict" | "Counter") => Dict,
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => RebuildTensor,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => First,
        ("torch.nn.parameter", "Parameter") | ("torch", "Size") => First,
        ("torch", "device")
        | ("numpy", "dtype" | "ndarray")
        | ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar" | "_reconstruct")
        | ("_codecs", "encode")
        | ("builtins" | "__builtin__", "int" | "float" | "complex" | "str" | "bool" | "bytearray")
        | ("builtins" | "__builtin__", "list" | "dict" | "set" | "frozenset")
        | ("datetime", "datetime" | "date" | "time" | "timedelta")
        | ("argparse", "Namespace")
        | ("pathlib", "PosixPath" | "WindowsPath" | "PurePosixPath" | "PureWindowsPath") => Opaque,
        ("torch", name) if listed(DTYPES, name) => return Ok(Node::Dtype(name)),
        ("torch" | "torch.cuda" | "torch.storage", name) if listed(STORAGES, name) => {
            return Ok(Node::StorageType(name));
        }
        _ => return Err(Fault::Refused(format!("it asks for the Python object {module}.{name}"))),
    };
    Ok(Node::Callable(callable))
}

/// The node for all values without meaning but one.
const OPAQUE: Id = 0;

/// That for "false", which tells big end first.
pub(in crate::weights) const FALSE: Id = 1;

/// The value of a pickle.
pub(in crate::weights) struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    /// Levels of containers below each node.
    depths: Vec<u16>,
    /// The value itself.
    pub root: Id,
    /// Bytes read.
    pub len: usize,
}

impl<'a> Pickle<'a> {
    /// Reads the pickle at the start of `bytes`.
    ///
    /// # Errors
    /// `Short` if it goes on after their end; what is not well formed, not on the lists, too deep or too large.
    pub fn read(bytes: &'a [u8]) -> Result<Pickle<'a>, Fault> {
        Machine::run(bytes)
    }

    /// A node.
    pub fn node(&self, id: Id) -> &Node<'a> {
        &self.nodes[id as usize]
    }

    /// Every storage that is mentioned.
    pub fn storages(&self) -> impl Iterator<Item = &Storage<'a>> {
        self.nodes.iter().filter_map(|node| if let Node::Storage(storage) = node { Some(storage) } else { None })
    }

    /// The text of a node that is one.
    pub fn text(&self, id: Id) -> Option<&'a str> {
        if let Node::Str(text) = self.node(id) { Some(text) } else { None }
    }

    /// The pairs of a node that is a dictionary.
    pub fn pairs(&self, id: Id) -> Option<&[(Id, Id)]> {
        if let Node::Dict(pairs) = self.node(id) { Some(pairs) } else { None }
    }

    /// The items of a node that is a tuple or list.
    pub fn items(&self, id: Id) -> Option<&[Id]> {
        if let Node::Tuple(items) | Node::List(items) = self.node(id) { Some(items) } else { None }
    }
}
