//! Text to the user. A reader that has gone away, as `head` does, is no reason to panic.

use crate::{Error, Result};
use std::{
    fmt::Display,
    io::{self, Write},
    path::Path,
};

/// A line on stderr: what goes on. If nobody can read it, nothing is lost.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
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
