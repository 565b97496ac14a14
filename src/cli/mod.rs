//! The command line: thin clothes around the library.

mod bench;
mod convert;
mod doctor;
mod evaluate;
mod export;
mod finetune;
mod inspect;
mod machine;
mod options;
mod output;
mod predict;
mod pretrain;
mod progress;
mod signals;
mod weights;

use crate::Result;
use clap::{Parser, Subcommand};
use output::say;
use std::process::ExitCode;

/// Fine-tune convolutional networks on radiology images.
#[derive(Parser)]
#[command(
    name = "roentgen",
    version,
    about,
    args_override_self = true,
    after_help = "For research; not a medical device, not for diagnosis."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a network on a folder or table of images, or go on with an interrupted run
    Finetune(Box<finetune::Args>),
    /// Train a network to start others from, by the study's recipes: balanced (pseudo-)classes, or reconstruction
    Pretrain(Box<pretrain::Args>),
    /// Measure a trained network on labelled images
    Evaluate(evaluate::Args),
    /// Score images with a trained network
    Predict(predict::Args),
    /// Turn an archive of DICOM and other images into PNGs with a table that names nobody
    Convert(convert::Args),
    /// List the layers of a network and the memory that training needs, or the tensors of a checkpoint
    Inspect(inspect::Args),
    /// Look into files of weights, convert, compare and export them
    Weights(weights::Args),
    /// Time training steps on random data
    Bench(bench::Args),
    /// Tell what there is to compute on, and why not a GPU
    Doctor(Box<doctor::Args>),
}

/// Runs the program on its arguments. Errors go to stderr, exit code 1; wrong usage exits with 2, an interruption with 130.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if cfg!(debug_assertions) {
        say("warning: this is a debug build, and slow; build with --release for work");
    }
    run(cli.command).unwrap_or_else(|e| {
        say(format!("error: {e}"));
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Finetune(args) => finetune::run(*args),
        Command::Pretrain(args) => pretrain::run(*args),
        Command::Evaluate(args) => evaluate::run(args),
        Command::Predict(args) => predict::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Weights(args) => weights::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Doctor(args) => doctor::run(*args),
    }
}
