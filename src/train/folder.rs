//! The folder of a run: what is in it, and how it is made.

use super::{checkpoint, config::Config};
use crate::{
    Error, Result,
    data::{Dataset, manifest},
    files,
    report::EpochRecord,
};
use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A run's folder.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
    claim: Claim,
    /// The folder, locked.
    held: Option<Arc<File>>,
}

/// How the folder becomes that of a new run.
#[derive(Clone, Debug)]
enum Claim {
    /// It holds no run.
    Free,
    /// It holds a run that got to no checkpoint, which is replaced.
    Unsaved,
    /// Whatever run it holds is replaced.
    Forced,
    /// The same, and who asks for it keeps other processes away by means of its own.
    Guarded,
    /// Its name is the first free one for this network.
    Numbered(String),
}

/// Every file that a run writes, the recipe first, and what comes with the first checkpoint or later behind `metrics.jsonl`.
const FILES: [&str; 10] = [
    "config.toml",
    "manifest.csv",
    "metrics.jsonl",
    "best.safetensors",
    "best.json",
    "last.safetensors",
    "last.json",
    "predictions.csv",
    "report.html",
    "model-card.md",
];

/// Those that a run has once it has got to a checkpoint.
const RESULTS: &[&str] = FILES.split_at(3).1;

impl RunFolder {
    /// The folder `path` for a new run. It is made by [`RunFolder::start`]: a run that cannot begin leaves nothing behind.
    ///
    /// # Errors
    /// A folder that cannot be made, or that already holds a run with a checkpoint or another file that a run would replace, unless
    /// `force` allows it.
    pub fn create(path: &Path, force: bool) -> Result<RunFolder> {
        check_can_be_made(path)?;
        let claim = match FILES.iter().find(|name| path.join(name).exists()) {
            _ if force => Claim::Forced,
            None => Claim::Free,
            Some(_) if is_unsaved(path) => Claim::Unsaved,
            Some(name) => return Err(taken(path, name)),
        };
        Ok(RunFolder { path: path.into(), claim, held: None })
    }

    /// The folder `path` for a new run in place of any other, where the caller keeps other processes away.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn guarded(path: &Path) -> Result<RunFolder> {
        check_can_be_made(path)?;
        Ok(RunFolder { path: path.into(), claim: Claim::Guarded, held: None })
    }

    /// The folder for a new run that has no name of its own: the first of `runs/<model>-1`, `runs/<model>-2`, … that is not
    /// there when it starts.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn numbered(model: &str) -> Result<RunFolder> {
        let path = next(model);
        check_can_be_made(&path)?;
        Ok(RunFolder { path, claim: Claim::Numbered(model.into()), held: None })
    }

    /// Makes the folder, and puts the recipe and the splits of a new run there.
    ///
    /// # Errors
    /// A file that cannot be removed or written; data or weights that the run would replace; a run that goes on there, or has
    /// begun there in the meantime.
    pub fn start(&mut self, config: &Config, assigned: &Dataset) -> Result<()> {
        let given = config.data.iter().cloned().chain(config.weights.as_deref().map(checkpoint::file_of));
        given.into_iter().try_for_each(|given| self.spare(&given))?;
        let made = match &self.claim {
            Claim::Numbered(model) => loop {
                match fs::create_dir_all("runs").and_then(|()| fs::create_dir(&self.path)) {
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.path = next(model),
                    made => break made,
                }
            },
            _ => fs::create_dir_all(&self.path),
        };
        made.map_err(|e| Error::io("make the folder", &self.path, e))?;
        if !matches!(self.claim, Claim::Guarded) {
            self.hold()?;
        }
        match self.claim {
            Claim::Unsaved if self.held.is_none() || !is_unsaved(&self.path) => {
                return Err(taken(&self.path, FILES[0]));
            }
            Claim::Unsaved | Claim::Forced | Claim::Guarded => {
                for file in FILES.map(|name| self.file(name)).iter().filter(|file| file.exists()) {
                    fs::remove_file(file).map_err(|e| Error::io("remove", file, e))?;
                }
            }
            // Of two that start one after the other, one makes the file.
            Claim::Free | Claim::Numbered(_) => {
                drop(File::create_new(self.file("config.toml")).map_err(|e| match e.kind() {
                    io::ErrorKind::AlreadyExists => taken(&self.path, "config.toml"),
                    _ => Error::io("write", &self.file("config.toml"), e),
                })?)
            }
        }
        files::remove_temporaries(&self.path);
        let text = toml::to_string(config).expect("a recipe is plain data");
        files::write_atomic(&self.file("config.toml"), text.as_bytes())?;
        manifest::write(assigned, &self.manifest())
    }

    /// The folder of an interrupted run, which no other process goes on with as long as this value lives.
    ///
    /// # Errors
    /// A folder without a checkpoint, or one that another process has.
    pub fn resume(path: &Path) -> Result<RunFolder> {
        let mut folder = RunFolder { path: path.into(), claim: Claim::Free, held: None };
        folder.check_saved()?;
        folder.hold()?;
        files::remove_temporaries(path);
        Ok(folder)
    }

    /// The same where the caller keeps other processes away.
    ///
    /// # Errors
    /// A folder without a checkpoint.
    pub fn resume_guarded(path: &Path) -> Result<RunFolder> {
        let folder = RunFolder { path: path.into(), claim: Claim::Guarded, held: None };
        folder.check_saved()?;
        files::remove_temporaries(path);
        Ok(folder)
    }

    fn check_saved(&self) -> Result<()> {
        if self.last().is_file() {
            return Ok(());
        }
        Err(Error::unusable(
            format!("{} holds no last.safetensors to go on from", self.path.display()),
            "the folder of a run that got as far as its first checkpoint; else the command that began it, again",
        ))
    }

    /// Keeps other processes from the folder for as long as this value lives, where the system can lock folders.
    fn hold(&mut self) -> Result<()> {
        let Ok(folder) = File::open(&self.path) else { return Ok(()) };
        match folder.try_lock() {
            Ok(()) => self.held = Some(Arc::new(folder)),
            Err(TryLockError::WouldBlock) => {
                let problem = format!("another process is training in {}", self.path.display());
                return Err(Error::unusable(problem, "wait for it, or another --out"));
            }
            Err(TryLockError::Error(_)) => {}
        }
        Ok(())
    }

    /// Refuses to replace a file that a run is `given`.
    ///
    /// # Errors
    /// One of the files that a run writes here.
    pub fn spare(&self, given: &Path) -> Result<()> {
        let Ok(found) = given.canonicalize() else { return Ok(()) };
        if FILES.iter().any(|name| self.file(name).canonicalize().is_ok_and(|ours| ours == found)) {
            return Err(Error::unusable(format!("the run would replace {}", given.display()), "another --out"));
        }
        Ok(())
    }

    /// Refuses a recipe in the folder that says something else than `config`, that of the checkpoint, but where the data and the first
    /// weights are: a study may have been moved.
    ///
    /// # Errors
    /// Such a recipe, or what is none.
    pub fn check_recipe(&self, config: &Config) -> Result<()> {
        let Ok(text) = fs::read_to_string(self.file(FILES[0])) else { return Ok(()) };
        let moved = |there| Config { data: config.data.clone(), weights: config.weights.clone(), ..there };
        if toml::from_str(&text).is_ok_and(|there| moved(there) == *config) {
            return Ok(());
        }
        Err(Error::unusable(
            format!("{} was changed, and the run goes on as its checkpoint says", self.file(FILES[0]).display()),
            "the file as it was, or without it; a new run, with --config, for another recipe",
        ))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        debug_assert!(FILES.contains(&name), "{name} is no file of a run");
        self.path.join(name)
    }

    /// The checkpoint of the best epoch.
    pub fn best(&self) -> PathBuf {
        self.file("best.safetensors")
    }

    /// The checkpoint to go on from.
    pub fn last(&self) -> PathBuf {
        self.file("last.safetensors")
    }

    /// The splits.
    pub fn manifest(&self) -> PathBuf {
        self.file("manifest.csv")
    }

    /// Writes the history, one line an epoch.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_history(&self, history: &[EpochRecord]) -> Result<()> {
        let line = |record| serde_json::to_string(record).expect("a record is plain data") + "\n";
        files::write_atomic(&self.file("metrics.jsonl"), history.iter().map(line).collect::<String>().as_bytes())
    }

    /// The first `epochs` lines of the history.
    ///
    /// # Errors
    /// A file that cannot be read, or has fewer.
    pub fn read_history(&self, epochs: u32) -> Result<Vec<EpochRecord>> {
        if epochs == 0 {
            return Ok(vec![]);
        }
        let path = self.file("metrics.jsonl");
        let text = fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
        let records: Vec<EpochRecord> =
            text.lines().map_while(|line| serde_json::from_str(line).ok()).take(epochs as usize).collect();
        if records.len() < epochs as usize {
            return Err(Error::unusable(
                format!(
                    "{} has {} whole lines, but the checkpoint has seen {epochs} epochs",
                    path.display(),
                    records.len()
                ),
                "restore that file from where the run was copied from",
            ));
        }
        Ok(records)
    }
}

/// The first of `runs/<model>-1`, `runs/<model>-2`, … that is not there yet.
fn next(model: &str) -> PathBuf {
    let candidate = |n: u32| Path::new("runs").join(format!("{model}-{n}"));
    (1..).map(candidate).find(|path| !path.exists()).expect("one of 2^32 names is free")
}

/// An error if the folder `path` cannot be made. It is not made yet.
fn check_can_be_made(path: &Path) -> Result<()> {
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    tempfile::tempfile_in(there).map(drop).map_err(|e| Error::io("make the folder", path, e))
}

/// Whether the folder `path` holds a run that ended before its first checkpoint, and nothing that came of a run.
fn is_unsaved(path: &Path) -> bool {
    // A run writes down its precision.
    let begun = |text: String| toml::from_str(&text).is_ok_and(|config: Config| config.precision.is_some());
    fs::read_to_string(path.join(FILES[0])).is_ok_and(begun) && !RESULTS.iter().any(|name| path.join(name).exists())
}

fn taken(path: &Path, file: &str) -> Error {
    if !path.join(FILES[0]).exists() {
        let problem = format!("{} has a {file}, which a run would replace", path.display());
        return Error::unusable(problem, "another --out, or --force to replace it");
    }
    Error::unusable(
        format!("{} already holds a run (its {file} is there)", path.display()),
        "another --out, --resume to go on with it, or --force to replace it",
    )
}
