//! What has been done, a line a file: where a conversion goes on, and what its manifest is made from.
//!
//! A line is written once all images of its file are in the store. One that is cut off, by a kill or a full disk,
//! counts as not written; a later line of the same file takes the place of an earlier one.

use super::header;
use crate::{
    Error, Result,
    files::{self, write_atomic_with},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fs::{File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// The recipe of a store: the first line.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    pub version: u32,
    pub size: Option<usize>,
    pub bits: u32,
    pub intensity: String,
    /// A hash that tells one key from another.
    pub key: String,
}

/// What became of a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Hash of where it is.
    pub source: String,
    /// Its length and time of change.
    pub stamp: String,
    /// Hash of its bytes, the name of its images.
    pub content: String,
    /// The cells of [`header::columns`].
    pub cells: Vec<String>,
    /// Its images in the store.
    pub images: Vec<Image>,
    /// Why it, or part of it, was left out.
    pub rejected: Option<String>,
}

/// A frame of a file in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    pub frame: usize,
    /// Bytes of the PNG.
    pub length: u64,
}

impl Entry {
    /// Where an image is within the store: in one of 4096 folders, so that none grows long.
    pub fn path(&self, image: &Image) -> String {
        let (content, frame) = (&self.content, image.frame);
        format!("images/{}/{}-{frame}.png", &content[..3], &content[3..])
    }
}

/// The journal of a store, held by this process alone.
pub struct Journal {
    store: PathBuf,
    file: File,
    /// Bytes up to the end of the last whole line.
    end: u64,
    /// Where the line of each finished file begins.
    finished: HashMap<String, u64>,
}

/// The stamps of finished files, by the hashes of where they are.
pub type Stamps = HashMap<String, String>;

impl Journal {
    /// Opens the journal in the folder `store`, or begins it.
    ///
    /// # Errors
    /// A store that another process writes to, or that was begun with another recipe; a folder that is no store and has files of
    /// the same names.
    pub fn open(store: &Path, recipe: &Recipe) -> Result<(Journal, Stamps)> {
        let path = store.join("journal.jsonl");
        if path.metadata().map_or(0, |found| found.len()) == 0
            && let Some(foreign) = ["manifest.csv", "rejected.csv"].iter().find(|name| store.join(name).exists())
        {
            let problem = format!("{} is no store and has a {foreign}, which would be replaced", store.display());
            return Err(Error::unusable(problem, "another --out"));
        }
        let failed = |e| Error::io("open", &path, e);
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(failed)?;
        file.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => {
                let problem = format!("another process is converting to {}", store.display());
                Error::unusable(problem, "wait for it, or another --out")
            }
            TryLockError::Error(e) => failed(e),
        })?;
        files::remove_temporaries(store);
        let mut journal = Journal { store: store.into(), file, end: 0, finished: HashMap::new() };
        let (begun, stamps) = journal.load()?;
        match begun {
            None => journal.write(recipe)?,
            Some(begun) if begun == *recipe => {}
            Some(begun) => {
                let differs = match (begun.key == recipe.key, begun.version == recipe.version) {
                    (false, _) => "another key",
                    (_, false) => "another version of this program",
                    _ => "another --size, --bits or --intensity",
                };
                let problem = format!("the store {} was begun with {differs}", store.display());
                return Err(Error::unusable(problem, "the same as then, or another --out"));
            }
        }
        Ok((journal, stamps))
    }

    /// Reads all whole lines, and cuts off what is behind them.
    fn load(&mut self) -> Result<(Option<Recipe>, Stamps)> {
        let mut reader = BufReader::new(&self.file);
        let (mut recipe, mut stamps) = (None, Stamps::new());
        let failed = |e| Error::io("read", &self.store.join("journal.jsonl"), e);
        loop {
            let mut raw = vec![];
            reader.read_until(b'\n', &mut raw).map_err(failed)?;
            let Some(whole) = raw.strip_suffix(b"\n") else { break };
            if recipe.is_none() {
                recipe = Some(serde_json::from_slice(whole).map_err(|e| {
                    let problem = format!("{} is not the journal of a store ({e})", self.store.display());
                    Error::unusable(problem, "another --out")
                })?);
            } else if let Ok(entry) = serde_json::from_slice::<Entry>(whole) {
                // Images that a crash of the machine took away are made again.
                let there = |image: &Image| {
                    let found = self.store.join(entry.path(image)).metadata();
                    found.is_ok_and(|found| found.len() == image.length)
                };
                if entry.images.iter().all(there) {
                    self.finished.insert(entry.source.clone(), self.end);
                    stamps.insert(entry.source, entry.stamp);
                }
            }
            self.end += raw.len() as u64;
        }
        self.file.set_len(self.end).map_err(failed)?;
        Ok((recipe, stamps))
    }

    /// Notes that a file is finished.
    pub fn add(&mut self, entry: &Entry) -> Result<()> {
        let start = self.end;
        self.write(entry)?;
        self.finished.insert(entry.source.clone(), start);
        Ok(())
    }

    fn write(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string(line).expect("plain data");
        text.push('\n');
        self.file.write_all(text.as_bytes()).map_err(|e| {
            // What was written of the line is cut off now, or by the next run.
            let _ = self.file.set_len(self.end);
            super::cannot_write(&self.store, e)
        })?;
        self.end += text.len() as u64;
        Ok(())
    }

    /// Writes `manifest.csv` and `rejected.csv`. Of files with the same bytes the manifest has the one whose hash
    /// comes first.
    ///
    /// # Errors
    /// A store that cannot be written to.
    pub fn finish(&self) -> Result<Totals> {
        self.file.sync_all().map_err(|e| super::cannot_write(&self.store, e))?;
        let mut order = vec![];
        for &start in self.finished.values() {
            let Entry { source, content, .. } = self.entry(start)?;
            order.push((content, source, start));
        }
        order.sort_unstable();
        let mut totals = Totals { files: order.len(), ..Totals::default() };
        let mut rejected = vec![];
        write_atomic_with(&self.store.join("manifest.csv"), |file| {
            let mut table = csv::Writer::from_writer(file);
            table.write_record(["path", "frame_number"].into_iter().chain(header::columns()))?;
            for same in order.chunk_by(|a, b| a.0 == b.0) {
                let mut first: Option<&str> = None;
                for (_, source, start) in same {
                    let entry = self.entry(*start).map_err(io::Error::other)?;
                    if let Some(first) = first {
                        rejected.push([source.clone(), format!("it has the same bytes as {first}")]);
                        totals.copies += 1;
                        continue;
                    }
                    for image in &entry.images {
                        let place = [entry.path(image), image.frame.to_string()];
                        table.write_record(place.iter().chain(&entry.cells))?;
                        first = Some(source);
                    }
                    totals.images += entry.images.len();
                    if let Some(reason) = entry.rejected {
                        rejected.push([entry.source, reason]);
                        totals.rejected += 1;
                    }
                }
            }
            table.flush()
        })?;
        rejected.sort();
        write_atomic_with(&self.store.join("rejected.csv"), |file| {
            let mut table = csv::Writer::from_writer(file);
            table.write_record(["source", "reason"])?;
            rejected.iter().try_for_each(|row| table.write_record(row))?;
            table.flush()
        })?;
        Ok(totals)
    }

    /// The entry whose line begins there.
    fn entry(&self, start: u64) -> Result<Entry> {
        let path = self.store.join("journal.jsonl");
        let failed = |e| Error::io("read", &path, e);
        let mut file = &self.file;
        file.seek(SeekFrom::Start(start)).map_err(failed)?;
        let mut line = vec![];
        BufReader::new(file.take(self.end - start)).read_until(b'\n', &mut line).map_err(failed)?;
        serde_json::from_slice(&line).map_err(|e| failed(e.into()))
    }
}

/// What is in a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Files that were looked at.
    pub files: usize,
    /// Images in the manifest.
    pub images: usize,
    /// Files of which nothing, or not all, could be read.
    pub rejected: usize,
    /// Files with the bytes of another.
    pub copies: usize,
}
