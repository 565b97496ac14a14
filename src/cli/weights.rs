//! `roentgen weights`: files of weights.

use super::export;
use crate::Result;
use std::process::ExitCode;

/// Arguments of `weights`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Write a network as an ONNX file
    Export(export::Args),
}

/// Runs one of them.
pub fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Export(args) => export::run(&args),
    }
}
