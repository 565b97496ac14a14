//! What is fuzzed: files of weights from bytes. Any panic is a defect, whatever the bytes.

use roentgen::weights::Listing;
use std::path::Path;

/// Reads `data` as a file of weights.
pub fn file(data: &[u8]) {
    if let Ok(listing) = Listing::of_bytes(data.to_vec(), Path::new("fuzzed")) {
        let _ = listing.read();
    }
}

/// What comes before the pickle of the values in a file of the legacy format.
pub const START: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";

/// Reads `data` as the pickle of the values in such a file, and what comes after it.
pub fn pickle(data: &[u8]) {
    file(&[START, data].concat());
}
