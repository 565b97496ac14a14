//! `roentgen convert`.

use super::{
    options,
    output::{print, say},
    signals::{INTERRUPTED, catch_signals},
};
use crate::{
    Error, Result,
    data::{
        Intensity,
        archive::{self, Event, Key, Options},
    },
};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    ffi::OsString,
    io::IsTerminal,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Arguments of `convert`.
#[derive(clap::Args)]
pub struct Args {
    /// Folders of images in any shape, or images: DICOM, NIfTI, MetaImage, PNG, JPEG
    #[arg(value_name = "ARCHIVE", required = true)]
    from: Vec<PathBuf>,
    /// Folder of the store; given again, it goes on with what it does not have yet
    #[arg(long, value_name = "STORE")]
    out: PathBuf,
    /// Key of the hashes that stand for patients, studies and files; made if it is not there [default: STORE.key]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Fit images into squares of this side, as training does [default: their own size]
    #[arg(long, value_name = "PX", value_parser = clap::value_parser!(u16).range(1..=4096))]
    size: Option<u16>,
    /// Most bits of a pixel
    #[arg(long, value_name = "8|16", default_value = "16", value_parser = bits)]
    bits: u32,
    /// How stored values become gray, as for finetune
    #[arg(long, value_name = "RULE", default_value = "auto", value_parser = options::intensity)]
    intensity: Intensity,
    /// Files that are converted at the same time; changes no result [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

fn bits(text: &str) -> std::result::Result<u32, String> {
    text.parse().ok().filter(|bits| [8, 16].contains(bits)).ok_or_else(|| "8 or 16".into())
}

/// Converts, and tells on stderr how it goes and which files are left out.
pub fn run(args: Args) -> Result<ExitCode> {
    // A wrong path must leave nothing behind, not even a key.
    for path in &args.from {
        path.metadata().map_err(|e| Error::io("open", path, e))?;
    }
    let key = Key::open_or_make(&key_file(&args)?)?;
    let threads = args.threads.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    let Args { bits, intensity, .. } = args;
    let options = Options { size: args.size.map(usize::from), bits, intensity, threads };
    let stop = Arc::new(AtomicBool::new(false));
    catch_signals(&stop, "finishing the files that were begun")?;
    let mut progress = Progress::new();
    let totals = archive::convert(&args.from, &args.out, &key, &options, &stop, &mut |event| progress.note(event));
    progress.close();
    let totals = totals?;
    if totals.files == 0 && !stop.load(Ordering::Relaxed) {
        let named: Vec<String> = args.from.iter().map(|path| path.display().to_string()).collect();
        return Err(Error::unusable(format!("there are no files in {}", named.join(", ")), "check the path"));
    }
    print(format!(
        "{}: {} images of {} files, {} files rejected, {} copies left out\n",
        args.out.join("manifest.csv").display(),
        totals.images,
        totals.files,
        totals.rejected,
        totals.copies
    ))?;
    if stop.load(Ordering::Relaxed) {
        say("interrupted; the same command goes on from here");
        return Ok(ExitCode::from(INTERRUPTED));
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the key is. It is not made for a store that was begun with one.
fn key_file(args: &Args) -> Result<PathBuf> {
    let path = args.key.clone().unwrap_or_else(|| {
        let mut beside: OsString = args.out.components().as_path().into();
        beside.push(".key");
        beside.into()
    });
    if !path.exists() && args.out.join("journal.jsonl").exists() {
        let problem = format!("the key of the store {} is not in {}", args.out.display(), path.display());
        return Err(Error::unusable(problem, "--key with the one it was begun with, or another --out"));
    }
    Ok(path)
}

/// Time between plain lines.
const PLAIN_INTERVAL: Duration = Duration::from_secs(60);

/// Counts on stderr: a live line on a terminal, plain lines elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
    start: Instant,
    last_line: Instant,
    files: u64,
    images: usize,
    known: usize,
    rejected: usize,
}

impl Progress {
    fn new() -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}").expect("a fixed text");
            ProgressBar::new_spinner().with_style(style)
        });
        let now = Instant::now();
        Progress { bar, start: now, last_line: now, files: 0, images: 0, known: 0, rejected: 0 }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Stored(images) => {
                self.files += 1;
                self.images += images;
            }
            Event::Known => self.known += 1,
            Event::Rejected(path, reason) => {
                self.rejected += 1;
                let line = format!("rejected: {}: {reason}", path.display());
                self.line(&line);
            }
        }
        let due = self.last_line.elapsed() > PLAIN_INTERVAL;
        if self.bar.is_some() || due {
            let (known, rate) = (self.known, self.images as f64 / self.start.elapsed().as_secs_f64());
            let before = if known > 0 { format!(", {known} of earlier runs") } else { String::new() };
            let (files, images, rejected) = (self.files, self.images, self.rejected);
            let text = format!("{files} files{before}, {images} images, {rejected} rejected, {rate:.0} images/s");
            match &self.bar {
                Some(bar) => {
                    bar.set_message(text);
                    bar.tick();
                }
                None => self.line(&text),
            }
        }
    }

    fn line(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
        self.last_line = Instant::now();
    }

    fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
