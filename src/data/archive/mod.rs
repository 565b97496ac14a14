//! An archive of images in any shape to a store of PNGs with a manifest: `roentgen convert`.
//!
//! ```text
//! walk -> files that are not in the journal -> workers: read, decode, render, [fit], PNG -> store
//!                                                 |-> entry -> journal -> at the end manifest.csv, rejected.csv
//! ```
//!
//! What is made of a file is a function of its bytes, the recipe and the key alone, and tables are sorted by hashes; so
//! neither threads nor interruptions change a byte of them.

mod header;
mod journal;
mod key;

use super::{
    decode::{Gray, Pixels},
    folder::{is_image, start_of, visible_entries},
    intensity::Intensity,
    metaimage,
    resize::{fit, fit_plain},
    scan::Scan,
    volume,
};
use crate::{Error, Result};
pub use journal::Totals;
use journal::{Entry, Image, Journal, Recipe, Stamps};
pub use key::Key;
use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, SyncSender, channel, sync_channel},
    },
    thread,
    time::UNIX_EPOCH,
};

/// Counts up with what is made of a file.
const VERSION: u32 = 1;

/// Files that the walk is ahead of the workers.
const AHEAD: usize = 1024;

/// How images are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Side of the squares that they are fitted into; `None` for their own size.
    pub size: Option<usize>,
    /// Most bits of a pixel, 8 or 16.
    pub bits: u32,
    /// How stored values become gray.
    pub intensity: Intensity,
    /// Files that are converted at the same time.
    pub threads: usize,
}

/// What goes on.
pub enum Event<'a> {
    /// A file is in the store, with so many images.
    Stored(usize),
    /// It, or part of it, was left out.
    Rejected(&'a Path, &'a str),
    /// It was finished by an earlier run.
    Known,
}

/// Converts all files in the folders (or files) `from` that the store does not have yet. `store` is made if it is not
/// there; so much as a file is finished or will be done again, whenever the process ends. `stop` ends it in good order.
///
/// # Errors
/// A folder that cannot be listed, a store that cannot be written to, was begun with another recipe or key or is one of the
/// folders itself.
pub fn convert(
    from: &[PathBuf],
    store: &Path,
    key: &Key,
    options: &Options,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(Event),
) -> Result<Totals> {
    let absolute = |path: &PathBuf| path.canonicalize().map_err(|e| Error::io("open", path, e));
    let roots = from.iter().map(absolute).collect::<Result<Vec<_>>>()?;
    if store.canonicalize().is_ok_and(|store| roots.contains(&store)) {
        let problem = format!("the store {} would be in the archive's own folder", store.display());
        return Err(Error::unusable(problem, "another --out"));
    }
    let recipe = Recipe {
        version: VERSION,
        size: options.size,
        bits: options.bits,
        intensity: options.intensity.to_string(),
        key: key.hash("key", b""),
    };
    let temporary = store.join("tmp");
    fs::create_dir_all(&temporary).map_err(|e| cannot_write(store, e))?;
    let (mut journal, known) = Journal::open(store, &recipe)?;
    let halt = AtomicBool::new(false);
    let stopped = || stop.load(Ordering::Relaxed) || halt.load(Ordering::Relaxed);
    let store_itself = store.canonicalize().map_err(|e| Error::io("find", store, e))?;
    let (walk, workers) = (Walk { known, store: store_itself, key, stopped: &stopped }, Worker { store, key, options });
    let (found, files) = sync_channel::<Found>(AHEAD);
    let files = Arc::new(Mutex::new(files));
    let (done, results) = channel::<Done>();
    let ended = thread::scope(|scope| {
        let walked = done.clone();
        scope.spawn(move || {
            for root in roots {
                walk.all(root, &found, &walked);
            }
        });
        for number in 0..options.threads.max(1) {
            let (files, done, workers, stopped) = (files.clone(), done.clone(), &workers, &stopped);
            let temporary = temporary.join(number.to_string());
            scope.spawn(move || {
                loop {
                    let next = files.lock().expect("no holder of the lock panics").recv();
                    let Some(file) = next.ok().filter(|_| !stopped()) else { return };
                    let made = workers.convert(&file, &temporary, stopped);
                    let made = made.transpose().map(|made| made.map(|entry| Some((file.path, entry))));
                    if made.is_none_or(|made| done.send(made).is_err()) {
                        return;
                    }
                }
            });
        }
        drop((done, files));
        for result in results {
            let noted = result.and_then(|done| {
                let Some((path, entry)) = done else {
                    tell(Event::Known);
                    return Ok(());
                };
                journal.add(&entry)?;
                if let Some(reason) = &entry.rejected {
                    tell(Event::Rejected(&path, reason));
                }
                tell(Event::Stored(entry.images.len()));
                Ok(())
            });
            if let Err(e) = noted {
                halt.store(true, Ordering::Relaxed);
                return Err(e);
            }
        }
        Ok(())
    });
    ended.and_then(|()| journal.finish())
}

/// A file that is to be converted.
struct Found {
    path: PathBuf,
    source: String,
    stamp: String,
}

/// What became of a file; nothing of one that was known.
type Done = Result<Option<(PathBuf, Entry)>>;

/// Finds files.
struct Walk<'a, S> {
    known: Stamps,
    store: PathBuf,
    key: &'a Key,
    stopped: &'a S,
}

impl<S: Fn() -> bool> Walk<'_, S> {
    /// Sends every visible file below `root` that is not known. Links to folders are not followed: they can form a
    /// loop.
    fn all(&self, root: PathBuf, found: &SyncSender<Found>, done: &Sender<Done>) {
        let mut pending = vec![root.clone()];
        while let Some(path) = pending.pop() {
            if (self.stopped)() {
                return;
            }
            let source = self.key.hash("source", path.as_os_str().as_encoded_bytes());
            let mut sent = true;
            if path.is_dir() {
                if path != self.store && (path == root || !path.is_symlink()) {
                    match visible_entries(&path) {
                        Ok(entries) => pending.extend(entries.into_iter().rev()),
                        Err(_) => {
                            let rejected = Some("it is a folder that cannot be listed".into());
                            sent = done.send(Ok(Some((path, Entry { source, rejected, ..Entry::default() })))).is_ok();
                        }
                    }
                }
            } else if !is_data_of_header(&path) {
                let stamp = stamp(&path);
                sent = if self.known.get(&source) == Some(&stamp) {
                    done.send(Ok(None)).is_ok()
                } else {
                    found.send(Found { path, source, stamp }).is_ok()
                };
            }
            // Sending fails once the workers have ended.
            if !sent {
                return;
            }
        }
    }
}

/// Whether a file holds the pixels of a MetaImage header beside it.
fn is_data_of_header(path: &Path) -> bool {
    let raw = path.extension().is_some_and(|s| s.eq_ignore_ascii_case("raw") || s.eq_ignore_ascii_case("zraw"));
    raw && path.with_extension("mhd").is_file()
}

/// Length and time of change, by which a file is known to be the same.
fn stamp(path: &Path) -> String {
    let Ok(found) = path.metadata() else { return String::new() };
    let changed = found.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    format!("{}-{}", found.len(), changed.map_or(0, |time| time.as_nanos()))
}

/// Converts files.
struct Worker<'a> {
    store: &'a Path,
    key: &'a Key,
    options: &'a Options,
}

impl Worker<'_> {
    /// Puts the images of a file into the store, each through a file called `temporary`; `None` if it was stopped on the way.
    ///
    /// # Errors
    /// A store that cannot be written to. What is wrong with the file is part of its entry.
    fn convert(&self, file: &Found, temporary: &Path, stopped: impl Fn() -> bool) -> Result<Option<Entry>> {
        let Found { path, source, stamp } = file;
        let mut entry = Entry { source: source.clone(), stamp: stamp.clone(), ..Entry::default() };
        // The errors of readers begin with a name, which must not be that of the file.
        let reason = |e: Error| match e {
            Error::Unusable { problem, .. } => problem,
            other => other.to_string(),
        };
        // Nor of the file with the data of a MetaImage.
        let with_data = |bytes| metaimage::with_data(path, bytes).map_err(|(_, e)| e);
        // Of what is no image, however large, the start is enough to tell.
        let read = |start: Vec<u8>| if is_image(&start) { fs::read(path).and_then(with_data) } else { Ok(start) };
        let bytes = match start_of(path, START).and_then(read) {
            Ok(bytes) => bytes,
            Err(e) => {
                // Without a stamp it is tried again next time.
                let rejected = Some(format!("it cannot be read: {e}"));
                return Ok(Some(Entry { stamp: String::new(), rejected, ..entry }));
            }
        };
        entry.content = self.key.hash("content", &bytes);
        let bytes = volume::unpacked(bytes);
        let opened = guarded(|| {
            let scan = Scan::open(&bytes, NAME)?;
            let cells = header::cells(&bytes, scan.facts(), source, self.key);
            Ok((scan, cells))
        });
        let scan = match opened {
            Ok((scan, cells)) => {
                entry.cells = cells;
                scan
            }
            Err(e) => {
                entry.rejected = Some(reason(e));
                return Ok(Some(entry));
            }
        };
        let frames = scan.facts().frames;
        if frames > 1 && volume::is_packed(&bytes) {
            // Each frame would unpack all before it.
            entry.rejected = Some("it is too large to be unpacked in memory: unpack it before".into());
            return Ok(Some(entry));
        }
        let mut bad = 0;
        for frame in 0..frames {
            if stopped() {
                return Ok(None);
            }
            match guarded(|| scan.frame(frame)?.render(self.options.intensity, NAME)) {
                Ok(gray) => {
                    let png = png(self.shaped(gray));
                    let image = Image { frame, length: png.len() as u64 };
                    self.put(&entry.path(&image), &png, temporary)?;
                    entry.images.push(image);
                }
                Err(e) => {
                    entry.rejected.get_or_insert(reason(e));
                    // Frames of a volume follow each other, and where one ends early none is behind it.
                    if volume::is_volume(&bytes) {
                        bad = frames - frame;
                        break;
                    }
                    bad += 1;
                }
            }
        }
        if bad > 1 {
            entry.rejected.as_mut().expect("the reason of the first").push_str(&format!("; {} more frames", bad - 1));
        }
        Ok(Some(entry))
    }

    /// The image as it is stored.
    fn shaped(&self, gray: Gray) -> Gray {
        let gray = match self.options.size {
            Some(size) if self.options.intensity.antialias() => fit(&gray, size),
            Some(size) => fit_plain(&gray, size),
            None => gray,
        };
        match gray.pixels {
            Pixels::U16(values) if self.options.bits == 8 => {
                let level = |v: u16| ((u32::from(v) + 128) / 257) as u8;
                Gray { pixels: Pixels::U8(values.into_iter().map(level).collect()), ..gray }
            }
            pixels => Gray { pixels, ..gray },
        }
    }

    /// Writes a file whole or not at all.
    fn put(&self, name: &str, bytes: &[u8], temporary: &Path) -> Result<()> {
        let path = self.store.join(name);
        let put = || {
            fs::write(temporary, bytes)?;
            fs::rename(temporary, &path).or_else(|_| {
                fs::create_dir_all(path.parent().expect("a file in a folder"))?;
                fs::rename(temporary, &path)
            })
        };
        put().map_err(|e| cannot_write(self.store, e))
    }
}

/// Bytes that tell an image from other files.
const START: u64 = 1 << 16;

/// What errors call a file whose name must not be told.
const NAME: &str = "it";

/// What `read` gives; of a file that makes a reader panic, an error.
fn guarded<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    let bug = |_| Err(Error::unusable("it makes the program fail, which is a bug", "report it"));
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(bug)
}

/// The error of a store that cannot be written to; nothing that is in it is lost.
fn cannot_write(store: &Path, e: io::Error) -> Error {
    match Error::io("write to the store", store, e) {
        Error::Unusable { problem, remedy } => {
            Error::unusable(problem, format!("{remedy}, then give the same command again: it goes on from here"))
        }
        other => other,
    }
}

/// A gray PNG, fast rather than small: Paeth differences, which suit the noise of scans best, packed by `fdeflate`.
fn png(mut gray: Gray) -> Vec<u8> {
    let (depth, bytes): (_, &[u8]) = match &mut gray.pixels {
        Pixels::U8(values) => (png::BitDepth::Eight, values),
        Pixels::U16(values) => {
            values.iter_mut().for_each(|v| *v = v.to_be());
            (png::BitDepth::Sixteen, bytemuck::cast_slice(values))
        }
    };
    let mut file = Vec::with_capacity(bytes.len() / 2);
    let mut encoder = png::Encoder::new(&mut file, gray.width as u32, gray.height as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(depth);
    encoder.set_compression(png::Compression::Fast);
    encoder.set_filter(png::Filter::Paeth);
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(bytes));
    written.expect("an image of at least one pixel, written to memory");
    file
}
