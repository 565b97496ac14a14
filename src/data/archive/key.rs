//! Names of patients, studies and files that tell nothing without the key.

use crate::{Error, Result, files};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::Path,
};

/// Bytes of a key that is made.
const LENGTH: usize = 32;

/// Fewest characters of a key that is accepted.
const SHORTEST: usize = 32;

/// Bytes of a hash that are kept: two of ten million images meet with a chance of 10⁻²⁵.
const KEPT: usize = 16;

/// The secret that hashes are made with.
pub struct Key(Vec<u8>);

impl Key {
    /// The key in the file at `path`: its text. If there is none it is made, readable by its owner alone.
    ///
    /// # Errors
    /// A file that cannot be read or made, or holds less than a key.
    pub fn open_or_make(path: &Path) -> Result<Key> {
        match fs::read(path) {
            Ok(bytes) => {
                let text = bytes.trim_ascii();
                if text.len() < SHORTEST {
                    let problem = format!("the key in {} is shorter than {SHORTEST} characters", path.display());
                    return Err(Error::unusable(problem, "another --key; one that does not exist is made"));
                }
                Ok(Key(text.to_vec()))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Key::make(path).map_err(|e| Error::io("write", path, e)),
            Err(e) => Err(Error::io("read", path, e)),
        }
    }

    fn make(path: &Path) -> io::Result<Key> {
        let mut random = [0; LENGTH];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let text = hex(&random);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        files::sync_folder(files::folder_of(path))?;
        Ok(Key(text.into_bytes()))
    }

    /// HMAC-SHA-256 (RFC 2104) of `what` and the value, cut to 128 bits, in hex; `what` keeps a patient from having
    /// the hash of a study of the same number.
    pub fn hash(&self, what: &str, value: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length will do");
        mac.update(what.as_bytes());
        mac.update(&[0]);
        mac.update(value);
        hex(&mac.finalize().into_bytes()[..KEPT])
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
