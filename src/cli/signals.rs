//! Ctrl-C and its like.

use super::output::say;
use crate::{Error, Result};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Exit code after an interruption, as shells have it for SIGINT.
pub const INTERRUPTED: u8 = 130;

/// The first signal asks for an orderly end, by `interrupt` and saying `what` is going on; the second ends the program at once.
///
/// # Errors
/// A system without signals.
pub fn catch_signals(interrupt: &Arc<AtomicBool>, what: &'static str) -> Result<()> {
    let flag = interrupt.clone();
    let handler = move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(INTERRUPTED));
        }
        say(format!("\n{what}; once more to stop at once"));
    };
    ctrlc::set_handler(handler)
        .map_err(|e| Error::unusable(format!("cannot listen for signals: {e}"), "another system"))
}
