//! Safetensors files: an 8-byte length, a JSON header of names, types, shapes and offsets, then the values.

use crate::{Error, Result};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The values of a tensor, in torch's order.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Floats.
    F32(Vec<f32>),
    /// Counters.
    I64(Vec<i64>),
}

impl Values {
    fn bytes(&self) -> &[u8] {
        match self {
            Values::F32(values) => bytemuck::cast_slice(values),
            Values::I64(values) => bytemuck::cast_slice(values),
        }
    }

    fn dtype(&self) -> &'static str {
        match self {
            Values::F32(_) => "F32",
            Values::I64(_) => "I64",
        }
    }
}

/// A tensor in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Shape, as torch has it.
    pub shape: Vec<usize>,
    /// Values.
    pub values: Values,
}

/// Tensors by name.
pub type Tensors = BTreeMap<String, Stored>;

/// Keys of the header's metadata: what wrote the values and what their digest is.
const STATE: &str = "roentgen";
const DIGEST: &str = "sha256";

/// The file as bytes: the same for the same tensors and state. `state` is a JSON text that goes into the metadata, and
/// a digest over everything guards the file against damage that leaves its length intact.
pub fn encode(tensors: &Tensors, state: &str) -> Vec<u8> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({ "format": "pt", STATE: state, DIGEST: digest(tensors, state) }));
    // Eight-byte values first, so that every tensor is aligned to its type.
    let wide = |(_, stored): &(&String, &Stored)| matches!(stored.values, Values::I64(_));
    let (wide, narrow): (Vec<_>, Vec<_>) = tensors.iter().partition(wide);
    let ordered = || wide.iter().chain(&narrow);
    let mut offset = 0;
    for (name, stored) in ordered() {
        let end = offset + stored.values.bytes().len();
        let place = json!({ "dtype": stored.values.dtype(), "shape": stored.shape, "data_offsets": [offset, end] });
        header.insert((*name).clone(), place);
        offset = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = Vec::with_capacity(8 + header.len() + offset);
    bytes.extend((header.len() as u64).to_le_bytes());
    bytes.extend(header);
    ordered().for_each(|(_, stored)| bytes.extend(stored.values.bytes()));
    bytes
}

fn digest(tensors: &Tensors, state: &str) -> String {
    let mut sha = Sha256::new();
    sha.update(state);
    for (name, stored) in tensors {
        sha.update(format!("\0{name}\0{:?}\0", stored.shape));
        sha.update(stored.values.bytes());
    }
    sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file of weights, read.
#[derive(Clone, Debug)]
pub struct Archive {
    /// The file.
    pub path: PathBuf,
    /// Its tensors.
    pub tensors: Tensors,
    /// The state that [`encode`] was given; `None` in a file that another program wrote.
    pub state: Option<String>,
}

impl Archive {
    /// Reads a safetensors file of floats (F32) and counters (I64).
    ///
    /// # Errors
    /// A file that cannot be read, is truncated or damaged, or is of another kind.
    pub fn read(path: &Path) -> Result<Archive> {
        let bytes = fs::read(path).map_err(|e| Error::io("read", path, e))?;
        let shown = path.display();
        if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02") {
            return Err(Error::unusable(
                format!("{shown} is a pickled PyTorch file, not safetensors"),
                "convert it in Python: safetensors.torch.save_file(torch.load(FILE), \"weights.safetensors\")",
            ));
        }
        let damaged = |cause: String| {
            Error::unusable(
                format!("{shown} is no safetensors file, or is truncated or damaged ({cause})"),
                "copy it again; in a run folder, the other of best.safetensors and last.safetensors may be whole",
            )
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
        let convert = |(name, view): (&str, TensorView)| Ok((name.to_string(), stored(name, &view, path)?));
        let tensors: Tensors = file.iter().map(convert).collect::<Result<_>>()?;
        let notes = header.metadata().clone().unwrap_or_default();
        let state = notes.get(STATE).cloned();
        if let Some(state) = &state
            && notes.get(DIGEST) != Some(&digest(&tensors, state))
        {
            return Err(damaged("its digest does not match".into()));
        }
        Ok(Archive { path: path.into(), tensors, state })
    }
}

fn stored(name: &str, view: &TensorView, path: &Path) -> Result<Stored> {
    let values = match view.dtype() {
        Dtype::F32 => Values::F32(bytemuck::pod_collect_to_vec(view.data())),
        Dtype::I64 => Values::I64(bytemuck::pod_collect_to_vec(view.data())),
        other => {
            return Err(Error::unusable(
                format!("{}: {name} holds {other:?} values, and only F32 and I64 are read", path.display()),
                "convert it to float32 where it was made",
            ));
        }
    };
    Ok(Stored { shape: view.shape().to_vec(), values })
}
