//! `roentgen inspect`.

use super::output::print;
use crate::{
    Error, Result,
    device::{DType, Device, cpu::Cpu},
    metrics::decimals,
    models::{self, Model},
    task::Monitor,
    train::{RunState, checkpoint},
    weights::{Archive, Tensors, tensors},
};
use std::{fmt::Write, path::Path, process::ExitCode, sync::Arc};

/// Arguments of `inspect`.
#[derive(clap::Args)]
pub struct Args {
    /// Name of a backbone, a safetensors file, or the folder of a run
    #[arg(value_name = "MODEL|FILE")]
    what: String,
    /// Classes of the head, for a backbone by name
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    classes: u32,
}

/// Prints the tensors of a network or a file, and the facts of the run that a checkpoint belongs to.
pub fn run(args: Args) -> Result<ExitCode> {
    let mut text = String::new();
    if models::is_dense(&args.what).is_some() {
        let model = Model::new(&args.what, args.classes as usize, &Cpu::new(usize::MAX), DType::F32, 0)?;
        list(&mut text, &tensors(&model.params)?, names(&model));
        let _ = writeln!(text, "\n{} parameters", model.params.parameter_count());
    } else {
        let path = checkpoint::file_of(Path::new(&args.what));
        if !path.exists() {
            let names: Vec<_> = models::names().collect();
            return Err(Error::unusable(
                format!("{} is neither a backbone nor a file", args.what),
                format!("a path, or one of: {}", names.join(", ")),
            ));
        }
        let archive = Archive::read(&path)?;
        let state: Option<RunState> = archive.state.as_deref().and_then(|state| serde_json::from_str(state).ok());
        let device: Arc<dyn Device> = Cpu::new(usize::MAX);
        let model = state.as_ref().map(|state| state.network(&device, DType::F32)).transpose()?;
        // In the network's order where it is known, then what else there is.
        let known: Vec<&str> =
            model.iter().flat_map(names).filter(|name| archive.tensors.contains_key(*name)).collect();
        let others = archive.tensors.keys().map(String::as_str).filter(|name| !known.contains(name));
        list(&mut text, &archive.tensors, known.iter().copied().chain(others));
        let values: usize = archive.tensors.values().map(|stored| stored.shape.iter().product::<usize>()).sum();
        let _ = writeln!(text, "\n{} tensors, {values} values", archive.tensors.len());
        if let (Some(state), Some(model)) = (&state, &model) {
            let _ = writeln!(text, "{} parameters\n", model.params.parameter_count());
            describe(&mut text, state);
        }
    }
    print(text)?;
    Ok(ExitCode::SUCCESS)
}

fn names(model: &Model) -> impl Iterator<Item = &str> {
    model.params.iter().map(|(_, entry)| entry.name.as_str())
}

fn list<'a>(text: &mut String, tensors: &Tensors, names: impl Iterator<Item = &'a str>) {
    let names: Vec<_> = names.collect();
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
    let _ = writeln!(text, "{:width$}  {:>18}  {:>10}", "name", "shape", "values");
    for name in names {
        let shape = &tensors[name].shape;
        let extents: Vec<_> = shape.iter().map(usize::to_string).collect();
        let values: usize = shape.iter().product();
        let _ = writeln!(text, "{name:width$}  {:>18}  {values:>10}", extents.join(" x "));
    }
}

fn describe(text: &mut String, state: &RunState) {
    let RunState { config, classes, .. } = state;
    let data = config.data.as_ref().map_or("embedded sample".into(), |path| path.display().to_string());
    let best = state.best.as_ref().map(|best| {
        let value = decimals(best.value, 4);
        let monitor = config.monitor().map_or("", Monitor::name);
        format!("epoch {}, {monitor} {value}", best.epoch)
    });
    for (name, value) in [
        ("model", config.model.clone()),
        ("task", config.task.to_string()),
        (config.task.noun(), classes.join(", ")),
        (
            "images",
            format!(
                "{} px, normalised by mean {:?}, std {:?}",
                config.size, config.normalise.mean, config.normalise.std
            ),
        ),
        ("data", data),
        ("trained", format!("{} of {} epochs, {} steps", state.epoch, config.epochs, state.step)),
        ("best", best.unwrap_or_else(|| "none yet".into())),
    ] {
        let _ = writeln!(text, "{name:10} {value}");
    }
}
