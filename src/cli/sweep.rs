//! `roentgen sweep`.

use super::{
    machine::Machine,
    output::{print, say},
    signals::{INTERRUPTED, catch_signals},
};
use crate::{
    Result,
    device::Device,
    report::EpochRecord,
    study::{
        Ended, Extent, Outcome, Pretraining, Results, Run, Shard, Status, Study, Trainer, Watch, Worker, claim,
        scheduler, share,
    },
    train::StepProgress,
};
use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

/// Arguments of `sweep`.
#[derive(clap::Args)]
pub struct Args {
    /// TOML file of the study [default: a small one on the sample inside the program]
    #[arg(value_name = "STUDY")]
    study: Option<PathBuf>,
    /// Folder of runs and tables [default: NAME.results beside the file]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Tell how many runs it is, how long they take here and how much they leave on disk, and do none
    #[arg(long)]
    dry_run: bool,
    /// Make the tables of the runs that are done, and do none
    #[arg(long, conflicts_with = "dry_run")]
    report: bool,
    /// Do only one of N parts, say 2/4; parts may run at once in one folder, or each in its own
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Do failed runs again
    #[arg(long)]
    retry: bool,
    /// Seconds after which a worker of whom nothing is heard is taken for dead, and its run taken over
    #[arg(long, value_name = "SECONDS", default_value_t = claim::STALE.as_secs(), value_parser = clap::value_parser!(u64).range(1..))]
    stale: u64,
    /// Print a script for Slurm's sbatch, a job array of N parts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), requires = "study")]
    slurm: Option<u16>,
    /// Print a manifest of a Kubernetes indexed job of N parts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), requires = "study", conflicts_with = "slurm")]
    kubernetes: Option<u16>,
    /// Threads that load images; changes no result
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(..=256))]
    workers: u16,
    #[command(flatten)]
    machine: Machine,
}

/// Folder of the study of the sample.
const SAMPLE: &str = "sample.results";

/// Runs a study, and tells on stderr how it goes.
pub fn run(args: Args) -> Result<ExitCode> {
    let study = match &args.study {
        Some(path) => Study::read(path, args.out.as_deref())?,
        None => Study::sample(args.out.as_deref().unwrap_or(Path::new(SAMPLE)))?,
    };
    study.check_size()?;
    if args.report {
        return tell(&study, Results::read(&study)?, &args.machine.device()?, true);
    }
    if let (Some(parts), Some(file)) = (args.slurm, &args.study) {
        print(scheduler::slurm(file, &study, parts))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let (Some(parts), Some(file)) = (args.kubernetes, &args.study) {
        print(scheduler::kubernetes(file, &study, parts))?;
        return Ok(ExitCode::SUCCESS);
    }
    study.check()?;
    if args.dry_run {
        return dry_run(&study, &args.machine);
    }
    let interrupt = Arc::new(AtomicBool::new(false));
    catch_signals(&interrupt, "finishing the step")?;
    let device = args.machine.device_with_cache(&study.folder.join("cache"))?;
    say(format!("study   {}", study.question));
    say(format!("device  {}", device.name()));
    say(format!("folder  {}", study.folder.display()));
    say(format!("runs    {}, and {} pretrainings", study.runs(), study.all_pretrainings().len()));
    let trainer = Trainer::new(device.clone(), usize::from(args.workers));
    let mut teller = Teller::new(&study);
    let (shard, stale) = (args.shard.unwrap_or(Shard::WHOLE), Duration::from_secs(args.stale));
    let mut worker = Worker::new(&study, shard, stale, trainer, &mut teller, &interrupt)?;
    if args.retry {
        worker.retry()?;
    }
    if worker.work()? == Ended::Interrupted {
        say("interrupted; everything is saved. To go on, start it again");
        return Ok(ExitCode::from(INTERRUPTED));
    }
    tell(&study, Results::read(&study)?, &device, args.shard.is_none())
}

fn dry_run(study: &Study, machine: &Machine) -> Result<ExitCode> {
    let device = machine.device()?;
    let cost = study.cost(&device)?;
    let time =
        if cost.hours < 1.0 { format!("{:.1} minutes", 60.0 * cost.hours) } else { format!("{:.1} hours", cost.hours) };
    print(format!(
        "{}\nruns  {}, and {} pretrainings\ntime  {time}, one run after another on {}, if none stops early\n      \
         counted are building, training, validating, testing and saving networks; reading images and making reports come on top\n\
         disk  {:.2} GB\n",
        study.question,
        cost.runs,
        cost.pretrainings,
        device.name(),
        cost.bytes / 1e9
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the tables and tells what failed and what is missing, which is a failure if `all` was to be there.
fn tell(study: &Study, results: Results, device: &Arc<dyn Device>, all: bool) -> Result<ExitCode> {
    // Of several parts the last one to end draws for all.
    let draws = all || results.missing().next().is_none();
    results.write(study, draws.then_some(device))?;
    let mut code = ExitCode::SUCCESS;
    let failed: Vec<&Outcome> = results.failed().collect();
    let mut alike: BTreeMap<&str, Vec<&Outcome>> = BTreeMap::new();
    for outcome in &failed {
        let Status::Failed(reason) = &outcome.status else { continue };
        alike.entry(reason.lines().next().unwrap_or_default()).or_default().push(outcome);
    }
    for (reason, outcomes) in alike {
        let more = if outcomes.len() > 1 { format!(", and {} more", outcomes.len() - 1) } else { String::new() };
        say(format!("failed: {}{more}: {reason}", outcomes[0].place()));
    }
    if !failed.is_empty() {
        let runs = if failed.len() == 1 { "1 run".into() } else { format!("{} runs", failed.len()) };
        say(format!("error: {runs} failed\n  try: put right what they name, then the same with --retry"));
        code = ExitCode::FAILURE;
    }
    if let Some(missing) = results.tell_missing(study)? {
        if all {
            say(format!("error: {missing}\n  try: run what is missing, then make the tables with --report"));
            code = ExitCode::FAILURE;
        } else {
            say(format!("this part is done; {missing}"));
        }
    }
    say(format!("tables: {}", study.folder.join("results.csv").display()));
    Ok(code)
}

/// Tells one line a run, and one a minute within long runs.
struct Teller {
    /// What has come to its end, by name: a candidate that is chosen does so twice.
    done: HashSet<String>,
    of: u64,
    epochs: u32,
    started: Instant,
    last_line: Instant,
}

/// Time between lines within a run.
const INTERVAL: Duration = Duration::from_secs(60);

impl Teller {
    fn new(study: &Study) -> Teller {
        let now = Instant::now();
        let of = study.runs() + study.all_pretrainings().len() as u64;
        Teller { done: HashSet::new(), of, epochs: 0, started: now, last_line: now }
    }

    fn begin(&mut self, epochs: u32) {
        self.epochs = epochs;
        self.started = Instant::now();
        self.last_line = self.started;
    }
}

impl Watch for Teller {
    fn run(&mut self, _: &Study, run: &Run, _: Extent) {
        self.begin(run.config.epochs);
    }

    fn pretraining(&mut self, pretraining: &Pretraining) {
        self.begin(pretraining.config.epochs);
        say(format!("pretraining {} with {}", pretraining.name, pretraining.config.model));
    }

    fn step(&mut self, _: &StepProgress) {}

    fn epoch(&mut self, record: &EpochRecord) {
        if self.last_line.elapsed() > INTERVAL {
            self.last_line = Instant::now();
            let measured: String = record.measured().iter().map(|(name, value)| format!(", {name} {value}")).collect();
            say(format!("        epoch {}/{}  loss {:.4}{measured}", record.epoch, self.epochs, record.train_loss));
        }
    }

    fn ended(&mut self, outcome: &Outcome) {
        self.done.insert(outcome.hash.clone());
        let Outcome { task, model, arm, fraction, seed, lr, metric, .. } = outcome;
        let came_to = match (&outcome.status, outcome.value, outcome.selected_by) {
            (Status::Failed(reason), ..) => format!("failed: {}", reason.lines().next().unwrap_or_default()),
            (Status::Done, Some(value), _) => format!("test {} {value:.3}", metric.name),
            (_, _, Some(value)) => format!("validation {value:.4}"),
            _ => "done".into(),
        };
        let seconds = self.started.elapsed().as_secs_f64();
        say(format!(
            "{:>5} of {}  {task}  {model}  {}  {arm}  lr {lr:?}  seed {seed}  {came_to}  {seconds:.1} s",
            self.done.len(),
            self.of,
            share(*fraction)
        ));
    }
}
