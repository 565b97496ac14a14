//! Safetensors files: an 8-byte length, a JSON header of names, types, shapes and offsets, then the values.

use super::{
    listing::{Bytes, Listing, Place},
    source::{Fault, Source},
    values::{Dtype, Stored, Tensors, Values},
};
use ::safetensors::{Dtype as Theirs, tensor::Metadata};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Keys of the header's metadata: what wrote the values and what their digest is.
const STATE: &str = "roentgen";
const DIGEST: &str = "sha256";

/// Bytes of the length.
const LEN: u64 = 8;

/// Bytes of the header at most, as the format has it.
const MOST_HEADER: u64 = 100_000_000;

/// The file as bytes: the same for the same tensors and state. `state` is a JSON text that goes into the metadata, and
/// a digest over everything guards the file against damage that leaves its length intact.
pub fn encode(tensors: &Tensors, state: &str) -> Vec<u8> {
    write(tensors, json!({ "format": "pt", STATE: state, DIGEST: digest(tensors, state) }))
}

/// The file of weights alone, as bytes.
pub fn encode_weights(tensors: &Tensors) -> Vec<u8> {
    write(tensors, json!({ "format": "pt" }))
}

fn write(tensors: &Tensors, metadata: Value) -> Vec<u8> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), metadata);
    // Eight-byte values first, so that every tensor is aligned to its type.
    let wide = |(_, stored): &(&String, &Stored)| matches!(stored.values, Values::I64(_));
    let (wide, narrow): (Vec<_>, Vec<_>) = tensors.iter().partition(wide);
    let ordered = || wide.iter().chain(&narrow);
    let mut offset = 0;
    for (name, stored) in ordered() {
        let end = offset + stored.values.bytes().len();
        let dtype = match stored.values {
            Values::F32(_) => "F32",
            Values::I64(_) => "I64",
        };
        let place = json!({ "dtype": dtype, "shape": stored.shape, "data_offsets": [offset, end] });
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

pub(super) fn digest(tensors: &Tensors, state: &str) -> String {
    let mut sha = Sha256::new();
    sha.update(state);
    for (name, stored) in tensors {
        sha.update(format!("\0{name}\0{:?}\0", stored.shape));
        sha.update(stored.values.bytes());
    }
    sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a file holds. That its tensors neither overlap nor leave gaps is checked by the crate.
pub(super) fn read(source: &Source) -> Result<Listing, Fault> {
    let mut len = [0; LEN as usize];
    source.read_at(0, &mut len)?;
    let len = u64::from_le_bytes(len);
    if len > MOST_HEADER {
        return Err(Fault::Damaged("its header is too long".into()));
    }
    let header = source.bytes(LEN, len)?;
    let damaged = |e: serde_json::Error| Fault::Damaged(e.to_string());
    let metadata: Metadata = serde_json::from_slice(&header).map_err(damaged)?;
    if LEN + len + metadata.data_len() as u64 != source.len() {
        return Err(Fault::Damaged("its length is not what its header says".into()));
    }
    let mut listing = Listing::default();
    if let Some(notes) = metadata.metadata() {
        (listing.state, listing.digest) = (notes.get(STATE).cloned(), notes.get(DIGEST).cloned());
    }
    for (name, info) in metadata.tensors() {
        let dtype =
            supported(info.dtype).ok_or_else(|| Fault::Refused(format!("{name} holds {} values", info.dtype)))?;
        let (start, end) = info.data_offsets;
        let strides = Place::packed(&info.shape);
        let place = Place { dtype, shape: info.shape.clone(), storage: listing.storages.len(), offset: 0, strides };
        listing.storages.push(Bytes { at: LEN + len + start as u64, len: (end - start) as u64, crc: 0 });
        listing.places.insert(name, place);
    }
    Ok(listing)
}

fn supported(dtype: Theirs) -> Option<Dtype> {
    Some(match dtype {
        Theirs::F64 => Dtype::F64,
        Theirs::F32 => Dtype::F32,
        Theirs::F16 => Dtype::F16,
        Theirs::BF16 => Dtype::BF16,
        Theirs::I64 => Dtype::I64,
        Theirs::I32 => Dtype::I32,
        Theirs::I16 => Dtype::I16,
        Theirs::I8 => Dtype::I8,
        Theirs::U8 => Dtype::U8,
        Theirs::BOOL => Dtype::Bool,
        _ => return None,
    })
}
