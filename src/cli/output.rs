//! Text to the user. A reader that has gone away, as `head` does, is no reason to panic.

use crate::{Error, Result, files::check_writable};
use std::{
    fmt::Display,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// A line on stderr: what goes on. If nobody can read it, nothing is lost.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Refuses `path` as the place of a file to write, before the work for it begins: where there is one already, unless `force`
/// allows to replace it and it is none of `inputs`, nor what a run needs in a folder among them; and where none can be written.
///
/// # Errors
/// Such a place.
pub fn check_free<'a>(path: &Path, force: bool, inputs: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    if let Ok(there) = path.canonicalize() {
        if !force {
            return Err(Error::unusable(format!("{} is already there", path.display()), "another name, or --force"));
        }
        let needed = ["best.safetensors", "last.safetensors", "manifest.csv"].iter().any(|name| there.ends_with(name));
        let read = |input: PathBuf| there == input || needed && there.parent() == Some(&input);
        if inputs.into_iter().filter_map(|input| input.canonicalize().ok()).any(read) {
            return Err(Error::unusable(format!("{} is read, too", path.display()), "another name"));
        }
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
