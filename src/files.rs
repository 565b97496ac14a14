//! Writing files that must never be found half written.

use crate::{Error, Result};
use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
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

fn write_synced(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    write(&mut file)?;
    file.into_inner()?.sync_all()
}

/// The process id keeps two programs that write the same file from sharing a temporary one.
fn temporary_beside(path: &Path) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(Error::unusable(format!("cannot write {}: it names no file", path.display()), "give a file name"));
    };
    Ok(folder_of(path).join(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id())))
}

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
