//! Between the tensors of a file and the parameters of a network, name by name.

use super::{Archive, Stored, Tensors, Values};
use crate::{
    Error, Result,
    nn::{Entry, Id, Params},
};

/// Every entry of `params`, as a torch file has it.
///
/// # Errors
/// A failure of the device.
pub fn tensors(params: &Params) -> Result<Tensors> {
    let store = |(id, entry): (Id, &Entry)| {
        let values = match entry.counter() {
            Some(count) => Values::I64(vec![count as i64]),
            None => Values::F32(params.get(id)?),
        };
        Ok((entry.name.clone(), Stored { shape: entry.file_shape.clone(), values }))
    };
    params.iter().map(store).collect()
}

/// Sets every entry of `params` from `archive`, which must hold exactly them. Names that start with `beside` are passed
/// over: they belong to something else.
///
/// # Errors
/// The first tensor, in the order of the network, that is missing or has another shape or type; then the first that
/// the network lacks. Nothing has been changed then.
pub fn load(params: &Params, archive: &Archive, beside: &str) -> Result<()> {
    let unlike = |problem: String| {
        Error::unusable(
            format!("{} does not fit the network: {problem}", archive.path.display()),
            "choose the --model it was made with; `roentgen inspect FILE` lists its tensors",
        )
    };
    for (_, entry) in params.iter() {
        let stored = archive.tensors.get(&entry.name).ok_or_else(|| unlike(format!("{} is missing", entry.name)))?;
        fits(entry, stored).map_err(unlike)?;
    }
    let foreign = |name: &&String| !name.starts_with(beside) && params.find(name).is_none();
    if let Some(name) = archive.tensors.keys().find(foreign) {
        return Err(unlike(format!("the network has no {name}")));
    }
    params.iter().try_for_each(|(id, entry)| set(params, id, &archive.tensors[&entry.name]))
}

/// What [`load_matching`] did with each name.
#[derive(Clone, Debug, Default)]
pub struct Matched {
    /// Set from the file.
    pub copied: Vec<String>,
    /// In the file, but not used, and why.
    pub skipped: Vec<(String, String)>,
    /// Not in the file: left as initialised.
    pub unfilled: Vec<String>,
}

/// Sets the entries of `params` that `archive` has under the same name with the same shape, as a start for training:
/// a head for other classes stays as initialised.
///
/// # Errors
/// A file that has no weight of this network.
pub fn load_matching(params: &Params, archive: &Archive) -> Result<Matched> {
    let mut matched = Matched::default();
    for (id, entry) in params.iter() {
        match archive.tensors.get(&entry.name).map(|stored| (stored, fits(entry, stored))) {
            Some((stored, Ok(()))) => {
                set(params, id, stored)?;
                matched.copied.push(entry.name.clone());
            }
            Some((_, Err(reason))) => matched.skipped.push((entry.name.clone(), reason)),
            None => matched.unfilled.push(entry.name.clone()),
        }
    }
    let foreign = archive.tensors.keys().filter(|name| params.find(name).is_none());
    matched.skipped.extend(foreign.map(|name| (name.clone(), "not in this network".into())));
    if matched.copied.is_empty() {
        let example = archive.tensors.keys().next().map_or("nothing".into(), |name| format!("{name}, for one"));
        return Err(Error::unusable(
            format!("{} has no tensor of this network; it holds {example}", archive.path.display()),
            "weights with torchvision's names of the same --model",
        ));
    }
    Ok(matched)
}

/// Whether a tensor can become the entry, or why not.
fn fits(entry: &Entry, stored: &Stored) -> std::result::Result<(), String> {
    let same_type = entry.counter().is_some() == matches!(stored.values, Values::I64(_));
    if !same_type {
        return Err(format!("{} has values of another type", entry.name));
    }
    if stored.shape != entry.file_shape {
        return Err(format!("{} is {:?} there and {:?} in the network", entry.name, stored.shape, entry.file_shape));
    }
    Ok(())
}

fn set(params: &Params, id: Id, stored: &Stored) -> Result<()> {
    match &stored.values {
        Values::F32(values) => params.set(id, values),
        Values::I64(values) => {
            params.set_counter(id, values[0] as u64);
            Ok(())
        }
    }
}
