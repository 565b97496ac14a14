//! Who does which run: claims in a folder that all workers share.
//!
//! A claim is the file `NAME.0`, made by whoever finds that it is not there; the file system lets one succeed. Its first line says
//! who that is, and a thread adds a dot to it every now and then. A worker who sees no new dot for long enough takes the claim
//! over by making `NAME.1`, which again only one can, and so on. Nobody compares clocks of two machines.

use crate::{Error, Result};
use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How long a claim without sign of life lasts unless told otherwise: above the time for which network file systems remember the
/// length of a file.
pub const STALE: Duration = Duration::from_secs(120);

/// Signs of life in that time.
const BEATS: u32 = 6;

/// How soon a worker hears that it is to stop.
const TICK: Duration = Duration::from_millis(50);

/// The claims of one worker.
pub struct Claims {
    folder: PathBuf,
    /// This worker, as the first line of its claims has it.
    worker: String,
    stale: Duration,
    /// The claims of others: what was in them when they last changed, and when that was.
    seen: HashMap<String, (Vec<u8>, Instant)>,
}

impl Claims {
    /// Claims in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn new(folder: &Path, stale: Duration) -> Result<Claims> {
        fs::create_dir_all(folder).map_err(|e| Error::io("make the folder", folder, e))?;
        let number = RandomState::new().hash_one(0);
        let process = Process::this().map_or("- - -".into(), |p| format!("{} {} {}", p.machine, p.id, p.started));
        Ok(Claims { folder: folder.into(), worker: format!("{process} {number:016x}\n"), stale, seen: HashMap::new() })
    }

    /// Claims `name`; `None` if somebody else has it. The claim raises `halt` when `interrupt` is raised, and when it is lost
    /// to somebody who took this worker for dead. What is done under it must be looked at once more now: it may have been done
    /// the moment before.
    ///
    /// # Errors
    /// A folder that cannot be read or written.
    pub fn take(&mut self, name: &str, interrupt: &Arc<AtomicBool>) -> Result<Option<Claim>> {
        let holder = self.holder(name)?;
        let generation = match &holder {
            None => 0,
            Some((generation, content)) if self.is_dead(name, content) => generation + 1,
            Some(_) => return Ok(None),
        };
        let path = self.file(name, generation);
        let made = OpenOptions::new().write(true).create_new(true).open(&path);
        let mut file = match made {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            Err(e) => return Err(Error::io("write", &path, e)),
        };
        let written = file.write_all(self.worker.as_bytes()).and_then(|()| file.sync_all());
        // The dead one may have been taken over, done and given up by others, and the name claimed anew, in the meantime.
        let same = holder.is_none_or(|(dead, content)| fs::read(self.file(name, dead)).is_ok_and(|now| now == content));
        if let Err(e) = written {
            let _ = fs::remove_file(&path);
            return Err(Error::io("write", &path, e));
        }
        if !same {
            let _ = fs::remove_file(&path);
            return Ok(None);
        }
        self.seen.remove(name);
        Ok(Some(Claim::hold(self, name, generation, file, interrupt)))
    }

    /// The latest claim of `name`, and what is in it.
    fn holder(&self, name: &str) -> Result<Option<(u64, Vec<u8>)>> {
        let unreadable = |e| Error::io("read", &self.folder, e);
        let mut latest = None;
        for entry in fs::read_dir(&self.folder).map_err(unreadable)? {
            let file = entry.map_err(unreadable)?.file_name();
            let generation = file.to_str().and_then(|file| file.strip_prefix(name)?.strip_prefix('.')?.parse().ok());
            latest = latest.max(generation);
        }
        let Some(generation) = latest else { return Ok(None) };
        // It may have been given up just now.
        Ok(fs::read(self.file(name, generation)).ok().map(|content| (generation, content)))
    }

    /// Whether the worker behind the claim `content` is gone: its process on this machine, or without a sign of life.
    fn is_dead(&mut self, name: &str, content: &[u8]) -> bool {
        let line = content.split(|&byte| byte == b'\n').next().and_then(|line| std::str::from_utf8(line).ok());
        if line.and_then(Process::parse).is_some_and(|process| process.is_gone()) {
            return true;
        }
        let now = Instant::now();
        let (known, since) = self.seen.entry(name.into()).or_insert_with(|| (content.to_vec(), now));
        if known != content {
            (*known, *since) = (content.to_vec(), now);
        }
        since.elapsed() >= self.stale
    }

    fn file(&self, name: &str, generation: u64) -> PathBuf {
        self.folder.join(format!("{name}.{generation}"))
    }
}

/// A process and the machine that it runs on, where the system tells.
struct Process<'a> {
    machine: std::borrow::Cow<'a, str>,
    id: u32,
    /// When it was started, which tells it from a later one of the same number.
    started: u64,
}

impl Process<'_> {
    fn this() -> Option<Process<'static>> {
        let id = std::process::id();
        Some(Process { machine: machine()?.into(), id, started: started(id)? })
    }

    fn parse(line: &str) -> Option<Process<'_>> {
        let mut words = line.split(' ');
        let machine = words.next()?.into();
        Some(Process { machine, id: words.next()?.parse().ok()?, started: words.next()?.parse().ok()? })
    }

    /// Whether it certainly runs no more.
    fn is_gone(&self) -> bool {
        machine().is_some_and(|here| here == self.machine) && started(self.id) != Some(self.started)
    }
}

/// This boot of this machine, and the namespace of its process numbers.
fn machine() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{}/{}", boot.trim(), namespace.display()))
}

/// When process `id` was started, in ticks since the boot; `None` if there is none.
fn started(id: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name in brackets may hold spaces; behind it, the start is the twentieth field.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// A claim; given up when it is dropped.
pub struct Claim {
    /// Raised when the work is to stop.
    pub halt: Arc<AtomicBool>,
    lost: Arc<AtomicBool>,
    mark: Mark,
    /// Its file and those that it took over, oldest first.
    files: Vec<PathBuf>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Claim {
    fn hold(claims: &Claims, name: &str, generation: u64, file: File, interrupt: &Arc<AtomicBool>) -> Claim {
        let (halt, lost) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (stop, stopped) = channel();
        let mark = Mark {
            file: claims.file(name, generation),
            worker: claims.worker.clone(),
            successor: claims.file(name, generation + 1),
        };
        let pulse = Pulse {
            file,
            mark: mark.clone(),
            stale: claims.stale,
            interrupt: interrupt.clone(),
            halt: halt.clone(),
            lost: lost.clone(),
        };
        let thread = thread::Builder::new().name("claim".into()).spawn(move || pulse.beat(&stopped));
        let thread = Some(thread.expect("the system starts a thread"));
        let files = (0..=generation).map(|generation| claims.file(name, generation)).collect();
        Claim { halt, lost, mark, files, stop: Some(stop), thread }
    }

    /// Whether somebody else took it over, or may have: then what was done under it is theirs, and is to be left as it is. It
    /// looks at the folder, so that a worker that was stopped knows before its thread does.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed) || self.mark.is_gone()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A panic of the thread has been reported by the panic hook.
        let _ = self.thread.take().map(JoinHandle::join);
        if !self.is_lost() {
            // The latest goes last, so that nobody sees only a dead one.
            self.files.iter().for_each(|file| drop(fs::remove_file(file)));
        }
    }
}

/// By what a claim is known to stand.
#[derive(Clone)]
struct Mark {
    file: PathBuf,
    /// The first line of the file.
    worker: String,
    successor: PathBuf,
}

impl Mark {
    /// Whether the claim was taken over. Where that is long ago, all may be done, and neither file be there any more, or another
    /// claim in its place.
    fn is_gone(&self) -> bool {
        let gone = match fs::read(&self.file) {
            Ok(content) => !content.starts_with(self.worker.as_bytes()),
            Err(e) => e.kind() == io::ErrorKind::NotFound,
        };
        gone || self.successor.exists()
    }
}

/// What the thread of a claim knows.
struct Pulse {
    file: File,
    mark: Mark,
    stale: Duration,
    interrupt: Arc<AtomicBool>,
    halt: Arc<AtomicBool>,
    lost: Arc<AtomicBool>,
}

impl Pulse {
    fn beat(mut self, stopped: &Receiver<()>) {
        let (mut due, mut alive) = (Instant::now(), Instant::now());
        while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            if self.interrupt.load(Ordering::Relaxed) {
                self.halt.store(true, Ordering::Relaxed);
            }
            if due.elapsed() < self.stale / BEATS {
                continue;
            }
            due = Instant::now();
            // Who could not show that it lives must count as dead: by now somebody may have seen so.
            let late = alive.elapsed() >= self.stale;
            if !late && self.file.write_all(b".").is_ok() {
                alive = due;
            }
            if late || self.mark.is_gone() {
                self.lost.store(true, Ordering::Relaxed);
                self.halt.store(true, Ordering::Relaxed);
                return;
            }
        }
    }
}
