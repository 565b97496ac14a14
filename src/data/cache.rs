//! Decoded and scaled images in a folder, for later epochs and runs.
//!
//! What an image is called is a digest of its file's bytes and of all that was made of them, so nothing in the folder can
//! be stale and any number of runs may share it. A file that is cut off or altered fails its checksum and is made again.

use super::{
    decode::{Gray, Pixels},
    intensity::Intensity,
    source::{Record, Source},
};
use crate::{Error, Result};
use flate2::Crc;
use sha2::{Digest, Sha256};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// What the files begin with; the number changes with what is made of an image.
const MAGIC: &[u8; 8] = b"rgimage2";

/// Bytes before the pixels: magic, side, bits, checksum.
const HEADER: usize = 20;

/// The cache of the whole program, once it is chosen.
static PROGRAM: OnceLock<DiskCache> = OnceLock::new();

/// A folder of images.
#[derive(Clone, Debug, PartialEq)]
pub struct DiskCache {
    folder: PathBuf,
}

impl DiskCache {
    /// The cache in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn open(folder: &Path) -> Result<DiskCache> {
        fs::create_dir_all(folder).map_err(|e| Error::io("make the folder", folder, e))?;
        Ok(DiskCache { folder: folder.into() })
    }

    /// Makes this the cache of [`DiskCache::of_program`], unless there is one.
    pub fn install(self) {
        PROGRAM.get_or_init(|| self);
    }

    /// The cache that the program was started with, if any.
    pub fn of_program() -> Option<DiskCache> {
        PROGRAM.get().cloned()
    }

    /// [`Record::fitted`] of a record that has been verified, from the folder if it is there, else put there. What
    /// cannot be written is only made again next time.
    pub fn fitted(&self, record: &Record, size: usize, intensity: Intensity) -> Result<Gray> {
        let Some(print) = record.fingerprint else { return record.fitted(size, intensity) };
        let frame = match &record.source {
            Source::Frame(_, index) => index.to_string(),
            _ => "middle".into(),
        };
        let mut sha = Sha256::new();
        sha.update(MAGIC);
        sha.update(print.file);
        sha.update(format!("{intensity} {size} {frame}"));
        let name: String = sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        // Folders of some thousand files each, at two million.
        let path = self.folder.join(&name[..2]).join(&name[2..]);
        if let Some(gray) = fs::read(&path).ok().and_then(|bytes| decode(&bytes, size)) {
            return Ok(gray);
        }
        let gray = record.fitted(size, intensity)?;
        let _ = write(&path, &encode(&gray));
        Ok(gray)
    }
}

fn checksum(pixels: &[u8]) -> [u8; 4] {
    let mut crc = Crc::new();
    crc.update(pixels);
    crc.sum().to_le_bytes()
}

fn encode(gray: &Gray) -> Vec<u8> {
    let (bits, pixels) = match &gray.pixels {
        Pixels::U8(values) => (8u32, values.clone()),
        Pixels::U16(values) => (16, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
    };
    let side = (gray.width as u32).to_le_bytes();
    [MAGIC, &side[..], &bits.to_le_bytes(), &checksum(&pixels), &pixels].concat()
}

/// The square image of side `size` in `bytes`, if that is what they hold.
fn decode(bytes: &[u8], size: usize) -> Option<Gray> {
    let (header, pixels) = bytes.split_at_checked(HEADER)?;
    let side = u32::try_from(size).ok()?.to_le_bytes();
    let whole = header[..8] == *MAGIC && header[8..12] == side && header[16..] == checksum(pixels);
    let area = size * size;
    let pixels = match header[12..16] {
        [8, 0, 0, 0] if whole && pixels.len() == area => Pixels::U8(pixels.to_vec()),
        [16, 0, 0, 0] if whole && pixels.len() == 2 * area => {
            Pixels::U16(pixels.as_chunks().0.iter().map(|&pair| u16::from_le_bytes(pair)).collect())
        }
        _ => return None,
    };
    Some(Gray { width: size, height: size, pixels })
}

/// Writes a file that other threads and runs see whole or not at all. It is not synced: the checksum tells.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let temporary = format!("tmp.{}.{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let temporary = path.with_file_name(temporary);
    fs::create_dir_all(path.parent().expect("a file in a folder"))?;
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    written.inspect_err(|_| drop(fs::remove_file(&temporary)))
}
