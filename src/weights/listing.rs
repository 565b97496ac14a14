//! What a file of weights holds, before any value is read.

use super::{
    Archive,
    safetensors::{self, digest},
    source::{Fault, Source},
    torch,
    values::{Dtype, Stored, Tensors, Values},
};
use crate::{Error, Result};
use rayon::{ThreadPoolBuilder, prelude::*};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The checkpoint of a run's best epoch, in its folder.
pub const BEST: &str = "best.safetensors";

/// A format that weights are read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Safetensors.
    #[default]
    Safetensors,
    /// What `torch.save` writes since PyTorch 1.6: a zip file of a pickle and its storages.
    TorchZip,
    /// What it wrote before: five pickles, then the storages.
    TorchLegacy,
}

impl Format {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Format::Safetensors => "safetensors",
            Format::TorchZip => "PyTorch",
            Format::TorchLegacy => "PyTorch (legacy)",
        }
    }

    /// The format of a file that begins so; what is nothing else is taken for safetensors, which has no magic number.
    fn of(head: &[u8]) -> Format {
        match head {
            [b'P', b'K', 3, 4, ..] => Format::TorchZip,
            _ if torch::is_legacy(head) => Format::TorchLegacy,
            _ => Format::Safetensors,
        }
    }
}

/// Whether a file that begins so may be one of weights.
pub(super) fn is_weights(head: &[u8]) -> bool {
    Format::of(head) != Format::Safetensors || head.get(8) == Some(&b'{')
}

/// Whether a file that begins so is a pickle, and not safetensors with a header of just that length.
fn is_pickle(head: &[u8]) -> bool {
    matches!(head, [0x80, 2..=5, ..]) && head.get(8) != Some(&b'{')
}

/// Where a run of bytes is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes {
    pub at: u64,
    pub len: u64,
    /// Their CRC-32; 0 where there is none.
    pub crc: u32,
}

/// Where a tensor's values are, and how they become a tensor.
#[derive(Clone, Debug)]
pub struct Place {
    /// Their type in the file.
    pub dtype: Dtype,
    /// Its shape, as torch has it.
    pub shape: Vec<usize>,
    pub(super) storage: usize,
    /// Values before its first one.
    pub(super) offset: usize,
    /// Values from one index to the next, for each axis.
    pub(super) strides: Vec<usize>,
}

impl Place {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Why the values cannot be within `storage`, if so. What has passed can be multiplied without overflow.
    pub(super) fn check(&self, storage: &Bytes) -> std::result::Result<(), String> {
        let len = self.shape.iter().try_fold(1usize, |len, extent| len.checked_mul(*extent));
        let reach = self.shape.iter().zip(&self.strides).try_fold(self.offset, |reach, (extent, stride)| {
            extent.saturating_sub(1).checked_mul(*stride).and_then(|step| reach.checked_add(step))
        });
        let end = match (len, reach) {
            (Some(0), Some(_)) => Some(0),
            (Some(_), Some(last)) => last.checked_add(1),
            _ => None,
        };
        let bytes = end.and_then(|end| end.checked_mul(self.dtype.size()));
        if bytes.is_some_and(|bytes| bytes as u64 <= storage.len) {
            return Ok(());
        }
        Err(format!("of shape {:?} reaches beyond the {} bytes of its storage", self.shape, storage.len))
    }

    /// The strides of values that follow each other; where there are none, they are of no consequence.
    pub(super) fn packed(shape: &[usize]) -> Vec<usize> {
        let mut strides = vec![1usize; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis].wrapping_mul(shape[axis]);
        }
        strides
    }

    /// Whether the values follow each other. Of an axis of extent 1 the stride does not matter.
    fn is_packed(&self) -> bool {
        let packed = Place::packed(&self.shape);
        self.shape
            .iter()
            .zip(&self.strides)
            .zip(packed)
            .all(|((extent, stride), packed)| *extent == 1 || *stride == packed)
    }

    /// The tensor in the bytes of its storage.
    fn take(&self, storage: &[u8]) -> Values {
        let size = self.dtype.size();
        if self.is_empty() {
            return self.dtype.decode(&[]);
        }
        if self.is_packed() {
            return self.dtype.decode(&storage[self.offset * size..][..self.len() * size]);
        }
        let mut packed = Vec::with_capacity(self.len() * size);
        let mut index = vec![0; self.shape.len()];
        for _ in 0..self.len() {
            let at = index.iter().zip(&self.strides).fold(self.offset, |at, (i, stride)| at + i * stride);
            packed.extend_from_slice(&storage[at * size..][..size]);
            // The next index, last axis first.
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        self.dtype.decode(&packed)
    }
}

/// The tensors may take this many times the bytes of the file, since half types double and views may share values.
const MOST_EXPANSION: u64 = 8;

/// What a file holds: names, types, shapes, places.
#[derive(Default)]
pub struct Listing {
    /// The file.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// What is around it: nothing, `in gzip`, `in tar`, or `in tar in gzip`.
    pub wrapping: &'static str,
    /// Keys that lead to the weights, with dots between; empty where the file holds nothing else.
    pub container: String,
    /// What else is there, and not read.
    pub beside: Vec<String>,
    /// Its tensors.
    pub places: BTreeMap<String, Place>,
    /// The state that [`super::encode`] was given; `None` in a file that another program wrote.
    pub state: Option<String>,
    pub(super) digest: Option<String>,
    pub(super) storages: Vec<Bytes>,
    pub(super) source: Option<Source>,
}

impl Listing {
    /// Looks into the file at `path`, or into the best checkpoint of a run whose folder that is.
    ///
    /// # Errors
    /// A folder that is none of a run; a file that cannot be read, is truncated or damaged, is of another kind, or asks for
    /// more than weights need.
    pub fn open(path: &Path) -> Result<Listing> {
        if !path.is_dir() {
            return Listing::look(Source::open(path)?, path);
        }
        let best = path.join(BEST);
        if !best.is_file() {
            if path.join("last.safetensors").is_file() {
                let problem = format!("the run {} holds no {BEST}, as before its first epoch ends", path.display());
                return Err(Error::unusable(problem, "its last.safetensors, or roentgen finetune --resume to go on"));
            }
            let problem = format!("{} is no run: it holds no {BEST}", path.display());
            return Err(Error::unusable(problem, "a file of weights, or the folder of a run, say runs/resnet18-1"));
        }
        Listing::look(Source::open(&best)?, &best)
    }

    /// Looks into the bytes of a file that is called `path`.
    ///
    /// # Errors
    /// As [`Listing::open`].
    pub fn of_bytes(bytes: Vec<u8>, path: &Path) -> Result<Listing> {
        Listing::look(Source::memory(bytes), path)
    }

    fn look(source: Source, path: &Path) -> Result<Listing> {
        let (source, wrapping) = source.unwrapped().map_err(|fault| fault.of(path, "gzip or tar"))?;
        let head = source.head().map_err(|fault| fault.of(path, "weights"))?;
        let format = Format::of(&head);
        let listing = match format {
            Format::Safetensors if is_pickle(&head) => {
                Err(Fault::Refused("it is a pickle, but torch.save did not write it".into()))
            }
            Format::Safetensors => safetensors::read(&source),
            Format::TorchZip => torch::read_zip(&source),
            Format::TorchLegacy => torch::read_legacy(&source),
        };
        let listing = listing.and_then(|listing| listing.check(source.len()).map(|()| listing));
        let listing = listing.map_err(|fault| fault.of(path, format.name()))?;
        Ok(Listing { path: path.into(), format, wrapping, source: Some(source), ..listing })
    }

    /// Refuses views that would take out of proportion more memory than the file.
    fn check(&self, file: u64) -> std::result::Result<(), Fault> {
        let sizes =
            self.places.values().map(|place| (place.len() as u64).saturating_mul(place.dtype.read_size() as u64));
        let total = sizes.fold(0, u64::saturating_add);
        if total / MOST_EXPANSION <= file {
            return Ok(());
        }
        Err(Fault::Refused(format!("its tensors would take {total} bytes, out of proportion to its {file}")))
    }

    /// Reads the values: each storage once, on all threads.
    ///
    /// # Errors
    /// A file that cannot be read, or is damaged.
    pub fn read(&self) -> Result<Archive> {
        let mut tenants: Vec<Vec<(&String, &Place)>> = vec![vec![]; self.storages.len()];
        self.places.iter().for_each(|(name, place)| tenants[place.storage].push((name, place)));
        let read = |(bytes, tenants): (&Bytes, Vec<_>)| self.read_storage(bytes, &tenants);
        // A pool of its own: how many threads the program computes on is settled later.
        let pool = ThreadPoolBuilder::new().build();
        let pool =
            pool.map_err(|e| Error::unusable(format!("cannot start threads: {e}"), "raise the limit of processes"))?;
        let read: std::result::Result<Vec<_>, Fault> =
            pool.install(|| self.storages.par_iter().zip(tenants).map(read).collect());
        let faulty = |fault: Fault| fault.of(&self.path, self.format.name());
        let tensors: Tensors = read.map_err(faulty)?.into_iter().flatten().collect();
        if let Some(state) = &self.state
            && self.digest.as_ref() != Some(&digest(&tensors, state))
        {
            return Err(faulty(Fault::Damaged("its digest does not match".into())));
        }
        Ok(Archive { path: self.path.clone(), tensors, state: self.state.clone() })
    }

    fn read_storage(
        &self,
        bytes: &Bytes,
        tenants: &[(&String, &Place)],
    ) -> std::result::Result<Vec<(String, Stored)>, Fault> {
        let source = self.source.as_ref().expect("a listing has a source once it is given out");
        let fill = |out: &mut [u8]| {
            source.read_at(bytes.at, out)?;
            if bytes.crc != 0 && bytes.crc != crc32fast::hash(out) {
                let names: Vec<_> = tenants.iter().map(|(name, _)| name.as_str()).collect();
                return Err(Fault::Damaged(format!("the checksum of {} does not match", names.join(", "))));
            }
            Ok(())
        };
        let stored =
            |name: &str, place: &Place, values| (name.to_string(), Stored { shape: place.shape.clone(), values });
        // One tensor that is the whole storage, as nearly all are: read to where it stays.
        if let [(name, place)] = tenants
            && place.dtype == Dtype::F32
            && place.is_packed()
            && place.len() as u64 * 4 == bytes.len
        {
            let mut values = vec![0f32; place.len()];
            fill(bytemuck::cast_slice_mut(&mut values))?;
            return Ok(vec![stored(name, place, Values::F32(values))]);
        }
        let mut all = vec![0; bytes.len as usize];
        fill(&mut all)?;
        Ok(tenants.iter().map(|(name, place)| stored(name, place, place.take(&all))).collect())
    }
}
