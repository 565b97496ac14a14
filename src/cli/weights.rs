//! `roentgen weights`: look into files of weights, convert, compare and export them.

use super::{
    export,
    inspect::{Row, list},
    output::{check_free, print, say},
};
use crate::{
    Error, Result,
    device::{DType, cpu::Cpu},
    files::write_atomic,
    metrics::decimals,
    models::Model,
    train::glob,
    weights::{self, Archive, Dtype, Listing, Tensors, Transfer},
};
use std::{
    collections::BTreeMap,
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Arguments of `weights`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List format and tensors of a file
    Inspect(Inspect),
    /// Write the weights of a file as safetensors
    Convert(Convert),
    /// Compare two files tensor by tensor
    Diff(Diff),
    /// Write a network as an ONNX file
    Export(export::Args),
}

#[derive(clap::Args)]
struct Inspect {
    /// Safetensors, .pth (zip or legacy), or either in gzip or tar; or the folder of a run
    file: PathBuf,
    /// Tell what of this backbone the file would fill, and by which names
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

#[derive(clap::Args)]
struct Convert {
    /// Safetensors, .pth (zip or legacy), or either in gzip or tar; or the folder of a run
    file: PathBuf,
    /// Safetensors file to write
    out: PathBuf,
    /// Write torchvision's names for this backbone, and only its tensors
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Refuse a file that does not fill the backbone, or holds anything else
    #[arg(long, requires = "model")]
    strict: bool,
    /// Fold the first convolution to this many channels
    #[arg(long, value_name = "N", requires = "model", value_parser = clap::value_parser!(u16).range(1..))]
    channels: Option<u16>,
    /// Replace OUT if it is there
    #[arg(long)]
    force: bool,
}

#[derive(clap::Args)]
struct Diff {
    /// One file, or the folder of a run
    a: PathBuf,
    /// The other
    b: PathBuf,
    /// Compare only tensors whose names match, say 'layer1.*'; may be given several times
    #[arg(long, value_name = "GLOB")]
    only: Vec<String>,
}

/// Runs one of them.
pub fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Inspect(args) => inspect(&args)?,
        Command::Convert(args) => convert(&args)?,
        Command::Diff(args) => diff(&args)?,
        Command::Export(args) => export::run(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn inspect(args: &Inspect) -> Result<()> {
    let listing = Listing::open(&args.file)?;
    let mut text = String::new();
    let format = [listing.format.name(), listing.wrapping].join(" ");
    let _ = writeln!(text, "format   {}", format.trim_end());
    if !listing.container.is_empty() {
        let _ = writeln!(text, "weights  under {}", listing.container);
    }
    if !listing.beside.is_empty() {
        let _ = writeln!(text, "beside   {} (not read)", listing.beside.join(", "));
    }
    let _ = writeln!(text);
    let places = &listing.places;
    list(&mut text, places.iter().map(|(name, place)| Row { name, dtype: place.dtype, shape: &place.shape }));
    let mut types: BTreeMap<&str, usize> = BTreeMap::new();
    places.values().for_each(|place| *types.entry(place.dtype.name()).or_default() += 1);
    let types: Vec<_> = types.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let values: usize = places.values().map(|place| place.len()).sum();
    let bytes: usize = places.values().map(|place| place.len() * place.dtype.size()).sum();
    let _ = writeln!(text, "\n{} tensors ({}), {values} values, {bytes} bytes", places.len(), types.join(", "));
    if let Some(name) = &args.model {
        let (_, matched) = fill(name, &listing.read()?, Transfer { copy_head: true, fold_stem: true, strict: false })?;
        let _ = writeln!(text, "\n{name}: {}", matched.summary());
        text.extend(matched.table().iter().map(|line| format!("{line}\n")));
    }
    print(text)
}

fn network(name: &str, classes: usize) -> Result<Model> {
    Model::new(name, classes, &Cpu::new(usize::MAX), DType::F32, 0)
}

/// The tensors of backbone `name` that `archive` fills, and what became of all. The head is as wide as the file's.
fn fill(name: &str, archive: &Archive, transfer: Transfer) -> Result<(Tensors, weights::Matched)> {
    let probe = network(name, 1)?;
    let classes = weights::head(&probe.params).iter().find_map(|head| {
        let stored = weights::meant_for(archive, head)?;
        stored.shape.first().copied().filter(|classes| *classes > 0)
    });
    let model = match classes {
        Some(classes) => network(name, classes)?,
        None => probe,
    };
    let matched = weights::load_matching(&model.params, archive, transfer)?;
    let mut tensors = weights::tensors(&model.params)?;
    // What the file does not have is not made up.
    matched.unfilled.iter().for_each(|(name, _)| drop(tensors.remove(name)));
    Ok((tensors, matched))
}

fn convert(args: &Convert) -> Result<()> {
    check_free(&args.out, args.force, [&*args.file])?;
    let archive = Archive::read(&args.file)?;
    let tensors = match &args.model {
        Some(name) => {
            let transfer = Transfer { copy_head: true, fold_stem: args.channels.is_some(), strict: args.strict };
            let (mut tensors, matched) = fill(name, &archive, transfer)?;
            say(format!("{}: {}", args.file.display(), matched.summary()));
            matched.short_table().into_iter().for_each(say);
            if let Some(channels) = args.channels {
                fold_stem(name, &mut tensors, channels.into())?;
            }
            tensors
        }
        None => archive.tensors,
    };
    write_atomic(&args.out, &weights::encode_weights(&tensors))?;
    print(format!("{}: {} tensors\n", args.out.display(), tensors.len()))
}

fn fold_stem(name: &str, tensors: &mut Tensors, channels: usize) -> Result<()> {
    let model = network(name, 1)?;
    let stem = weights::stem(&model.params).expect("a backbone begins with a convolution");
    match tensors.get_mut(stem) {
        Some(filter) if filter.shape[1] != channels => {
            say(format!("folded    {stem} from {} to {channels} channels", filter.shape[1]));
            *filter = weights::fold(filter, channels);
            Ok(())
        }
        Some(_) => Ok(()),
        None => Err(Error::unusable(format!("there is no {stem} to fold"), "leave --channels out")),
    }
}

/// The tensors of a file whose names match.
fn wanted(path: &Path, only: &[String]) -> Result<Tensors> {
    let mut tensors = Archive::read(path)?.tensors;
    tensors.retain(|name, _| only.is_empty() || only.iter().any(|pattern| glob::matches(pattern, name)));
    if tensors.is_empty() {
        return Err(Error::unusable(format!("{} has no such tensor", path.display()), "other patterns for --only"));
    }
    Ok(tensors)
}

fn diff(args: &Diff) -> Result<()> {
    let (a, b) = (wanted(&args.a, &args.only)?, wanted(&args.b, &args.only)?);
    let diff = weights::diff(&a, &b);
    let mut text = String::new();
    for (path, names) in [(&args.a, &diff.only_first), (&args.b, &diff.only_second)] {
        text.extend(names.iter().map(|name| format!("only in {}: {name}\n", path.display())));
    }
    for (name, a, b) in &diff.unlike {
        let _ = writeln!(text, "unlike: {name} is {a:?} in one and {b:?} in the other, or of another type");
    }
    let width = diff.differing.iter().map(|found| found.name.len()).max().unwrap_or(0);
    if width > 0 {
        let _ = writeln!(
            text,
            "{:width$}  {:>10}  {:>10}  {:>12}  {:>12}",
            "name", "differ", "values", "largest", "relative"
        );
    }
    for found in &diff.differing {
        let (absolute, relative) = (found.absolute, found.relative);
        let _ = writeln!(
            text,
            "{:width$}  {:>10}  {:>10}  {absolute:>12.3e}  {relative:>12.3e}",
            found.name, found.count, found.len
        );
    }
    let largest = diff.differing.iter().map(|found| found.absolute).fold(0.0, f64::max);
    let _ = writeln!(
        text,
        "{} tensors the same, {} differ by up to {}, {} unlike, {} only in one",
        diff.same,
        diff.differing.len(),
        if largest >= 1e-3 { decimals(largest, 3) } else { format!("{largest:.1e}") },
        diff.unlike.len(),
        diff.only_first.len() + diff.only_second.len()
    );
    print(text)
}

/// The type that values of a tensor in memory have.
pub(super) fn dtype(stored: &weights::Stored) -> Dtype {
    match stored.values {
        weights::Values::F32(_) => Dtype::F32,
        weights::Values::I64(_) => Dtype::I64,
    }
}
