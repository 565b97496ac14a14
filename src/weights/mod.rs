//! Weights in files: torch's names, order and layout, so that PyTorch loads what we save and we load what it saved.

mod archive;
mod matching;
pub mod onnx;

pub use archive::{Archive, Stored, Tensors, Values, encode};
pub use matching::{Matched, load, load_matching, tensors};
