//! MetaImage (`.mha`, and `.mhd` with its data in another file): a header of text, then plain or zlib-packed samples.
//!
//! The slices along the third axis, and along any further one, are the frames; columns and rows are as stored.

use super::{
    dicom::Parsed,
    scan::{Color, Facts, Frame, MAX_PIXELS, Meaning},
    volume::{self, Element},
};
use flate2::{
    Compression,
    read::{ZlibDecoder, ZlibEncoder},
};
use std::{
    fs,
    io::{self, Read},
    path::{Component, Path, PathBuf},
};

/// Longest header.
const MAX_HEADER: usize = 1 << 16;

const DATA_FILE: &str = "ElementDataFile";

/// Whether `bytes` begin with a key of a MetaImage header.
pub fn is_metaimage(bytes: &[u8]) -> bool {
    let line = bytes.split(|&b| b == b'\n').next().unwrap_or_default();
    let key = line.split(|&b| b == b'=').next().unwrap_or_default().trim_ascii();
    line.len() < 256 && line.contains(&b'=') && matches!(key, b"ObjectType" | b"NDims" | b"Comment" | b"ObjectSubType")
}

/// A MetaImage whose header has been read.
pub struct MetaImage<'a> {
    data: &'a [u8],
    compressed: bool,
    element: Element,
    big_endian: bool,
    width: usize,
    height: usize,
    channels: usize,
    /// Whether its values are Hounsfield units.
    ct: bool,
}

/// Lines of a header as key and value.
type Fields<'a> = Vec<(&'a str, &'a str)>;

/// The lines of the header, and the bytes behind it.
fn split(bytes: &[u8]) -> Parsed<(Fields<'_>, &[u8])> {
    let mut fields = Vec::new();
    let mut rest = bytes;
    loop {
        let end = rest.iter().take(MAX_HEADER).position(|&b| b == b'\n').unwrap_or(rest.len());
        if end > MAX_HEADER || bytes.len() - rest.len() > MAX_HEADER {
            return Err(format!("its header has no {DATA_FILE}"));
        }
        let line = std::str::from_utf8(&rest[..end]).map_err(|_| "its header is no text")?;
        let (key, value) = line.split_once('=').ok_or_else(|| format!("its header has no {DATA_FILE}"))?;
        fields.push((key.trim(), value.trim()));
        rest = rest.get(end + 1..).unwrap_or_default();
        if key.trim() == DATA_FILE {
            return Ok((fields, rest));
        }
    }
}

fn is_true(fields: &[(&str, &str)], names: &[&str]) -> bool {
    field(fields, names).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

fn field<'a>(fields: &[(&'a str, &'a str)], names: &[&str]) -> Option<&'a str> {
    fields.iter().find(|(key, _)| names.contains(key)).map(|(_, value)| *value)
}

fn numbers<T: std::str::FromStr>(text: &str) -> Vec<T> {
    text.split_whitespace().map_while(|word| word.parse().ok()).collect()
}

/// The bytes of the file at `path` if it is a MetaImage, with the data of the file that it names behind its header.
/// Other files come as they are.
///
/// # Errors
/// The path of the data, and why they cannot be read.
pub fn with_data(path: &Path, bytes: Vec<u8>) -> Result<Vec<u8>, (PathBuf, io::Error)> {
    if !is_metaimage(&bytes) {
        return Ok(bytes);
    }
    let Ok((fields, rest)) = split(&bytes) else { return Ok(bytes) };
    let Some(name) = field(&fields, &[DATA_FILE]).filter(|name| !matches!(*name, "LOCAL" | "Local" | "local")) else {
        return Ok(bytes);
    };
    let header = bytes.len() - rest.len();
    let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !inside || name.starts_with("LIST") || name.contains('%') {
        return Ok(bytes);
    }
    let beside = path.with_file_name(name);
    let data = fs::read(&beside).map_err(|e| (beside, e))?;
    let mut whole = bytes[..header].to_vec();
    // A header whose last line is not ended.
    if whole.last() != Some(&b'\n') {
        whole.push(b'\n');
    }
    whole.extend(data);
    Ok(whole)
}

/// Whether the pixels of the file are packed.
pub fn is_packed(bytes: &[u8]) -> bool {
    is_metaimage(bytes) && split(bytes).is_ok_and(|(fields, _)| is_true(&fields, &["CompressedData"]))
}

/// The file with its pixels plain, if they are packed and have at most `limit` bytes.
pub fn unpacked(bytes: &[u8], limit: u64) -> Option<Vec<u8>> {
    let (fields, rest) = is_metaimage(bytes).then(|| split(bytes).ok()).flatten()?;
    let packed =
        is_true(&fields, &["CompressedData"]) && field(&fields, &["HeaderSize"]).is_none_or(|skip| skip == "0");
    let data = packed.then(|| volume::inflate_all(ZlibDecoder::new(rest), limit)).flatten()?;
    Some([header(&fields, &[("CompressedData", "False")]).as_bytes(), &data].concat())
}

/// The file of a mask over all frames of the file `bytes`, in its space: its header, with `mask` as packed bytes.
pub fn with_mask(bytes: &[u8], mask: &[u8]) -> Option<Vec<u8>> {
    let (mut fields, _) = split(bytes).ok()?;
    let of_values =
        ["ElementNumberOfChannels", "ElementMin", "ElementMax", "BinaryDataByteOrderMSB", "ElementByteOrderMSB"];
    fields.retain(|(key, _)| !of_values.contains(key));
    let mut packed = vec![];
    ZlibEncoder::new(mask, Compression::default()).read_to_end(&mut packed).ok()?;
    let size = packed.len().to_string();
    let changed = [("ElementType", "MET_UCHAR"), ("CompressedData", "True"), ("CompressedDataSize", size.as_str())];
    Some([header(&fields, &changed).as_bytes(), &packed].concat())
}

/// The plain file `bytes` with frame `index` alone.
pub fn with_frame(bytes: &[u8], index: usize) -> Option<Vec<u8>> {
    let (fields, _) = split(bytes).ok()?;
    let (_, image) = MetaImage::open(bytes).ok()?;
    let data = volume::part(image.data, index, image.frame_bytes()).ok()?;
    let of_values = |key: &str| key.contains("Element") || key.contains("MSB") || key == "Modality";
    let kept: Fields = fields.into_iter().filter(|(key, _)| of_values(key)).collect();
    let size = format!("{} {}", image.width, image.height);
    Some([format!("NDims = 2\nDimSize = {size}\n").as_bytes(), header(&kept, &[]).as_bytes(), data].concat())
}

/// The text of a header with these fields, some of them changed, and data that follow it.
fn header(fields: &Fields, changed: &[(&str, &str)]) -> String {
    let obsolete = |key: &str| matches!(key, DATA_FILE | "CompressedDataSize" | "HeaderSize");
    let kept = fields.iter().filter(|(key, _)| !obsolete(key) && !changed.iter().any(|(other, _)| other == key));
    let lines = kept.chain(changed).map(|(key, value)| format!("{key} = {value}\n"));
    lines.chain([format!("{DATA_FILE} = LOCAL\n")]).collect()
}

impl<'a> MetaImage<'a> {
    /// Reads the header.
    pub fn open(bytes: &'a [u8]) -> Parsed<(Facts, MetaImage<'a>)> {
        let (fields, rest) = split(bytes)?;
        let get = |names: &[&str]| field(&fields, names);
        let is_true = |names: &[&str]| is_true(&fields, names);
        let need = |name: &str| get(&[name]).ok_or_else(|| format!("its header has no {name}"));
        need(DATA_FILE)?;
        if rest.is_empty() {
            return Err("its data are neither in it nor in a file beside it".into());
        }
        if get(&["BinaryData"]).is_some_and(|value| value.eq_ignore_ascii_case("false")) {
            return Err("its pixels are written as text (BinaryData = False); binary ones are read".into());
        }
        let sizes: Vec<usize> = numbers(need("DimSize")?);
        let dims: usize = need("NDims")?.parse().map_err(|_| "its NDims is no number")?;
        if sizes.len() != dims || !(2..=5).contains(&dims) {
            return Err(format!("it has {dims} dimensions and {} sizes", sizes.len()));
        }
        let kind = need("ElementType")?;
        let element = Element::of_metaimage(kind).ok_or_else(|| format!("elements of {kind} are not read"))?;
        let channels = get(&["ElementNumberOfChannels"]).map_or(Ok(1), str::parse);
        let channels = channels.ok().filter(|n| matches!(n, 1 | 3)).ok_or("its number of channels is not read")?;
        let (width, height) = (sizes[0], sizes[1]);
        let frames = sizes[2..].iter().try_fold(1usize, |all, &n| all.checked_mul(n));
        if width.checked_mul(height).is_none_or(|area| area > MAX_PIXELS) {
            return Err(format!("it claims {width} x {height} pixels, more than are read"));
        }
        let compressed = is_true(&["CompressedData"]);
        let skip: i64 = get(&["HeaderSize"]).map_or(Ok(0), str::parse).map_err(|_| "its HeaderSize is no number")?;
        let frames = frames.ok_or("its sizes overflow")?;
        let size = [width, height, channels, element.bytes()].into_iter().try_fold(frames, usize::checked_mul);
        let data = match (skip, size) {
            // The data are the last bytes of their file.
            (-1, Some(size)) => &rest[rest.len().saturating_sub(size)..],
            _ => rest.get(skip.max(0) as usize..).unwrap_or_default(),
        };
        let spacing = get(&["ElementSpacing", "ElementSize"]).map(numbers).unwrap_or_default();
        let axis = |i: usize| spacing.get(i).copied().unwrap_or(0.0);
        let facts = Facts {
            format: if compressed { "MetaImage, zlib".into() } else { "MetaImage".into() },
            modality: get(&["Modality"]).and_then(|word| word.strip_prefix("MET_MOD_")).map(str::to_string),
            width,
            height,
            frames,
            slices: sizes.get(2).copied().unwrap_or(1),
            channels,
            bits: 8 * element.bytes() as u32,
            spacing: [axis(0), axis(1), axis(2)],
            affine: affine(&fields, &spacing),
            patient: None,
        };
        let big_endian = is_true(&["BinaryDataByteOrderMSB", "ElementByteOrderMSB"]);
        let ct = facts.modality.as_deref() == Some("CT");
        Ok((facts, MetaImage { data, compressed, element, big_endian, width, height, channels, ct }))
    }

    fn frame_bytes(&self) -> usize {
        self.width * self.height * self.channels * self.element.bytes()
    }

    /// Decodes frame `index`, which exists.
    pub fn frame(&self, index: usize) -> Parsed<Frame> {
        let size = self.frame_bytes();
        let raw = match self.compressed {
            true => volume::inflate(ZlibDecoder::new(self.data), index as u64 * size as u64, size)?,
            false => volume::part(self.data, index, size)?.to_vec(),
        };
        let samples = self.element.samples(raw, self.big_endian);
        let color = if self.channels == 3 { Color::Rgb } else { Color::Gray };
        let shown = color == Color::Rgb || self.element == Element::U8;
        let meaning = Meaning { shown, hounsfield: self.ct, ..self.element.meaning() };
        Ok(Frame { width: self.width, height: self.height, color, samples, meaning })
    }
}

/// Of three-dimensional images: the direction of each axis times its spacing, and the offset.
fn affine(fields: &[(&str, &str)], spacing: &[f64]) -> Option<[[f64; 4]; 3]> {
    let read = |names: &[&str]| field(fields, names).map(numbers::<f64>);
    let offset = read(&["Offset", "Position", "Origin"]).filter(|v| v.len() == 3)?;
    let axes =
        read(&["TransformMatrix", "Orientation", "Rotation"]).unwrap_or(vec![1., 0., 0., 0., 1., 0., 0., 0., 1.]);
    let (9, 3..) = (axes.len(), spacing.len()) else { return None };
    // The matrix has an axis a row.
    let row = |i: usize| [axes[i] * spacing[0], axes[3 + i] * spacing[1], axes[6 + i] * spacing[2], offset[i]];
    Some([row(0), row(1), row(2)])
}
