//! `roentgen pretrain`: [`super::finetune`] with the study's recipes of pretraining as defaults.

use super::finetune;
use crate::{Error, Result, task::Task, train::Config};
use serde::Deserialize;
use std::process::ExitCode;
use toml::{Table, Value};

/// Arguments of `pretrain`.
#[derive(clap::Args)]
#[group(skip)]
#[command(
    after_help = "Defaults are those of the RadiologyNET study, by network: size, rate, patience and looks at the \
    validation split as docs/pretrain.md lists them; balanced classes, AdamW with a decay of 1e-3 at a constant rate, 500 \
    epochs at most. For --task reconstruction: unet_reconstruction, Adam, no augmentation."
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
    finetune::train(&args.training, "pretrain", defaults)
}

/// The defaults beside what is `chosen`.
fn defaults(chosen: &Table) -> Result<Config> {
    let task = chosen.get("task").map_or(Ok(Task::default()), |name| Task::deserialize(name.clone()));
    let task = task.map_err(|e| Error::unusable(format!("the task cannot be used: {e}"), "--task"))?;
    let model = chosen.get("model").and_then(Value::as_str);
    Ok(match chosen.contains_key("data") {
        true => Config::for_pretraining(model, task),
        false => Config::for_pretraining_on_sample(model, task),
    })
}
