//! Text to the user. A reader that has gone away, as `head` does, is no reason to panic.

use crate::{Error, Result, files::check_writable};
use std::{
    fmt::Display,
    io::{self, Write},
    path::Path,
};

/// A line on stderr: what goes on. If nobody can read it, nothing is lost.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Refuses `path` as the place of a file to write, before the work for it begins: where there is one already, unless `force`
/// allows to replace it, and where none can be written.
///
/// # Errors
/// Such a place.
pub fn check_free(path: &Path, force: bool) -> Result<()> {
    if path.exists() && !force {
        return Err(Error::unusable(format!("{} is already there", path.display()), "another name, or --force"));
    }
    check_writable(path)
}

/// Text on stdout: what was asked for.
///
/// # Errors
/// A stdout that cannot be written to, other than a reader that has left early.
pub fn print(text: impl Display) -> Result<()> {
    let mut out = io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Error::io("write to", Path::new("stdout"), e)),
        _ => Ok(()),
    }
}
