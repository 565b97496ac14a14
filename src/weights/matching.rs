//! Between the tensors of a file and the parameters of a network, name by name.

use super::{Archive, Stored, Tensors, Values, names::candidates, report::Matched};
use crate::{
    Error, Result,
    nn::{Entry, Id, Kind, Params},
};
use std::collections::HashMap;

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
        fits(entry, stored).map_err(|reason| unlike(format!("{} {reason}", entry.name)))?;
    }
    let foreign = |name: &&String| !name.starts_with(beside) && params.find(name).is_none();
    if let Some(name) = archive.tensors.keys().find(foreign) {
        return Err(unlike(format!("the network has no {name}")));
    }
    params.iter().try_for_each(|(id, entry)| set(params, id, &archive.tensors[&entry.name]))
}

/// What the names of an optimiser's states start with in our own files: `optimizer.<state>.<parameter>`.
pub(crate) const OPTIMISER: &str = "optimizer.";

/// What [`load_matching`] may do, and must.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transfer {
    /// Copy the head too, as [`head`] has it: its classes are otherwise taken for those of another task.
    pub copy_head: bool,
    /// Fold a first convolution over another number of channels: the sum over the file's, in equal parts.
    pub fold_stem: bool,
    /// Refuse a file that leaves anything but the head unfilled, or has anything else.
    pub strict: bool,
}

/// Layers beside the last that lead to the classes too: that of the numbers beside an image
/// ([`crate::models::Ends::inputs`]), and that of InceptionV3's auxiliary head.
const BESIDE_THE_LAST: [&str; 2] = ["inputs", "AuxLogits.fc"];

/// Names of the weights and biases of the last layer of the backbone, then of those beside it that lead to the classes too.
pub fn head(params: &Params) -> Vec<&str> {
    let names = || params.iter().map(|(_, entry)| entry.name.as_str());
    let weights = params.iter().filter(|(_, entry)| entry.kind == Kind::Weight && !is_beside_the_last(&entry.name));
    let last = weights.last().map(|(_, entry)| layer(&entry.name));
    let of_last = names().filter(|name| Some(layer(name)) == last);
    of_last.chain(names().filter(|name| is_beside_the_last(name))).collect()
}

fn is_beside_the_last(name: &str) -> bool {
    BESIDE_THE_LAST.contains(&layer(name))
}

/// The layer that an entry is of.
fn layer(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(layer, _)| layer)
}

/// Name of the weights of the first convolution.
pub fn stem(params: &Params) -> Option<&str> {
    params.iter().map(|(_, entry)| entry).find(|entry| entry.kind == Kind::Weight).map(|entry| entry.name.as_str())
}

/// The tensor of `archive` that is meant for entry `name` of a network, whatever its shape.
pub fn meant_for<'a>(archive: &'a Archive, name: &str) -> Option<&'a Stored> {
    let meant = |from: &str| candidates(from).iter().any(|(to, _)| to == name);
    archive.tensors.get(name).or_else(|| archive.tensors.iter().find(|(from, _)| meant(from)).map(|(_, stored)| stored))
}

/// Where a tensor of a file goes.
struct Choice<'a> {
    from: &'a str,
    stored: &'a Stored,
    /// Place of its rule among the candidates: the lower, the better.
    rank: usize,
    rule: String,
}

/// Sets the entries of `params` that `archive` has under the same name, or one that a rule leads to, with the same
/// shape, as a start for training.
///
/// # Errors
/// A file that has no weight of this network, or one that is no number, or, if `transfer` is strict, not just its weights. Nothing
/// has been changed then.
pub fn load_matching(params: &Params, archive: &Archive, transfer: Transfer) -> Result<Matched> {
    let mut matched = Matched::default();
    let (head, stem) = (head(params), stem(params));
    let mut chosen: HashMap<&str, Choice> = HashMap::new();
    let of_network = |(name, _): &(&String, &Stored)| archive.state.is_none() || !name.starts_with(OPTIMISER);
    for (from, stored) in archive.tensors.iter().filter(of_network) {
        // The first name that fits; else what is wrong with the first that there is.
        let mut reason = None;
        let found = candidates(from).into_iter().enumerate().find_map(|(rank, (to, rule))| {
            let entry = params.entry(params.find(&to)?);
            let folds = transfer.fold_stem && stem == Some(&entry.name) && foldable(stored, entry);
            match fits(entry, stored) {
                Err(unfit) if !folds => {
                    reason.get_or_insert((entry.name.as_str(), unfit));
                    None
                }
                _ => Some((entry.name.as_str(), Choice { from, stored, rank, rule })),
            }
        });
        match (found, reason) {
            (Some((to, _)), _) if !transfer.copy_head && head.contains(&to) => {
                matched.skip(from, "the head is copied only with --copy-head", true);
            }
            (Some((to, choice)), _) => match chosen.remove(to) {
                Some(other) => {
                    let (first, second) = if other.rank <= choice.rank { (other, choice) } else { (choice, other) };
                    match first.stored == second.stored {
                        true => matched.doubled.push((second.from.into(), first.from.into())),
                        false => {
                            matched.skip(second.from, format!("{} has other values, and was taken", first.from), false)
                        }
                    }
                    chosen.insert(to, first);
                }
                None => drop(chosen.insert(to, choice)),
            },
            (None, Some((to, reason))) => matched.skip(from, reason, head.contains(&to)),
            (None, None) => matched.skip(from, "not in this network", is_beside_the_last(from)),
        }
    }
    for (_, entry) in params.iter() {
        let name = &entry.name;
        match chosen.get(name.as_str()) {
            Some(choice) => {
                let mut rule = choice.rule.clone();
                if choice.stored.shape != entry.file_shape {
                    let joint = if rule.is_empty() { "" } else { ", " };
                    let (there, here) = (choice.stored.shape[1], entry.file_shape[1]);
                    rule = format!("{rule}{joint}folded from {there} to {here} channels");
                }
                matched.copied.push((choice.from.into(), name.clone(), rule));
            }
            None if entry.kind == Kind::Counter => matched.uncounted.push(name.clone()),
            None => matched.unfilled.push((name.clone(), head.contains(&name.as_str()))),
        }
    }
    matched.check(archive, transfer)?;
    for (_, entry) in params.iter() {
        if let Some(Choice { from, stored: Stored { values: Values::F32(values), .. }, .. }) =
            chosen.get(entry.name.as_str())
            && let Some(value) = values.iter().find(|value| !value.is_finite())
        {
            return Err(Error::unusable(
                format!("the weights are damaged: {from} holds {value}"),
                "another checkpoint",
            ));
        }
    }
    for (id, entry) in params.iter() {
        if let Some(choice) = chosen.get(entry.name.as_str()) {
            match choice.stored.shape == entry.file_shape {
                true => set(params, id, choice.stored)?,
                false => set(params, id, &fold(choice.stored, entry.file_shape[1]))?,
            }
        }
    }
    Ok(matched)
}

/// Whether a tensor can become the entry, or why not.
fn fits(entry: &Entry, stored: &Stored) -> std::result::Result<(), String> {
    let same_type = entry.counter().is_some() == matches!(stored.values, Values::I64(_));
    if !same_type {
        return Err("has values of another type".into());
    }
    if stored.shape != entry.file_shape {
        return Err(format!("is {:?} there and {:?} in the network", stored.shape, entry.file_shape));
    }
    Ok(())
}

/// Whether it could be the entry, a filter `[k, c, r, s]`, but for the number of its channels.
fn foldable(stored: &Stored, entry: &Entry) -> bool {
    match (&stored.shape[..], &entry.file_shape[..], &stored.values) {
        (&[k, c, r, s], &[k2, _, r2, s2], Values::F32(_)) => c > 0 && (k, r, s) == (k2, r2, s2),
        _ => false,
    }
}

/// The filter `[k, c, r, s]` over `channels` in place of c: each the sum over the c, divided by `channels`, so that an image
/// whose channels are all the same gives the same features.
///
/// # Panics
/// For what is no filter.
#[track_caller]
pub fn fold(filter: &Stored, channels: usize) -> Stored {
    let (&[k, c, r, s], Values::F32(values)) = (&filter.shape[..], &filter.values) else {
        panic!("a filter has four axes, and floats in them")
    };
    let taps = r * s;
    let mut out = Vec::with_capacity(k * channels * taps);
    for k in 0..k {
        let sum = |tap: usize| (0..c).map(|c_i| f64::from(values[(k * c + c_i) * taps + tap])).sum::<f64>();
        let part: Vec<f32> = (0..taps).map(|tap| (sum(tap) / channels as f64) as f32).collect();
        (0..channels).for_each(|_| out.extend(&part));
    }
    Stored { shape: vec![k, channels, r, s], values: Values::F32(out) }
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
