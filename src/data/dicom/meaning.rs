//! What a data set says its samples mean: rescaling, windows, lookup tables, palettes.

use super::{
    PER_FRAME, SHARED,
    codec::Layout,
    dataset::{DataSet, Parsed, Tag},
};
use crate::data::scan::{Meaning, Rescale, Samples, Shape, Table, Voi};

const FRAME_VOI: Tag = 0x0028_9132;
const VALUE_TRANSFORMATION: Tag = 0x0028_9145;

/// The first item of a sequence in a functional group.
fn own<'s, 'a>(group: Option<&'s DataSet<'a>>, tag: Tag) -> Option<&'s DataSet<'a>> {
    group.and_then(|group| group.items(tag).first())
}

/// What the samples of each frame mean; one for all if they mean the same.
pub fn all(
    set: &DataSet,
    frames: usize,
    layout: &Layout,
    lossy: bool,
    modality: Option<&str>,
    photometric: &str,
) -> Vec<Meaning> {
    let per_frame = set.items(PER_FRAME);
    let shared = set.items(SHARED).first();
    let signed = layout.signed;
    let word = |tag| set.word(tag).map(|word| if signed { f64::from(word as i16) } else { f64::from(word) });
    let padding = word(0x0028_0120).map(|value| {
        let limit = word(0x0028_0121).unwrap_or(value);
        [value.min(limit), value.max(limit)]
    });
    let shape = set.text(0x2050_0020);
    let base = Meaning {
        rescale: rescale(own(shared, VALUE_TRANSFORMATION).unwrap_or(set), signed),
        voi: voi(own(shared, FRAME_VOI).unwrap_or(set), signed),
        inverted: photometric == "MONOCHROME1",
        study_inverted: modality == Some("CR") && shape.as_deref() != Some("IDENTITY"),
        padding,
        range: range(signed, layout.stored),
        shown: layout.channels > 1,
        hounsfield: modality == Some("CT") && set.text(0x0028_1054).is_none_or(|unit| unit == "HU"),
        lossy,
    };
    let of = |frame: &DataSet| Meaning {
        rescale: own(Some(frame), VALUE_TRANSFORMATION)
            .map_or_else(|| base.rescale.clone(), |item| rescale(item, signed)),
        voi: own(Some(frame), FRAME_VOI).map_or_else(|| base.voi.clone(), |item| voi(item, signed)),
        ..base.clone()
    };
    match per_frame.len() {
        0 => vec![base],
        n => per_frame[..n.min(frames)].iter().map(of).collect(),
    }
}

/// Least and greatest value of so many bits.
fn range(signed: bool, bits: u32) -> [f64; 2] {
    let all = 2f64.powi(bits as i32);
    if signed { [-all / 2.0, all / 2.0 - 1.0] } else { [0.0, all - 1.0] }
}

/// PS3.3 C.11.1.
fn rescale(set: &DataSet, signed: bool) -> Rescale {
    if let Some(table) = set.items(0x0028_3000).first().and_then(|item| table(item, 0x0028_3002, 0x0028_3006, signed)) {
        return Rescale::Table(table);
    }
    match (set.decimal(0x0028_1053), set.decimal(0x0028_1052)) {
        (None, None) => Rescale::NONE,
        (slope, intercept) => Rescale::Linear { slope: slope.unwrap_or(1.0), intercept: intercept.unwrap_or(0.0) },
    }
}

/// PS3.3 C.11.2: a LUT, where there is one, goes before the windows.
fn voi(set: &DataSet, signed: bool) -> Vec<Voi> {
    let tables = set.items(0x0028_3010).iter().filter_map(|item| table(item, 0x0028_3002, 0x0028_3006, signed));
    let shape = match set.text(0x0028_1056).as_deref() {
        Some("SIGMOID") => Shape::Sigmoid,
        Some("LINEAR_EXACT") => Shape::LinearExact,
        _ => Shape::Linear,
    };
    let usable = |width: f64| if shape == Shape::Linear { width >= 1.0 } else { width > 0.0 };
    let (centers, widths) = (set.decimals(0x0028_1050), set.decimals(0x0028_1051));
    let windows = centers.into_iter().zip(widths).filter(|(_, width)| usable(*width));
    let windows = windows.map(|(center, width)| Voi::Window { center, width, shape });
    tables.map(Voi::Table).chain(windows).collect()
}

/// A lookup table by the tags of its descriptor and its data.
fn table(set: &DataSet, descriptor: Tag, data: Tag, signed: bool) -> Option<Table> {
    let [count, first, bits] = set.words(descriptor)[..] else { return None };
    let count = if count == 0 { 1 << 16 } else { usize::from(count) };
    let bytes = set.bytes(data)?;
    // Entries of 8 bits are packed into words by some writers, and given a word each by others.
    let mut entries: Vec<u16> = match bytes.len() {
        length if bits == 8 && length < 2 * count => bytes.iter().map(|&byte| byte.into()).collect(),
        _ => set.words(data),
    };
    entries.truncate(count);
    let first = if signed { i64::from(first as i16) } else { first.into() };
    let bits = if (1..=16).contains(&bits) { bits.into() } else { 16 };
    (!entries.is_empty()).then(|| Table { first, bits, entries: entries.into() })
}

/// The tables of red, green and blue.
pub fn palette(set: &DataSet, signed: bool) -> Parsed<[Table; 3]> {
    let color = |c: u32| match table(set, 0x0028_1101 + c, 0x0028_1201 + c, signed) {
        Some(table) => Ok(table),
        None => {
            let [_, first, bits] = set.words(0x0028_1101 + c)[..] else { return Err("its palette is missing".into()) };
            let bytes = set.bytes(0x0028_1221 + c).ok_or("its palette is missing")?;
            let segments = match bits {
                ..=8 => bytes.iter().map(|&byte| byte.into()).collect(),
                _ => set.words(0x0028_1221 + c),
            };
            let first = if signed { i64::from(first as i16) } else { first.into() };
            Ok::<Table, String>(Table { first, bits: u32::from(bits).clamp(1, 16), entries: unfold(&segments)?.into() })
        }
    };
    Ok([color(0)?, color(1)?, color(2)?])
}

/// The entries of a segmented table (PS3.3 C.7.9.2): runs of values, and ramps from the last value to another.
fn unfold(mut segments: &[u16]) -> Parsed<Vec<u16>> {
    let mut entries: Vec<u16> = Vec::new();
    while let [kind, count, rest @ ..] = segments {
        let n = usize::from(*count);
        segments = match (kind, rest, entries.last()) {
            (0, _, _) if rest.len() >= n => {
                entries.extend(&rest[..n]);
                &rest[n..]
            }
            (1, [end, rest @ ..], Some(&start)) => {
                let step = (f64::from(*end) - f64::from(start)) / f64::from(*count);
                entries.extend((1..=n).map(|i| (f64::from(start) + step * i as f64).round_ties_even() as u16));
                rest
            }
            _ => return Err("its palette has a segment that is not read".into()),
        };
        if entries.len() > 1 << 16 {
            return Err("its palette has too many entries".into());
        }
    }
    if entries.is_empty() { Err("its palette is empty".into()) } else { Ok(entries) }
}

/// The colors of palette indices, and their bits.
pub fn resolve(samples: &Samples, palette: &[Table; 3]) -> (Samples, u32) {
    let color = |index: f64| palette.each_ref().map(|table| table.at(index));
    match palette[0].bits {
        ..=8 => (Samples::U8(colors(samples, |index| color(index).map(|v| v as u8))), 8),
        _ => (Samples::U16(colors(samples, |index| color(index).map(|v| v as u16))), 16),
    }
}

/// `color` of every index; of bytes it is computed once for each.
fn colors<T: Copy>(samples: &Samples, color: impl Fn(f64) -> [T; 3]) -> Vec<T> {
    let all: Vec<[T; 3]> = match samples {
        Samples::U8(indices) => {
            let table: Vec<[T; 3]> = (0..=u8::MAX).map(|index| color(index.into())).collect();
            indices.iter().map(|&index| table[usize::from(index)]).collect()
        }
        _ => samples.to_f64().into_iter().map(color).collect(),
    };
    all.into_flattened()
}
