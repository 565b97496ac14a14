//! The bytes of a file of weights, wherever they lie, and what is wrong with them.

use crate::{Error, Result};
use flate2::read::MultiGzDecoder;
use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};
use tempfile::{SpooledTempFile, spooled_tempfile};

/// Why the contents of a file cannot be used.
#[derive(Debug)]
pub(super) enum Fault {
    /// The bytes end before what they announce.
    Short,
    /// They are not what they should be.
    Damaged(String),
    /// They are well formed, but ask for what weights do not need, or what is not supported.
    Refused(String),
    /// They could not be read.
    Io(io::Error),
}

impl Fault {
    /// The error of file `path`, which seems to be of this format.
    pub fn of(self, path: &Path, format: &str) -> Error {
        let shown = path.display();
        let damaged = |cause: &str| {
            Error::unusable(
                format!("{shown} is no {format} file, or is truncated or damaged ({cause})"),
                "copy it again; in a run folder, the other of best.safetensors and last.safetensors may be whole",
            )
        };
        match self {
            Fault::Short => damaged("it ends too soon"),
            Fault::Damaged(cause) => damaged(&cause),
            Fault::Refused(cause) => Error::unusable(
                format!("{shown} is not read: {cause}"),
                "only if you trust it, load it in Python and save the weights alone: torch.save(model.state_dict(), FILE)",
            ),
            Fault::Io(e) => Error::io("read", path, e),
        }
    }
}

/// What reading from decoders gives: an early or malformed end is the file's fault, not the disk's.
impl From<io::Error> for Fault {
    fn from(e: io::Error) -> Fault {
        use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
        match e.kind() {
            UnexpectedEof => Fault::Short,
            InvalidData | InvalidInput | Other => Fault::Damaged(e.to_string()),
            _ => Fault::Io(e),
        }
    }
}

/// Bytes that can be read at any place, by several threads at once.
pub(super) enum Source {
    File(File, u64),
    Memory(Vec<u8>),
}

impl Source {
    /// The file at `path`.
    pub fn open(path: &Path) -> Result<Source> {
        let open = || {
            let file = File::open(path)?;
            let len = file.metadata()?.len();
            Ok(Source::File(file, len))
        };
        open().map_err(|e| Error::io("read", path, e))
    }

    /// Number of bytes.
    pub fn len(&self) -> u64 {
        match self {
            Source::File(_, len) => *len,
            Source::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Fills `out` with the bytes from `at` on.
    pub fn read_at(&self, at: u64, out: &mut [u8]) -> std::result::Result<(), Fault> {
        self.check(at, out.len() as u64)?;
        match self {
            Source::File(file, _) => read_exact_at(file, at, out).map_err(Fault::from),
            Source::Memory(bytes) => {
                out.copy_from_slice(&bytes[at as usize..][..out.len()]);
                Ok(())
            }
        }
    }

    /// The `len` bytes from `at` on. Memory is asked for only if the file is that long.
    pub fn bytes(&self, at: u64, len: u64) -> std::result::Result<Vec<u8>, Fault> {
        self.check(at, len)?;
        let mut bytes = vec![0; len as usize];
        self.read_at(at, &mut bytes)?;
        Ok(bytes)
    }

    fn check(&self, at: u64, len: u64) -> std::result::Result<(), Fault> {
        if at.checked_add(len).is_some_and(|end| end <= self.len()) { Ok(()) } else { Err(Fault::Short) }
    }

    /// What is inside a gzip or tar wrapping, if there is one, else itself; and words for the wrapping.
    pub fn unwrapped(self) -> std::result::Result<(Source, &'static str), Fault> {
        let head = self.head()?;
        if head.starts_with(&[0x1f, 0x8b]) {
            // A tar inside shows only once some of it is unpacked.
            let inner = spool(&mut Bounded::new(MultiGzDecoder::new(Cursor { source: &self, at: 0 }), self.len()))?;
            let tar = is_tar(&inner.head()?);
            return if tar { Ok((from_tar(&inner)?, "in tar in gzip")) } else { Ok((inner, "in gzip")) };
        }
        if is_tar(&head) { Ok((from_tar(&self)?, "in tar")) } else { Ok((self, "")) }
    }

    /// The first bytes: enough to tell formats apart.
    pub fn head(&self) -> std::result::Result<Vec<u8>, Fault> {
        self.bytes(0, self.len().min(512))
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, at: u64, out: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, at)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut at: u64, mut out: &mut [u8]) -> io::Result<()> {
    while !out.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, out, at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        at += read as u64;
        out = &mut out[read..];
    }
    Ok(())
}

/// Reads a source from front to back.
struct Cursor<'a> {
    source: &'a Source,
    at: u64,
}

impl Read for Cursor<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = (self.source.len() - self.at).min(out.len() as u64) as usize;
        self.source.read_at(self.at, &mut out[..len]).map_err(|fault| match fault {
            Fault::Io(e) => e,
            _ => io::ErrorKind::UnexpectedEof.into(),
        })?;
        self.at += len as u64;
        Ok(len)
    }
}

/// Weights are noise and hardly shrink; what unpacks to much more than this many times its size is no file of weights.
const MOST_EXPANSION: u64 = 32;

/// Zeros in a small file may shrink further.
const SLACK: u64 = 1 << 20;

/// A decoder that stops where its output is out of proportion to its input.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Bounded<R> {
    fn new(inner: R, packed: u64) -> Bounded<R> {
        Bounded { inner, left: packed.saturating_mul(MOST_EXPANSION) + SLACK }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(out)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::other(format!("it unpacks to more than {MOST_EXPANSION} times its size, as no weights do"))
        })?;
        Ok(read)
    }
}

/// Unpacked bytes above this go to a temporary file: checkpoints are mostly optimiser state, which is never looked at.
const MOST_IN_MEMORY: usize = 8 << 20;

/// All that `reader` gives.
fn spool(reader: &mut impl Read) -> std::result::Result<Source, Fault> {
    let mut spool = spooled_tempfile(MOST_IN_MEMORY);
    io::copy(reader, &mut spool)?;
    settle(spool)
}

fn settle(mut spool: SpooledTempFile) -> std::result::Result<Source, Fault> {
    spool.flush()?;
    match spool.into_inner() {
        tempfile::SpooledData::InMemory(cursor) => Ok(Source::Memory(cursor.into_inner())),
        tempfile::SpooledData::OnDisk(file) => {
            let len = file.metadata()?.len();
            Ok(Source::File(file, len))
        }
    }
}

fn is_tar(head: &[u8]) -> bool {
    head.get(257..262) == Some(b"ustar")
}

/// The one file of weights in a tar archive, told by its first bytes.
fn from_tar(source: &Source) -> std::result::Result<Source, Fault> {
    let mut archive = tar::Archive::new(Cursor { source, at: 0 });
    let mut found: Option<(String, Source)> = None;
    // Raw: extended headers, which a decoder would gather in memory, are passed over like any other entry.
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut head = vec![];
        (&mut entry).take(16).read_to_end(&mut head)?;
        if !super::listing::is_weights(&head) {
            continue;
        }
        if let Some((first, _)) = &found {
            return Err(Fault::Refused(format!("it holds two files of weights, {first} and {name}")));
        }
        let size = entry.size();
        let inner = spool(&mut head.as_slice().chain(entry))?;
        if inner.len() != size {
            return Err(Fault::Short);
        }
        found = Some((name, inner));
    }
    let none = || Fault::Refused("the tar archive holds no file of weights".into());
    found.map(|(_, inner)| inner).ok_or_else(none)
}
