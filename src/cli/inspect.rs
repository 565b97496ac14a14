//! `roentgen inspect`.

use super::{output::print, weights::dtype};
use crate::{
    Error, Result,
    device::{DType, cpu::Cpu},
    metrics::decimals,
    models::{self, Model},
    train::{RunState, checkpoint},
    weights::{Archive, Dtype, Tensors, tensors},
};
use std::{fmt::Write, path::Path, process::ExitCode};

/// Arguments of `inspect`.
#[derive(clap::Args)]
pub struct Args {
    /// Name of a backbone, a file of weights, or the folder of a run
    #[arg(value_name = "MODEL|FILE")]
    what: String,
    /// Classes of the head, for a backbone by name
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    classes: u32,
}

/// Prints the tensors of a network or a file, and the facts of the run that a checkpoint belongs to.
pub fn run(args: Args) -> Result<ExitCode> {
    let mut text = String::new();
    if models::names().any(|name| name == args.what) {
        let model = network(&args.what, args.classes as usize)?;
        list(&mut text, rows(&tensors(&model.params)?, names(&model)));
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
        let model = state.as_ref().map(|state| network(&state.config.model, state.classes.len())).transpose()?;
        // In the network's order where it is known, then what else there is.
        let known: Vec<&str> =
            model.iter().flat_map(names).filter(|name| archive.tensors.contains_key(*name)).collect();
        let others = archive.tensors.keys().map(String::as_str).filter(|name| !known.contains(name));
        list(&mut text, rows(&archive.tensors, known.iter().copied().chain(others)));
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

pub(super) fn network(name: &str, classes: usize) -> Result<Model> {
    Model::new(name, classes, &Cpu::new(usize::MAX), DType::F32, 0)
}

fn names(model: &Model) -> impl Iterator<Item = &str> {
    model.params.iter().map(|(_, entry)| entry.name.as_str())
}

/// A tensor in a list.
pub(super) struct Row<'a> {
    pub name: &'a str,
    pub dtype: Dtype,
    pub shape: &'a [usize],
}

fn rows<'a>(tensors: &'a Tensors, names: impl Iterator<Item = &'a str>) -> impl Iterator<Item = Row<'a>> {
    names.map(|name| Row { name, dtype: dtype(&tensors[name]), shape: &tensors[name].shape })
}

pub(super) fn list<'a>(text: &mut String, rows: impl Iterator<Item = Row<'a>>) {
    let rows: Vec<_> = rows.collect();
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let _ = writeln!(text, "{:width$}  {:8}  {:>18}  {:>10}", "name", "type", "shape", "values");
    for Row { name, dtype, shape } in rows {
        let extents: Vec<_> = shape.iter().map(usize::to_string).collect();
        let values: usize = shape.iter().product();
        let _ = writeln!(text, "{name:width$}  {:8}  {:>18}  {values:>10}", dtype.name(), extents.join(" x "));
    }
}

fn describe(text: &mut String, state: &RunState) {
    let RunState { config, classes, .. } = state;
    let data = config.data.as_ref().map_or("embedded sample".into(), |path| path.display().to_string());
    let best = state.best.map(|best| {
        let value = decimals(best.value, 4);
        format!("epoch {}, {} {value}", best.epoch, config.monitor.name())
    });
    for (name, value) in [
        ("model", config.model.clone()),
        ("classes", classes.join(", ")),
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
        let _ = writeln!(text, "{name:8} {value}");
    }
}
