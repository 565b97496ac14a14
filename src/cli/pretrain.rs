//! `roentgen pretrain`: [`super::finetune`] with the study's recipes of pretraining as defaults.

use super::finetune;
use crate::{Result, train::Config};
use std::process::ExitCode;

/// Arguments of `pretrain`.
#[derive(clap::Args)]
#[group(skip)]
#[command(
    after_help = "The defaults in brackets are those of finetune. Here they are those of the RadiologyNET study, by network: size, \
    rate, batch, patience and looks at the validation split as docs/pretrain.md lists them; balanced classes, AdamW with a \
    decay of 1e-3 at a constant rate, 500 epochs at most, an eighth of the images each for validation and test. For --task \
    reconstruction: unet_reconstruction, Adam, no augmentation."
)]
pub struct Args {
    #[command(flatten)]
    training: finetune::Args,
    /// Only images of these modalities: short for --where modality=NAME,...
    #[arg(long, value_name = "NAME,...")]
    modalities: Option<String>,
}

/// Trains, and tells on stderr how it goes.
pub fn run(mut args: Args) -> Result<ExitCode> {
    if let Some(modalities) = &args.modalities {
        args.training.recipe.narrow(format!("modality={modalities}"));
    }
    finetune::train(&args.training, "pretrain", Config::pretraining_defaults)
}
