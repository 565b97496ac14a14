//! What the formats of volumes share: types of elements, and slices out of plain or packed data.

use super::{
    dicom::Parsed,
    scan::{Meaning, Samples},
};
use flate2::{Compression, read::GzEncoder};
use std::io::{self, Read};

/// The type of a stored number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

impl Element {
    /// The type that a MetaImage header names.
    pub fn of_metaimage(name: &str) -> Option<Element> {
        Some(match name {
            "MET_UCHAR" => Element::U8,
            "MET_CHAR" => Element::I8,
            "MET_USHORT" => Element::U16,
            "MET_SHORT" => Element::I16,
            "MET_UINT" | "MET_ULONG" => Element::U32,
            "MET_INT" | "MET_LONG" => Element::I32,
            "MET_ULONG_LONG" => Element::U64,
            "MET_LONG_LONG" => Element::I64,
            "MET_FLOAT" => Element::F32,
            "MET_DOUBLE" => Element::F64,
            _ => return None,
        })
    }

    /// The type of a NIfTI code.
    pub fn of_nifti(code: i16) -> Option<Element> {
        Some(match code {
            2 => Element::U8,
            4 => Element::I16,
            8 => Element::I32,
            16 => Element::F32,
            64 => Element::F64,
            256 => Element::I8,
            512 => Element::U16,
            768 => Element::U32,
            1024 => Element::I64,
            1280 => Element::U64,
            _ => return None,
        })
    }

    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            Element::U8 | Element::I8 => 1,
            Element::U16 | Element::I16 => 2,
            Element::U32 | Element::I32 | Element::F32 => 4,
            Element::U64 | Element::I64 | Element::F64 => 8,
        }
    }

    /// The numbers in `raw`.
    pub fn samples(self, mut raw: Vec<u8>, big_endian: bool) -> Samples {
        if big_endian {
            raw.chunks_exact_mut(self.bytes()).for_each(<[u8]>::reverse);
        }
        fn wide<const N: usize>(raw: &[u8], read: impl Fn([u8; N]) -> f64) -> Samples {
            Samples::Wide(raw.as_chunks().0.iter().map(|&bytes| read(bytes)).collect())
        }
        match self {
            Element::U8 => Samples::U8(raw),
            Element::I8 => Samples::I16(raw.into_iter().map(|byte| (byte as i8).into()).collect()),
            Element::U16 => Samples::U16(raw.as_chunks().0.iter().map(|&pair| u16::from_le_bytes(pair)).collect()),
            Element::I16 => Samples::I16(raw.as_chunks().0.iter().map(|&pair| i16::from_le_bytes(pair)).collect()),
            Element::U32 => wide(&raw, |four| u32::from_le_bytes(four).into()),
            Element::I32 => wide(&raw, |four| i32::from_le_bytes(four).into()),
            Element::U64 => wide(&raw, |eight| u64::from_le_bytes(eight) as f64),
            Element::I64 => wide(&raw, |eight| i64::from_le_bytes(eight) as f64),
            Element::F32 => wide(&raw, |four| f32::from_le_bytes(four).into()),
            Element::F64 => wide(&raw, f64::from_le_bytes),
        }
    }

    /// The meaning of numbers of which only the type is known. Floats have no range: that of fractions stands for it.
    pub fn meaning(self) -> Meaning {
        let bits = 8 * self.bytes() as i32;
        let range = match self {
            Element::F32 | Element::F64 => [0.0, 1.0],
            Element::U8 | Element::U16 | Element::U32 | Element::U64 => [0.0, 2f64.powi(bits) - 1.0],
            _ => [-(2f64.powi(bits - 1)), 2f64.powi(bits - 1) - 1.0],
        };
        Meaning { range, shown: false, ..Meaning::picture(8) }
    }
}

/// Most bytes that a packed volume is unpacked to as a whole; slices of larger ones are unpacked one by one.
const MAX_UNPACKED: u64 = 1 << 31;

/// The bytes of a file with its packed pixels unpacked, so that reading every slice unpacks them once. Other files,
/// and those that are too large unpacked, come as they are.
pub fn unpacked(bytes: Vec<u8>) -> Vec<u8> {
    super::nifti::unpacked(&bytes, MAX_UNPACKED)
        .or_else(|| super::metaimage::unpacked(&bytes, MAX_UNPACKED))
        .unwrap_or(bytes)
}

/// Whether the pixels of the volume `bytes` are packed.
pub fn is_packed(bytes: &[u8]) -> bool {
    bytes.starts_with(super::nifti::GZIP) || super::metaimage::is_packed(bytes)
}

/// Whether `bytes` are a volume whose masks are volumes: NIfTI or MetaImage.
pub fn is_volume(bytes: &[u8]) -> bool {
    super::nifti::is_nifti(bytes) || super::metaimage::is_metaimage(bytes)
}

/// The file of a mask `[frames, height, width]` of 0 and 1, in the space of the volume `bytes` (after [`unpacked`]),
/// and its suffix; `None` if that is no NIfTI or MetaImage.
pub fn mask_like(bytes: &[u8], mask: &[u8]) -> Option<(Vec<u8>, &'static str)> {
    if super::nifti::is_nifti(bytes) {
        let file = super::nifti::with_mask(bytes, mask)?;
        let mut packed = vec![];
        GzEncoder::new(&file[..], Compression::default()).read_to_end(&mut packed).ok()?;
        return Some((packed, "nii.gz"));
    }
    let file = super::metaimage::is_metaimage(bytes).then(|| super::metaimage::with_mask(bytes, mask)).flatten()?;
    Some((file, "mha"))
}

/// A file with frame `index` of the volume `bytes` (after [`unpacked`]) alone; `None` if that is no NIfTI or MetaImage.
pub fn frame_alone(bytes: &[u8], index: usize) -> Option<Vec<u8>> {
    if super::nifti::is_nifti(bytes) {
        return super::nifti::with_frame(bytes, index);
    }
    super::metaimage::is_metaimage(bytes).then(|| super::metaimage::with_frame(bytes, index)).flatten()
}

/// All that `reader` unpacks, of damaged data what comes before the damage, if it is at most `limit` bytes.
pub fn inflate_all(reader: impl Read, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![];
    // What is missing is told of where a frame lacks it.
    let _ = reader.take(limit + 1).read_to_end(&mut bytes);
    (bytes.len() as u64 <= limit).then_some(bytes)
}

/// Part `index` of data made of parts of `size` bytes.
pub fn part(data: &[u8], index: usize, size: usize) -> Parsed<&[u8]> {
    let start = index.checked_mul(size);
    let found = start.and_then(|start| data.get(start..start.checked_add(size)?));
    found.ok_or_else(|| format!("it has {} bytes of pixels, too few for its size", data.len()))
}

/// The `size` bytes that come `skip` bytes after the start of what `reader` unpacks. Nothing before them is kept.
pub fn inflate(mut reader: impl Read, skip: u64, size: usize) -> Parsed<Vec<u8>> {
    let damaged = |e: io::Error| format!("its compressed data are damaged ({e})");
    let skipped = io::copy(&mut reader.by_ref().take(skip), &mut io::sink()).map_err(damaged)?;
    let mut bytes = Vec::new();
    reader.take(size as u64).read_to_end(&mut bytes).map_err(damaged)?;
    if skipped < skip || bytes.len() < size {
        return Err(format!(
            "its compressed data end after {} bytes, too few for its size",
            skipped + bytes.len() as u64
        ));
    }
    Ok(bytes)
}
