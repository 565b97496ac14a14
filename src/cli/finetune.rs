//! `roentgen finetune`.

use super::{
    machine::{self, Machine},
    options::Recipe,
    output::{print, say},
    progress::Progress,
    signals::{INTERRUPTED, catch_signals},
};
use crate::{
    Error, Result,
    device::Device,
    files::folder_of,
    train::{Checkpoint, Config, Outcome, RunFolder, Session},
    weights::Matched,
};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
};
use toml::Table;

/// Arguments of `finetune`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub recipe: Recipe,
    /// TOML file with any of the recipe's keys; flags override it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the run [default: runs/<model>-<number>]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Replace the run that --out already holds
    #[arg(long, requires = "out", conflicts_with = "resume")]
    force: bool,
    /// Go on with the interrupted run in this folder, with its own recipe
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    /// Threads that load images; changes no result
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(..=256))]
    workers: u16,
    #[command(flatten)]
    machine: Machine,
}

/// Trains, and tells on stderr how it goes.
pub fn run(args: Args) -> Result<ExitCode> {
    train(&args, "finetune", Config::finetuning_defaults)
}

/// The same for `command`, with the defaults that it has beside what is chosen.
pub fn train(args: &Args, command: &str, defaults: impl FnOnce(&Table) -> Result<Config>) -> Result<ExitCode> {
    let interrupt = Arc::new(AtomicBool::new(false));
    let mut session = match &args.resume {
        Some(folder) => resume(args, folder)?,
        None => begin(args, defaults)?,
    };
    let folder = session.folder.path().display().to_string();
    catch_signals(&interrupt, "finishing the step")?;
    let mut progress = Progress::new(session.state.config.epochs, session.schedule().total, session.state.step);
    let outcome = session.train(&mut progress, &interrupt);
    progress.close();
    let finished = match outcome? {
        Outcome::Complete => {
            session.finish(&facts(&session), &environment(&session.model.params.device().name()), &interrupt)?
        }
        Outcome::Interrupted => None,
    };
    let Some(finished) = finished else {
        say(format!("interrupted; everything is saved. To go on:\n  roentgen {command} --resume {folder}"));
        return Ok(ExitCode::from(INTERRUPTED));
    };
    for (split, summary) in &finished.summaries {
        print(format!("\n{split}\n{summary}\n"))?;
    }
    print(format!("\nreport: {}\n", session.folder.file("report.html").display()))?;
    Ok(ExitCode::SUCCESS)
}

fn begin(args: &Args, defaults: impl FnOnce(&Table) -> Result<Config>) -> Result<Session> {
    let config = args.recipe.resolve(args.config.as_deref(), defaults)?;
    let device = args.machine.device()?;
    let folder = match &args.out {
        Some(path) => RunFolder::create(path, args.force)?,
        None => RunFolder::numbered(&config.model)?,
    };
    args.config.iter().try_for_each(|given| folder.spare(given))?;
    if config.data.is_none() {
        say("no --data given: training on the small sample inside the program");
    }
    let (session, matched) = Session::begin(config, folder, &device, usize::from(args.workers))?;
    introduce(&session, &device);
    if let Some(matched) = matched {
        tell_matched(&matched, session.state.config.weights.as_deref());
    }
    Ok(session)
}

fn resume(args: &Args, path: &Path) -> Result<Session> {
    let fixed: Vec<_> = args.recipe.given()?.into_iter().filter(|key| key != "data").collect();
    if args.config.is_some() || !fixed.is_empty() {
        let named = match fixed.first().map(|key| key.replace('_', "-")) {
            None => "--config".into(),
            Some(key) if key == "augment" => "--augment or --no-augment".into(),
            Some(key) if key == "columns" => "a column".into(),
            Some(key) if key == "split" => "--validation or --test".into(),
            Some(key) => format!("--{key}"),
        };
        return Err(Error::unusable(
            format!("{named} cannot be changed with --resume: the run goes on with its own recipe"),
            "leave it out, or start a new run",
        ));
    }
    // A checkpoint of the run means the run.
    let folder = RunFolder::resume(if path.is_file() { folder_of(path) } else { path })?;
    let mut checkpoint = Checkpoint::open(&folder.last())?;
    folder.check_recipe(&checkpoint.state.config)?;
    if let Some(data) = &args.recipe.data {
        checkpoint.state.config.data = Some(data.clone());
    }
    let device = args.machine.device()?;
    let session = Session::resume(&checkpoint, folder, &device, usize::from(args.workers))?;
    introduce(&session, &device);
    let state = &session.state;
    say(format!("going on after epoch {}, step {}", state.epoch, state.step_in_epoch));
    Ok(session)
}

fn introduce(session: &Session, device: &Arc<dyn Device>) {
    let (model, config) = (&session.model, &session.state.config);
    say(format!("device  {}", device.name()));
    say(format!(
        "model   {}, {} parameters, {} px, {} images a step",
        model.name,
        model.params.parameter_count(),
        config.size,
        config.batch
    ));
    say(format!("data    {}", session.prepared.dataset.origin));
    session.prepared.tell(&mut |line| say(line));
    say(format!("split   {}", session.prepared.split_rule()));
    say(format!("run     {}", session.folder.path().display()));
}

fn tell_matched(matched: &Matched, path: Option<&Path>) {
    let from = path.map_or(String::new(), |path| path.display().to_string());
    say(format!("weights {from}: {}", matched.summary()));
    matched.short_table().iter().for_each(|line| say(format!("        {line}")));
}

fn facts(session: &Session) -> Vec<(String, String)> {
    let (config, history) = (&session.state.config, &session.history);
    let seconds: f64 = history.iter().map(|record| record.seconds).sum();
    let start = config.weights.as_ref().map_or("random weights".into(), |path| path.display().to_string());
    [
        ("backbone", config.model.clone()),
        ("parameters", session.model.params.parameter_count().to_string()),
        ("start", start),
        ("data", session.prepared.dataset.origin.clone()),
        ("image size", format!("{} px", config.size)),
        ("epochs", format!("{} of {}", session.state.epoch, config.epochs)),
        ("training time", format!("{seconds:.0} s")),
    ]
    .map(|(name, value)| (name.to_string(), value))
    .into()
}

fn environment(device: &str) -> Vec<(String, String)> {
    let os = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    [
        ("roentgen", env!("CARGO_PKG_VERSION").to_string()),
        ("device", device.to_string()),
        ("processor", machine::processor().unwrap_or_else(|| "unknown".into())),
        ("system", os),
        ("command", std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")),
    ]
    .map(|(name, value)| (name.to_string(), value))
    .into()
}
