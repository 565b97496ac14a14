//! Writing files that must never be found half written.

use crate::{Error, Result};
use std::{
    fs::{self, File},
    hash::{BuildHasher, RandomState},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::LazyLock,
};

/// Writes `bytes` to `path` so that a reader, a crash or a full disk sees either the old file or the new one, whole:
/// temporary file beside it, fsync, rename, fsync of the folder. On failure the old file is untouched.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic_with(path, |file| file.write_all(bytes))
}

/// The same for what `write` writes.
pub fn write_atomic_with(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
    let temporary = temporary_beside(path)?;
    let written = write_synced(&temporary, write)
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| sync_folder(folder_of(path)));
    written.map_err(|e| {
        // Best effort: the error to report is the one above.
        let _ = fs::remove_file(&temporary);
        Error::io("write", path, e)
    })
}

/// Refuses a `path` that could not be written to, before the work whose result goes there.
pub fn check_writable(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(Error::unusable(
            format!("cannot write {}: it is a folder", path.display()),
            "the name of a file in it",
        ));
    }
    let temporary = temporary_beside(path)?;
    let tried = File::create(&temporary).and_then(|_| fs::remove_file(&temporary));
    tried.map_err(|e| Error::io("write", path, e))
}

fn write_synced(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    write(&mut file)?;
    file.into_inner()?.sync_all()
}

/// A random number keeps two programs that write the same file, on one machine or several, from sharing a temporary one.
fn temporary_beside(path: &Path) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(Error::unusable(format!("cannot write {}: it names no file", path.display()), "give a file name"));
    };
    Ok(folder_of(path).join(format!(".{}.{:016x}.tmp", name.to_string_lossy(), *OF_PROGRAM)))
}

/// The standard library keys its hash maps at random.
static OF_PROGRAM: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()));

pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A rename is durable only once its folder is; other systems than Unix have no such call.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Removes the temporary files that writers killed half-way have left in `folder`. A failure is of no consequence.
pub fn remove_temporaries(folder: &Path) {
    let is_temporary = |name: &str| name.starts_with('.') && name.ends_with(".tmp");
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_temporary) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
