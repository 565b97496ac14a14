//! The directory of a zip file as `torch.save` writes it: entries stored, not compressed, one after the other.
//!
//! General zip crates are lenient where this must not be: of two entries of one name they take the last, they do not look
//! for overlaps, and they insist on checksums that `torch.save` may have been told to leave out. They also read entries
//! through a stream, where the places of the bytes are wanted.

use super::source::{Fault, Source};
use std::collections::BTreeMap;

/// Where an entry's bytes are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Offset of the first in the file.
    pub at: u64,
    /// Their number.
    pub len: u64,
    /// Their CRC-32; 0 if it was not computed.
    pub crc: u32,
}

const END: &[u8] = b"PK\x05\x06";
const END_LEN: usize = 22;
const END_64: &[u8] = b"PK\x06\x06";
const END_64_LEN: u64 = 56;
const LOCATOR_64: &[u8] = b"PK\x06\x07";
const LOCATOR_64_LEN: u64 = 20;
const RECORD: &[u8] = b"PK\x01\x02";
const RECORD_LEN: usize = 46;
const LOCAL: &[u8] = b"PK\x03\x04";
const LOCAL_LEN: u64 = 30;

fn damaged(cause: impl Into<String>) -> Fault {
    Fault::Damaged(cause.into())
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The place of the directory and its number of entries.
struct Directory {
    at: u64,
    len: u64,
    entries: u64,
}

/// Every entry by name.
pub(super) fn entries(source: &Source) -> Result<BTreeMap<String, Entry>, Fault> {
    let directory = find(source)?;
    if directory.entries.saturating_mul(RECORD_LEN as u64) > directory.len {
        return Err(damaged(format!("its directory has no room for {} entries", directory.entries)));
    }
    let bytes = source.bytes(directory.at, directory.len)?;
    let mut rest = &bytes[..];
    let mut entries = BTreeMap::new();
    // Each entry with its header, in the order of the file.
    let mut taken = vec![];
    for _ in 0..directory.entries {
        let (name, entry, start) = record(source, &mut rest, directory.at)?;
        taken.push((start, entry.at + entry.len));
        if entries.insert(name.clone(), entry).is_some() {
            return Err(damaged(format!("it holds {name} twice")));
        }
    }
    if !rest.is_empty() {
        return Err(damaged("its directory is longer than its entries"));
    }
    taken.sort_unstable();
    if taken.windows(2).any(|pair| pair[0].1 > pair[1].0) {
        return Err(damaged("its entries overlap"));
    }
    Ok(entries)
}

fn find(source: &Source) -> Result<Directory, Fault> {
    // A comment of up to 65535 bytes may follow.
    let tail_len = source.len().min(END_LEN as u64 + u64::from(u16::MAX));
    let tail = source.bytes(source.len() - tail_len, tail_len)?;
    let ends_file =
        |at: &usize| tail[*at..].starts_with(END) && *at + END_LEN + usize::from(u16_at(&tail, *at + 20)) == tail.len();
    let last = tail.len().checked_sub(END_LEN).ok_or(Fault::Short)?;
    let at = (0..=last).rev().find(ends_file).ok_or_else(|| damaged("its directory is missing"))?;
    let end = &tail[at..];
    let end_at = source.len() - tail_len + at as u64;
    let mut directory =
        Directory { at: u32_at(end, 16).into(), len: u32_at(end, 12).into(), entries: u16_at(end, 10).into() };
    let mut limit = end_at;
    // torch writes the 64-bit form even where it is not needed.
    let locator = match end_at.checked_sub(LOCATOR_64_LEN) {
        Some(at) => source.bytes(at, LOCATOR_64_LEN)?,
        None => vec![],
    };
    if locator.starts_with(LOCATOR_64) {
        limit = u64_at(&locator, 8);
        let end = source.bytes(limit, END_64_LEN)?;
        if !end.starts_with(END_64) {
            return Err(damaged("its 64-bit directory is missing"));
        }
        directory = Directory { at: u64_at(&end, 48), len: u64_at(&end, 40), entries: u64_at(&end, 32) };
    }
    if directory.at.checked_add(directory.len) != Some(limit) {
        return Err(damaged("its directory is not where it says"));
    }
    Ok(directory)
}

/// Takes the first record off the directory: name, place of the bytes, start of the entry's own header.
fn record(source: &Source, rest: &mut &[u8], limit: u64) -> Result<(String, Entry, u64), Fault> {
    let short = || damaged("its directory is cut off");
    if rest.len() < RECORD_LEN || !rest.starts_with(RECORD) {
        return Err(short());
    }
    let (flags, method, crc) = (u16_at(rest, 8), u16_at(rest, 10), u32_at(rest, 16));
    let [name_len, extra_len, comment_len] = [28, 30, 32].map(|at| usize::from(u16_at(rest, at)));
    let (packed, unpacked, start) = (u32_at(rest, 20), u32_at(rest, 24), u32_at(rest, 42));
    let whole = RECORD_LEN + name_len + extra_len + comment_len;
    let name = rest.get(RECORD_LEN..RECORD_LEN + name_len).ok_or_else(short)?;
    let extra = rest.get(RECORD_LEN + name_len..whole - comment_len).ok_or_else(short)?;
    *rest = rest.get(whole..).ok_or_else(short)?;
    let name = std::str::from_utf8(name).map_err(|_| damaged("the name of an entry is not UTF-8"))?;
    if flags & 1 != 0 || method != 0 {
        let how = if flags & 1 != 0 { "encrypted" } else { "compressed" };
        return Err(Fault::Refused(format!("its entry {name} is {how}, and torch.save writes entries as they are")));
    }
    let [unpacked, packed, start] = wide([unpacked, packed, start], extra).ok_or_else(short)?;
    if packed != unpacked {
        return Err(damaged(format!("{name} has two sizes")));
    }
    let local = source.bytes(start, LOCAL_LEN + name.len() as u64)?;
    if !local.starts_with(LOCAL) || u16_at(&local, 26) as usize != name.len() || &local[30..] != name.as_bytes() {
        return Err(damaged(format!("{name} is not where the directory says")));
    }
    let at = start + LOCAL_LEN + u64::from(u16_at(&local, 26)) + u64::from(u16_at(&local, 28));
    if at.checked_add(packed).is_none_or(|end| end > limit) {
        return Err(damaged(format!("{name} is longer than the file")));
    }
    Ok((name.to_string(), Entry { at, len: packed, crc }, start))
}

/// The fields as 64-bit numbers: those that are full stand in the extra field 1, in this order.
fn wide(fields: [u32; 3], mut extra: &[u8]) -> Option<[u64; 3]> {
    let mut wide: &[u8] = &[];
    while extra.len() >= 4 {
        let len = usize::from(u16_at(extra, 2));
        let field = extra.get(4..4 + len)?;
        if u16_at(extra, 0) == 1 {
            wide = field;
        }
        extra = &extra[4 + len..];
    }
    let mut out = fields.map(u64::from);
    for value in out.iter_mut().filter(|value| **value == u64::from(u32::MAX)) {
        let (first, others) = wide.split_at_checked(8)?;
        *value = u64_at(first, 0);
        wide = others;
    }
    Some(out)
}
