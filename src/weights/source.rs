//! The bytes of a file of weights, wherever they lie, and what is wrong with them.

use crate::{Error, Result};
use flate2::read::MultiGzDecoder;
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};
use tempfile::{SpooledData, spooled_tempfile};

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
                "another file, if this holds no weights; else copy it again, or in a run folder take the other of \
                 best.safetensors and last.safetensors",
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

/// Bytes that can be read at any place, by several threads at once: a file, or a part of one.
pub(super) struct Source {
    backing: Backing,
    start: u64,
    len: u64,
}

enum Backing {
    File(File),
    Memory(Vec<u8>),
}

impl Source {
    /// The file at `path`.
    pub fn open(path: &Path) -> Result<Source> {
        File::open(path).and_then(Source::of_file).map_err(|e| Error::io("read", path, e))
    }

    fn of_file(file: File) -> io::Result<Source> {
        let len = file.metadata()?.len();
        Ok(Source { backing: Backing::File(file), start: 0, len })
    }

    /// These bytes.
    pub fn memory(bytes: Vec<u8>) -> Source {
        let len = bytes.len() as u64;
        Source { backing: Backing::Memory(bytes), start: 0, len }
    }

    /// Number of bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Fills `out` with the bytes from `at` on.
    pub fn read_at(&self, at: u64, out: &mut [u8]) -> std::result::Result<(), Fault> {
        self.check(at, out.len() as u64)?;
        let at = self.start + at;
        match &self.backing {
            Backing::File(file) => read_exact_at(file, at, out).map_err(Fault::from),
            Backing::Memory(bytes) => {
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
            return if tar { Ok((from_tar(inner)?, "in tar in gzip")) } else { Ok((inner, "in gzip")) };
        }
        if is_tar(&head) { Ok((from_tar(self)?, "in tar")) } else { Ok((self, "")) }
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
        let len = self.source.len().saturating_sub(self.at).min(out.len() as u64) as usize;
        if len == 0 {
            return Ok(0);
        }
        self.source.read_at(self.at, &mut out[..len]).map_err(|fault| match fault {
            Fault::Io(e) => e,
            _ => io::ErrorKind::UnexpectedEof.into(),
        })?;
        self.at += len as u64;
        Ok(len)
    }
}

impl Seek for Cursor<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.source.len().checked_add_signed(by),
        };
        // Beyond the end there is nothing to read, as in a file.
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
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
    spool.flush()?;
    match spool.into_inner() {
        SpooledData::InMemory(cursor) => Ok(Source::memory(cursor.into_inner())),
        SpooledData::OnDisk(file) => Ok(Source::of_file(file)?),
    }
}

fn is_tar(head: &[u8]) -> bool {
    head.get(257..262) == Some(b"ustar")
}

/// The part of a tar archive that is its one file of weights, told by its first bytes.
fn from_tar(source: Source) -> std::result::Result<Source, Fault> {
    let mut archive = tar::Archive::new(Cursor { source: &source, at: 0 });
    let mut found: Option<(String, u64, u64)> = None;
    // Raw: extended headers, which a decoder would gather in memory, are passed over like any other entry.
    for entry in archive.entries_with_seek()?.raw(true) {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let (start, len) = (entry.raw_file_position(), entry.size());
        let mut head = vec![];
        (&mut entry).take(16).read_to_end(&mut head)?;
        if !super::listing::is_weights(&head) {
            continue;
        }
        source.check(start, len)?;
        if let Some((first, ..)) = &found {
            return Err(Fault::Refused(format!("it holds two files of weights, {first} and {name}")));
        }
        found = Some((name, start, len));
    }
    let none = || Fault::Refused("the tar archive holds no file of weights".into());
    let (_, start, len) = found.ok_or_else(none)?;
    Ok(Source { start: source.start + start, len, ..source })
}
