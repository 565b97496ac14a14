//! `roentgen inspect`.

use super::{machine, output::print, weights::dtype};
use crate::{
    Error, Result,
    device::{
        DType, Device,
        dry::{Dry, Like},
    },
    metrics::decimals,
    models::{self, Model},
    task::Monitor,
    trace::Trace,
    train::{Config, Forecast, Optimizer, Precision, RunState, forecast},
    weights::{Archive, Dtype, Tensors},
};
use std::{fmt::Write, path::Path, process::ExitCode, sync::Arc};

/// Arguments of `inspect`.
#[derive(clap::Args)]
pub struct Args {
    /// Name of a backbone, a file of weights, or the folder of a run
    #[arg(value_name = "MODEL|FILE")]
    what: String,
    #[command(flatten)]
    training: Training,
}

/// The training whose memory is forecast, for a backbone by name.
#[derive(clap::Args)]
#[command(next_help_heading = "For a backbone")]
struct Training {
    /// Classes of the head, or masks of a U-Net [default: 1000, or 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    classes: Option<u32>,
    /// Side of the square images, in pixels
    #[arg(long, value_name = "PX", default_value_t = 224)]
    size: usize,
    /// Images in a step of training
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch: usize,
    /// Where training would compute; it need not be here [default: cuda if there is a GPU, else cpu]
    #[arg(long, value_name = "DEVICE")]
    device: Option<Like>,
    /// Type of images and activations [default: bf16 on a GPU, f32 on the CPU]
    #[arg(long, value_name = "NAME")]
    precision: Option<Precision>,
    /// Optimiser
    #[arg(long, value_name = "NAME", default_value = "adamw")]
    optimizer: Optimizer,
}

/// Prints the layers of a network and the memory that training needs; or the tensors of a file, and the facts of the run
/// that a checkpoint belongs to.
pub fn run(args: Args) -> Result<ExitCode> {
    let mut text = String::new();
    let path = Path::new(&args.what);
    let usual = if models::is_dense(&args.what) == Some(true) { 1 } else { 1000 };
    if let Ok(model) = network(&args.what, args.training.classes.unwrap_or(usual) as usize) {
        describe_network(&mut text, &model, &args.training)?;
    } else if !path.exists() {
        let names: Vec<_> = models::names().collect();
        return Err(Error::unusable(
            format!("{} is neither a network nor a file", args.what),
            format!("a path, or one of: {}", names.join(", ")),
        ));
    } else {
        let archive = Archive::read(path)?;
        let state: Option<RunState> = archive.state.as_deref().and_then(|state| serde_json::from_str(state).ok());
        let device: Arc<dyn Device> = Dry::new(Like::Cpu);
        let model = state.as_ref().map(|state| state.network(&device, DType::F32)).transpose()?;
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

/// Network `name` on a device that holds no values.
///
/// # Errors
/// An unknown name.
pub fn network(name: &str, classes: usize) -> Result<Model> {
    Model::new(name, classes, &Dry::new(Like::Cpu), DType::F32, 0)
}

fn describe_network(text: &mut String, model: &Model, training: &Training) -> Result<()> {
    let &Training { size, batch, device, precision, optimizer, .. } = training;
    let task = models::usual_task(&model.name);
    let config = Config { model: model.name.clone(), task, size, batch, precision, optimizer, ..Config::default() };
    config.check()?;
    model.check_size(size)?;
    let trace = Trace::new(model, 1, size)?;
    layers(text, &trace, size);
    let like = device.unwrap_or(if machine::has_gpu() { Like::Cuda } else { Like::Cpu });
    memory(text, &forecast(&config, model.classes, like)?, batch, like);
    Ok(())
}

/// A line for each layer with parameters, and the totals.
fn layers(text: &mut String, trace: &Trace, size: usize) {
    let layers = trace.layers();
    let width = layers.iter().map(|layer| layer.name.len()).max().unwrap_or(0);
    let line = |text: &mut String, [layer, kernel, output, parameters, macs]: [&str; 5]| {
        let _ = writeln!(text, "{layer:width$}  {kernel:16} {output:>15} {parameters:>11} {macs:>13}");
    };
    line(text, ["layer", "kernel", "output", "parameters", "MACs"]);
    for layer in &layers {
        let (parameters, macs) = (layer.parameters.to_string(), layer.macs.to_string());
        line(text, [&layer.name, layer.kernel, &extents(&layer.output[1..]), &parameters, &macs]);
    }
    let macs: u64 = layers.iter().map(|layer| layer.macs).sum();
    let _ = writeln!(text, "\n{} parameters", trace.params.parameter_count());
    let used: usize = layers.iter().map(|layer| layer.parameters).sum();
    if used < trace.params.parameter_count() {
        let _ = writeln!(text, "{used} of them read outside of training");
    }
    let giga = decimals(macs as f64 / 1e9, 3);
    let _ = writeln!(text, "{giga} billion multiply-adds (MACs) an image of {size} px, in convolutions and products");
}

/// What the forecast does not count.
const NOT_COUNTED: &str = "not counted: the program, its threads' working memory, decoded images (up to 1 GiB); \
    on a GPU the context, the kernels and a validation batch";

fn memory(text: &mut String, forecast: &Forecast, batch: usize, like: Like) {
    let Forecast { precision, weights, optimiser, gradients, peak, held } = *forecast;
    let device = match like {
        Like::Cpu => "the CPU",
        Like::Cuda => "a GPU",
    };
    let mib = |bytes: usize| decimals(bytes as f64 / f64::from(1 << 20), 1);
    let _ = writeln!(text, "\ntraining on {device} in {}, {batch} images a step: MiB", precision.dtype().suffix());
    for (name, bytes) in [
        ("weights and statistics", weights),
        ("state of the optimiser", optimiser),
        ("activations and gradients", peak - weights - optimiser),
        ("all tensors at the fullest moment", peak),
        ("with blocks kept for reuse", held),
    ] {
        let _ = writeln!(text, "{name:33} {:>10}", mib(bytes));
    }
    let _ = writeln!(text, "the gradients alone are at most {}\n{NOT_COUNTED}", mib(gradients));
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
        let values: usize = shape.iter().product();
        let _ = writeln!(text, "{name:width$}  {:8}  {:>18}  {values:>10}", dtype.name(), extents(shape));
    }
}

fn extents(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ")
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
