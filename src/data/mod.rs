//! From files to batches: decode, resize, list, split, augment, normalise, load.
//!
//! ```text
//! file -> scan (format, header) -> frame (as stored) -> intensity (gray, 8 or 16 bit) -> fit (square, padded)
//!      -> [cache] -> batch [n, s, s], with what is to be varied -> on the device: vary, normalise
//! ```
//!
//! [`Dataset`] lists the records of a folder, a CSV or an embedded sample; [`Dataset::verify`] reads each once;
//! [`split::assign`] says which are trained on; [`Loader`] turns them into batches. Every step is a function of its
//! inputs and a seed: order of the folder listing, number of workers and state of the cache change nothing.

pub mod archive;
pub mod augment;
mod batch;
mod cache;
pub mod decode;
pub mod dicom;
mod folder;
pub mod intensity;
mod layouts;
pub mod loader;
mod luna;
pub mod manifest;
mod metaimage;
mod nifti;
pub mod normalise;
pub mod resize;
pub mod sampling;
mod scaling;
pub mod scan;
pub mod source;
pub mod split;
mod survey;
mod table;
mod verify;
pub mod volume;

pub use augment::{Augment, Geometry};
pub use batch::Batch;
pub use cache::DiskCache;
pub use decode::{Gray, Pixels};
pub use folder::is_image_file;
pub use intensity::Intensity;
pub use layouts::Layout;
pub use loader::{Epoch, Loader, LoaderOptions};
pub use normalise::Normalise;
pub use resize::{fit, fit_plain};
pub use sampling::Sampling;
pub use scaling::Scaling;
pub use scan::{Facts, Frame, Scan};
pub use source::{Dataset, Extent, Fingerprint, Raters, Record, Skipped, Source, Split, Truth};
pub use split::Fractions;
pub use survey::{Spread, Survey};
pub use table::Columns;
pub(crate) use table::number;

use crate::Result;

/// Decodes the bytes of an image file of any format that is read: its middle frame, as [`Intensity::Auto`] shows it.
/// `name` is how the errors call the file.
pub fn decode(bytes: &[u8], name: &str) -> Result<Gray> {
    let scan = Scan::open(bytes, name)?;
    scan.frame(scan.middle())?.render(Intensity::Auto, name)
}
