//! What can go wrong for reasons outside the program: a file, a user, a machine. Each says what to do next.
//! Mistakes of the program itself (a wrong shape, a missing case) panic instead.

use std::{fmt, io, path::Path};

/// The one result type of the crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure with its cause in words and, where there is one, the remedy.
#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// The device has not enough memory left; `at` is the operation that asked for it.
    OutOfMemory {
        /// Bytes asked for.
        wanted: usize,
        /// Bytes that were free.
        free: usize,
        /// Operation that asked.
        at: &'static str,
    },
    /// The device failed in another way.
    Device(String),
    /// There was no room left to write a file, as told.
    Full(String),
    /// Input, configuration or environment that cannot be used: what is wrong, and what to do about it.
    Unusable {
        /// What is wrong, naming the file, option or value.
        problem: String,
        /// What the user can do about it.
        remedy: String,
    },
}

impl Error {
    /// An unusable input or setting: `problem` names it, `remedy` says what to do.
    pub fn unusable(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Error::Unusable { problem: problem.into(), remedy: remedy.into() }
    }

    /// An I/O failure while doing `what` (say, `"read"`) to `path`, with a remedy for the usual causes.
    pub fn io(what: &str, path: &Path, e: io::Error) -> Self {
        let problem = format!("cannot {what} {}: {e}", path.display());
        let remedy = match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                return Error::Full(problem);
            }
            io::ErrorKind::NotFound => "check the path",
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "choose a place you may access, or change its permissions"
            }
            io::ErrorKind::IsADirectory => "a file: this is a folder",
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                "another path: this, or a part of it, is a file where a folder is wanted"
            }
            io::ErrorKind::InvalidFilename => "a shorter name",
            _ => "check that the disk is mounted and healthy",
        };
        Error::unusable(problem, remedy)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::OutOfMemory { wanted, free, at } => write!(
                f,
                "out of memory in {at}: {} MiB wanted, {} MiB free\n  try: a smaller --batch or --size",
                wanted >> 20,
                free >> 20
            ),
            Error::Device(what) => write!(f, "the device failed: {what}"),
            Error::Full(problem) => {
                write!(
                    f,
                    "{problem}\n  try: free some space, then give the command again (a training run: with --resume)"
                )
            }
            Error::Unusable { problem, remedy } => write!(f, "{problem}\n  try: {remedy}"),
        }
    }
}

impl std::error::Error for Error {}
