//! Weights in files: torch's names, order and layout, so that PyTorch loads what we save and we load what it saved.

mod archive;
mod diff;
mod listing;
mod matching;
mod names;
pub mod onnx;
mod pickle;
mod report;
mod safetensors;
mod source;
mod torch;
mod values;
mod zip;

pub use archive::Archive;
pub use diff::{Diff, Difference, diff};
pub use listing::{BEST, Format, Listing, Place};
pub(crate) use matching::OPTIMISER;
pub use matching::{Transfer, fold, head, load, load_matching, meant_for, stem, tensors};
pub use report::{Matched, Skipped};
pub use safetensors::{encode, encode_weights};
pub use values::{Dtype, Stored, Tensors, Values};
