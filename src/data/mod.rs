//! From files to batches: decode, resize, list, split, augment, normalise, load.
//!
//! ```text
//! file -> decode (gray, 8 or 16 bit) -> fit (square, padded) -> [cache] -> augment -> normalise -> batch [n, s, s, 3]
//! ```
//!
//! [`Dataset`] lists the records of a folder, a CSV or an embedded sample; [`Dataset::verify`] reads each once;
//! [`split::assign`] says which are trained on; [`Loader`] turns them into batches. Every step is a function of its
//! inputs and a seed: order of the folder listing, number of workers and state of the cache change nothing.

pub mod augment;
pub mod decode;
mod folder;
mod layouts;
pub mod loader;
pub mod manifest;
pub mod normalise;
pub mod resize;
mod scaling;
pub mod source;
pub mod split;
mod table;
mod verify;

pub use augment::Augment;
pub use decode::{Gray, Pixels, decode};
pub use layouts::Layout;
pub use loader::{Batch, Epoch, Loader, LoaderOptions};
pub use normalise::Normalise;
pub use resize::fit;
pub use scaling::Scaling;
pub use source::{Dataset, Fingerprint, Raters, Record, Skipped, Source, Split, Truth};
pub use split::Fractions;
pub use table::Columns;

use crate::{Error, Result};
use std::{fs, path::Path};

/// Reads one image file as the network wants it, without augmentation: `[size, size, 3]`, the gray value repeated and
/// normalised. This is what [`Loader`] gives for the same file when it does not augment.
pub fn read_image(path: &Path, size: usize, normalise: &Normalise) -> Result<Vec<f32>> {
    let bytes = fs::read(path).map_err(|e| Error::io("read", path, e))?;
    let gray = fit(&decode(&bytes, &path.display().to_string())?, size);
    let mut image = vec![0.0; size * size * 3];
    normalise.apply(&gray.to_unit(), &mut image);
    Ok(image)
}
