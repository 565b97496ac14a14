//! `roentgen weights export`: a network as an ONNX file.

use super::{
    inspect::network,
    output::{check_free, print, say},
};
use crate::{
    Error, Result,
    device::{DType, Device, cpu::Cpu},
    files::write_atomic,
    models::{self, Model},
    train::{Checkpoint, Config, RunState},
    weights::onnx,
};
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Arguments of `weights export`.
#[derive(clap::Args)]
pub struct Args {
    /// Checkpoint, folder of a run, or name of a backbone, whose initial weights are then written
    #[arg(value_name = "CHECKPOINT|MODEL")]
    what: String,
    /// The file to write
    #[arg(value_name = "OUT.onnx")]
    out: PathBuf,
    /// Side of the square images, in pixels [default: that of the run; 224 for a backbone]
    #[arg(long, value_name = "PX")]
    size: Option<usize>,
    /// Classes of the head of a backbone
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=65536))]
    classes: u32,
    /// Replace OUT.onnx if it is there
    #[arg(long)]
    force: bool,
}

/// Writes the file.
pub fn run(args: &Args) -> Result<()> {
    check_free(&args.out, args.force, [Path::new(&args.what)])?;
    let cpu = Cpu::new(usize::MAX);
    let known = network(&args.what, 1).is_ok();
    let (model, size, notes) = if known { initial(args, &cpu)? } else { trained(args, &cpu)? };
    Config { size, ..Config::default() }.check()?;
    let bytes = onnx::encode(&model, size, &notes)?;
    write_atomic(&args.out, &bytes)?;
    print(format!(
        "{}: {} for images of {size} px, {:.1} MiB\n",
        args.out.display(),
        model.name,
        bytes.len() as f64 / f64::from(1 << 20)
    ))
}

/// A network, the side of its images, and what to note in the file.
type Exported = (Model, usize, Vec<(&'static str, String)>);

fn initial(args: &Args, device: &Arc<dyn Device>) -> Result<Exported> {
    let Config { size, seed, .. } = Config::default();
    say("these are initial weights: the network has learnt nothing");
    let model = Model::new(&args.what, args.classes as usize, device, DType::F32, seed)?;
    let notes = vec![("model", args.what.clone())];
    Ok((model, args.size.unwrap_or(size), notes))
}

fn trained(args: &Args, device: &Arc<dyn Device>) -> Result<Exported> {
    let path = Path::new(&args.what);
    if !path.exists() {
        let names: Vec<_> = models::names().collect();
        let problem = format!("{} is neither a checkpoint nor a network", args.what);
        return Err(Error::unusable(problem, format!("a path, or one of: {}", names.join(", "))));
    }
    let checkpoint = Checkpoint::open(path)?;
    let RunState { config, classes, targets, inputs, .. } = &checkpoint.state;
    let size = args.size.unwrap_or(config.size);
    let mut notes = vec![
        ("model", config.model.clone()),
        ("size", size.to_string()),
        ("classes", json!(classes).to_string()),
        ("mean", json!(config.normalise.mean[..config.channels]).to_string()),
        ("std", json!(config.normalise.std[..config.channels]).to_string()),
    ];
    if !targets.is_none() {
        notes
            .extend([("target_mean", json!(targets.mean).to_string()), ("target_std", json!(targets.std).to_string())]);
    }
    if !inputs.is_none() {
        notes.extend([
            ("inputs", json!(config.columns.inputs).to_string()),
            ("input_mean", json!(inputs.mean).to_string()),
            ("input_std", json!(inputs.std).to_string()),
        ]);
    }
    Ok((checkpoint.model(device)?, size, notes))
}
