//! Files that `torch.save` wrote: which of the values in their pickle are the weights, and where their bytes are.

use super::{
    listing::{Bytes, Listing, Place},
    pickle::{FALSE, Id, Node, Pickle, Storage},
    source::{Fault, Source},
    values::Dtype,
    zip,
};
use std::collections::{BTreeMap, HashMap};

/// Keys under which programs keep the weights beside other things, in the order in which they are tried.
const CONTAINERS: [&str; 7] = ["model_state", "state_dict", "model_state_dict", "model", "net", "network", "weights"];

/// Containers in each other at most.
const MOST_NESTED: usize = 3;

/// Axes of a tensor at most.
const MOST_AXES: usize = 8;

/// Bytes of a pickle at most. That of DenseNet121 with its optimiser has 0.6 MB.
const MOST_PICKLE: u64 = 64 << 20;

/// What the legacy format begins with: protocol 2 or later, then the number 0x1950a86a20f9469cfc6c.
const MAGIC: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// Whether a file that begins so is of the legacy format.
pub(super) fn is_legacy(head: &[u8]) -> bool {
    head.first() == Some(&0x80) && head.get(2..2 + MAGIC.len()) == Some(MAGIC)
}

fn big_endian() -> Fault {
    Fault::Refused("its values are stored big end first".into())
}

/// What a zip file of `torch.save` holds.
pub(super) fn read_zip(source: &Source) -> Result<Listing, Fault> {
    let entries = zip::entries(source)?;
    let mut roots = entries.keys().filter_map(|name| name.strip_suffix("data.pkl")).filter(|root| {
        // At the top, or in the one folder that torch writes.
        root.is_empty() || root.find('/') == Some(root.len() - 1)
    });
    let (Some(root), None) = (roots.next(), roots.next()) else {
        return Err(Fault::Refused("the zip file was not written by torch.save: it has no data.pkl".into()));
    };
    if entries.contains_key(&format!("{root}constants.pkl")) {
        return Err(Fault::Refused("it is a TorchScript program".into()));
    }
    if let Some(order) = entries.get(&format!("{root}byteorder"))
        && source.bytes(order.at, order.len.min(8))? != b"little"
    {
        return Err(big_endian());
    }
    let entry = entries[&format!("{root}data.pkl")];
    if entry.len > MOST_PICKLE {
        return Err(Fault::Refused(format!("its pickle has {} MiB", entry.len >> 20)));
    }
    let text = source.bytes(entry.at, entry.len)?;
    if entry.crc != 0 && entry.crc != crc32fast::hash(&text) {
        return Err(Fault::Damaged("the checksum of data.pkl does not match".into()));
    }
    let pickle = Pickle::read(&text)?;
    let find = |storage: &Storage| {
        let entry = entries.get(&format!("{root}data/{}", storage.key))?;
        Some(Bytes { at: entry.at, len: entry.len, crc: entry.crc })
    };
    list(&pickle, &find)
}

/// What a file of the legacy format holds: four pickles (magic number, protocol, facts about the machine, values), the
/// keys of the storages as a fifth, and each storage as its number of values and the values.
pub(super) fn read_legacy(source: &Source) -> Result<Listing, Fault> {
    // How far the pickles reach is known only once they have been read.
    let most = source.len().min(MOST_PICKLE);
    let mut len = most.min(1 << 20);
    loop {
        match read_prefix(source, &source.bytes(0, len)?) {
            Err(Fault::Short) if len < most => len = most.min(2 * len),
            other => return other,
        }
    }
}

fn read_prefix(source: &Source, bytes: &[u8]) -> Result<Listing, Fault> {
    let mut at = 0;
    let mut next = || {
        let pickle = Pickle::read(&bytes[at..])?;
        at += pickle.len;
        Ok::<_, Fault>(pickle)
    };
    let (_magic, _protocol, facts, pickle, keys) = (next()?, next()?, next()?, next()?, next()?);
    let facts = facts.pairs(facts.root).map(|pairs| pairs.iter().map(|(key, value)| (facts.text(*key), *value)));
    let mut facts =
        facts.ok_or_else(|| Fault::Damaged("the facts about the machine that wrote it are missing".into()))?;
    if facts.any(|fact| fact == (Some("little_endian"), FALSE)) {
        return Err(big_endian());
    }
    let sizes: HashMap<&str, (u64, u64)> =
        pickle.storages().map(|storage| (storage.key, (storage.numel, value_size(storage.kind)))).collect();
    let mut places = HashMap::new();
    let mut at = at as u64;
    for key in keys.items(keys.root).ok_or_else(|| Fault::Damaged("it does not list its storages".into()))? {
        let key = keys.text(*key).unwrap_or_default();
        let known = sizes.get(key).ok_or_else(|| Fault::Damaged("it lists a storage that no tensor has".into()));
        let &(numel, size) = known?;
        let mut written = [0; 8];
        source.read_at(at, &mut written)?;
        if u64::from_le_bytes(written) != numel {
            return Err(Fault::Damaged(format!("storage {key} has two sizes")));
        }
        let len = numel.checked_mul(size).ok_or(Fault::Short)?;
        let end = (at + 8).checked_add(len).filter(|end| *end <= source.len()).ok_or(Fault::Short)?;
        if places.insert(key, Bytes { at: at + 8, len, crc: 0 }).is_some() {
            return Err(Fault::Damaged(format!("it holds storage {key} twice")));
        }
        at = end;
    }
    if at != source.len() {
        return Err(Fault::Damaged("it goes on after its last tensor".into()));
    }
    list(&pickle, &|storage| places.get(storage.key).copied())
}

/// Bytes of a value in a storage of class `kind`, supported or not.
fn value_size(kind: &str) -> u64 {
    match (Dtype::of_storage(kind), kind) {
        (Some(dtype), _) => dtype.size() as u64,
        (_, "ComplexDoubleStorage") => 16,
        (_, "ComplexFloatStorage") => 8,
        (_, "QInt32Storage") => 4,
        _ => 1,
    }
}

/// The weights in a pickle whose storages are where `find` says.
fn list(pickle: &Pickle, find: &dyn Fn(&Storage) -> Option<Bytes>) -> Result<Listing, Fault> {
    let (container, dict) = state_dict(pickle)?;
    let mut listing = Listing { container: container.join("."), ..Listing::default() };
    if let Some(first) = container.first() {
        let keys = pickle.pairs(pickle.root).unwrap_or(&[]).iter().map(|(key, _)| name_of(pickle, *key));
        keys.filter(|key| *key != Some(first)).for_each(|key| note(&mut listing.beside, key));
    }
    // The same storage may have several tensors; it is the same bytes then.
    let mut known: HashMap<&str, (usize, &str, u64)> = HashMap::new();
    for &(key, value) in pickle.pairs(dict).unwrap_or(&[]) {
        let (Some(name), Node::Tensor(args)) = (name_of(pickle, key), pickle.node(value)) else {
            note(&mut listing.beside, name_of(pickle, key));
            continue;
        };
        let tensor = Tensor::of(pickle, *args).map_err(|fault| match fault {
            Fault::Damaged(cause) => Fault::Damaged(format!("{name} {cause}")),
            Fault::Refused(cause) => Fault::Refused(format!("{name} {cause}")),
            other => other,
        })?;
        let Storage { kind, key, numel } = tensor.storage;
        let index = match known.get(key) {
            Some((index, known_kind, known_numel)) if (*known_kind, *known_numel) == (kind, numel) => *index,
            Some(_) => return Err(Fault::Damaged(format!("storage {key} has two types or sizes"))),
            None => {
                let missing = || Fault::Damaged(format!("storage {key} of {name} is missing"));
                let bytes = find(&tensor.storage).ok_or_else(missing)?;
                if numel.checked_mul(value_size(kind)) != Some(bytes.len) {
                    return Err(Fault::Damaged(format!("storage {key} of {name} has not {numel} values")));
                }
                listing.storages.push(bytes);
                known.insert(key, (listing.storages.len() - 1, kind, numel));
                listing.storages.len() - 1
            }
        };
        let Tensor { dtype, shape, strides, offset, .. } = tensor;
        let place = Place { dtype, shape, storage: index, offset, strides };
        place.check(&listing.storages[index]).map_err(|cause| Fault::Damaged(format!("{name} {cause}")))?;
        if listing.places.insert(name.to_string(), place).is_some() {
            return Err(Fault::Damaged(format!("it holds {name} twice")));
        }
    }
    Ok(listing)
}

/// Bytes of a name at most: a pickle may use a long text as a key again and again.
const MOST_NAME: usize = 512;

/// Names in the list of what is not read, at most.
const MOST_BESIDE: usize = 32;

fn name_of<'a>(pickle: &Pickle<'a>, key: Id) -> Option<&'a str> {
    pickle.text(key).filter(|name| name.len() <= MOST_NAME)
}

fn note(beside: &mut Vec<String>, name: Option<&str>) {
    match beside.len() {
        MOST_BESIDE => beside.push("and more".into()),
        len if len < MOST_BESIDE => beside.push(name.unwrap_or("an entry without a name").into()),
        _ => {}
    }
}

/// The way to the dictionary of the weights, and the dictionary.
fn state_dict<'a>(pickle: &Pickle<'a>) -> Result<(Vec<&'a str>, Id), Fault> {
    let mut way = vec![];
    let mut here = pickle.root;
    while way.len() <= MOST_NESTED {
        let Some(pairs) = pickle.pairs(here) else { break };
        let tensors = |pairs: &[(Id, Id)]| {
            pairs
                .iter()
                .any(|(key, value)| name_of(pickle, *key).is_some() && matches!(pickle.node(*value), Node::Tensor(_)))
        };
        let dicts: BTreeMap<&str, Id> = pairs
            .iter()
            .filter(|(_, value)| pickle.pairs(*value).is_some())
            .filter_map(|(key, value)| Some((name_of(pickle, *key)?, *value)))
            .collect();
        if let Some(key) = CONTAINERS.into_iter().find(|key| dicts.contains_key(key)) {
            let (key, inner) = dicts.get_key_value(key).expect("it is there");
            way.push(*key);
            here = *inner;
            continue;
        }
        if tensors(pairs) {
            return Ok((way, here));
        }
        // One dictionary may be here under many keys.
        let mut known = HashMap::new();
        let mut holds = |id: Id| *known.entry(id).or_insert_with(|| pickle.pairs(id).is_some_and(tensors));
        let holding: Vec<_> = dicts.iter().filter(|(_, id)| holds(**id)).collect();
        match holding[..] {
            [(key, inner)] => {
                way.push(*key);
                here = *inner;
            }
            [] => break,
            _ => {
                let keys: Vec<_> = holding.iter().map(|(key, _)| **key).collect();
                return Err(Fault::Refused(format!("it holds several sets of tensors: {}", keys.join(", "))));
            }
        }
    }
    Err(Fault::Refused("it holds no dictionary of tensors by name".into()))
}

/// The arguments that a tensor is made from.
struct Tensor<'a> {
    storage: Storage<'a>,
    dtype: Dtype,
    shape: Vec<usize>,
    strides: Vec<usize>,
    offset: usize,
}

impl<'a> Tensor<'a> {
    /// Reads `(storage, offset, shape, strides, ...)`. Of version 3, whose storages are bytes, the seventh is the type.
    fn of(pickle: &Pickle<'a>, args: Id) -> Result<Tensor<'a>, Fault> {
        let damaged = |cause: &str| Fault::Damaged(cause.into());
        let items = pickle.items(args).unwrap_or(&[]);
        let &[storage, offset, shape, strides, ..] = items else {
            return Err(damaged("lacks storage, offset, shape or strides"));
        };
        let &Node::Storage(storage) = pickle.node(storage) else {
            return Err(damaged("has no storage"));
        };
        let named = match items.get(6).map(|id| pickle.node(*id)) {
            Some(Node::Dtype(name)) => Some(*name),
            _ => None,
        };
        let dtype = named.map_or_else(|| Dtype::of_storage(storage.kind), Dtype::named);
        let dtype = dtype.ok_or_else(|| Fault::Refused(format!("holds {} values", named.unwrap_or(storage.kind))))?;
        let extent = |id: &Id| match pickle.node(*id) {
            Node::Int(value) => usize::try_from(*value).ok(),
            _ => None,
        };
        let extents = |id: Id| {
            let items = pickle.items(id).filter(|items| items.len() <= MOST_AXES)?;
            items.iter().map(extent).collect::<Option<Vec<_>>>()
        };
        let shape = extents(shape).ok_or_else(|| damaged("has a shape that is none"))?;
        let strides = extents(strides).filter(|strides| strides.len() == shape.len());
        let strides = strides.ok_or_else(|| damaged("has strides that are none"))?;
        let offset = extent(&offset).ok_or_else(|| damaged("has an offset that is none"))?;
        Ok(Tensor { storage, dtype, shape, strides, offset })
    }
}
