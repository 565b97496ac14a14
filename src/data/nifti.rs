//! NIfTI-1 and NIfTI-2 (`.nii`, `.nii.gz`): a binary header, then samples.
//!
//! The slices along the third axis, and along any further one, are the frames; a column is a step along the first
//! axis, a row one along the second, as stored.

use super::{
    dicom::Parsed,
    scan::{Color, Facts, Frame, MAX_PIXELS, Meaning, Rescale},
    volume::{self, Element},
};
use flate2::read::MultiGzDecoder;
use std::io::Read;

pub(super) const GZIP: &[u8] = &[0x1f, 0x8b];
/// Bytes of the longer of the two headers.
const HEADER: usize = 540;

/// Code of pixels with three bytes of color.
const RGB24: i16 = 128;

/// Whether `bytes` are a NIfTI file, or gzip that holds one.
pub fn is_nifti(bytes: &[u8]) -> bool {
    bytes.starts_with(GZIP) || version(bytes).is_some()
}

/// Version of the header, and whether it is big-endian.
fn version(header: &[u8]) -> Option<(u8, bool)> {
    let size = header.first_chunk()?;
    match (i32::from_le_bytes(*size), i32::from_be_bytes(*size)) {
        (348, _) if has_magic(header, 344) => Some((1, false)),
        (_, 348) if has_magic(header, 344) => Some((1, true)),
        (540, _) if has_magic(header, 4) => Some((2, false)),
        (_, 540) if has_magic(header, 4) => Some((2, true)),
        _ => None,
    }
}

fn has_magic(header: &[u8], at: usize) -> bool {
    matches!(header.get(at..at + 3), Some(b"n+1" | b"n+2" | b"ni1" | b"ni2"))
}

/// Whether a packed file that starts with `start` holds a NIfTI header.
pub fn packs_nifti(start: &[u8]) -> bool {
    let header = volume::inflate_all(MultiGzDecoder::new(start).take(HEADER as u64), HEADER as u64);
    header.is_some_and(|header| version(&header).is_some())
}

/// The plain file that is packed in `bytes`, if one of at most `limit` bytes is.
pub fn unpacked(bytes: &[u8], limit: u64) -> Option<Vec<u8>> {
    let plain = bytes.starts_with(GZIP).then(|| volume::inflate_all(MultiGzDecoder::new(bytes), limit)).flatten();
    plain.filter(|plain| version(plain).is_some())
}

/// The file of a mask over all frames of the plain file `bytes`, in its space: its header, with `mask` as bytes.
pub fn with_mask(bytes: &[u8], mask: &[u8]) -> Option<Vec<u8>> {
    rewritten(bytes, Some(2), None, mask)
}

/// The plain file `bytes` with frame `index` alone.
pub fn with_frame(bytes: &[u8], index: usize) -> Option<Vec<u8>> {
    let (_, nifti) = Nifti::open(bytes).ok()?;
    let data = bytes.get(usize::try_from(nifti.offset).ok()?..)?;
    rewritten(bytes, None, Some(2), volume::part(data, index, nifti.frame_bytes()).ok()?)
}

/// The header of `bytes` before other data: of the type `code` unscaled, and of so many dimensions, where they are
/// given.
fn rewritten(bytes: &[u8], code: Option<i16>, rank: Option<i64>, data: &[u8]) -> Option<Vec<u8>> {
    let (version, big_endian) = version(bytes)?;
    // Behind the header, four bytes say that there are no extensions.
    let start = if version == 1 { 352 } else { 544 };
    let mut file = bytes.get(..start - 4)?.to_vec();
    file.extend([0; 4]);
    let mut put = |at: usize, mut raw: Vec<u8>| {
        if big_endian {
            raw.reverse();
        }
        file[at..at + raw.len()].copy_from_slice(&raw);
    };
    let one = version == 1;
    let real = |x: f64| if one { (x as f32).to_le_bytes().to_vec() } else { x.to_le_bytes().to_vec() };
    let whole = |x: i64| if one { (x as i16).to_le_bytes().to_vec() } else { x.to_le_bytes().to_vec() };
    if one {
        put(108, real(start as f64))
    } else {
        put(168, whole(start as i64))
    }
    if let Some(code) = code {
        let (kind, bits) = if one { (70, 72) } else { (12, 14) };
        put(kind, code.to_le_bytes().to_vec());
        put(bits, 8i16.to_le_bytes().to_vec());
        // Slope, intercept, and the values that are to be shown as white and black.
        let places = if one { [112, 116, 124, 128] } else { [176, 184, 192, 200] };
        places.into_iter().zip([1.0, 0.0, 1.0, 0.0]).for_each(|(at, x)| put(at, real(x)));
    }
    if let Some(rank) = rank {
        put(if one { 40 } else { 16 }, whole(rank));
    }
    file.extend(data);
    Some(file)
}

/// A NIfTI file whose header has been read.
pub struct Nifti<'a> {
    bytes: &'a [u8],
    /// Where the samples begin, once unpacked.
    offset: u64,
    /// `None` for color.
    element: Option<Element>,
    big_endian: bool,
    width: usize,
    height: usize,
    rescale: Rescale,
}

/// Reads numbers out of a header.
struct Header<'a> {
    bytes: &'a [u8],
    big_endian: bool,
    version: u8,
}

impl Header<'_> {
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut raw: [u8; N] = *self.bytes[at..].first_chunk().expect("the header is whole");
        if self.big_endian {
            raw.reverse();
        }
        raw
    }

    fn i16(&self, at: usize) -> i16 {
        i16::from_le_bytes(self.array(at))
    }

    /// A whole number that NIfTI-1 has in 16 bits and NIfTI-2 in 64, the `i`-th of some.
    fn whole(&self, (at1, at2): (usize, usize), i: usize) -> i64 {
        match self.version {
            1 => self.i16(at1 + 2 * i).into(),
            _ => i64::from_le_bytes(self.array(at2 + 8 * i)),
        }
    }

    /// A number that NIfTI-1 has in 32 bits and NIfTI-2 in 64, the `i`-th of some.
    fn real(&self, (at1, at2): (usize, usize), i: usize) -> f64 {
        match self.version {
            1 => f32::from_le_bytes(self.array(at1 + 4 * i)).into(),
            _ => f64::from_le_bytes(self.array(at2 + 8 * i)),
        }
    }

    fn code(&self, (at1, at2): (usize, usize)) -> i32 {
        match self.version {
            1 => self.i16(at1).into(),
            _ => i32::from_le_bytes(self.array(at2)),
        }
    }
}

impl<'a> Nifti<'a> {
    /// Reads the header.
    pub fn open(bytes: &'a [u8]) -> Parsed<(Facts, Nifti<'a>)> {
        let packed = bytes.starts_with(GZIP);
        let mut start = Vec::new();
        if packed {
            let read = MultiGzDecoder::new(bytes).take(HEADER as u64).read_to_end(&mut start);
            read.map_err(|e| format!("its compressed data are damaged ({e})"))?;
        } else {
            start.extend(&bytes[..bytes.len().min(HEADER)]);
        }
        let (version, big_endian) = version(&start).ok_or("it holds no NIfTI header")?;
        let (length, magic) = if version == 1 { (348, 344) } else { (HEADER, 4) };
        if start.len() < length {
            return Err("its header is cut off".into());
        }
        if start[magic + 1] == b'i' {
            return Err("its pixels are in another file (.img); a single .nii is read".into());
        }
        let header = Header { bytes: &start, big_endian, version };
        let rank = header.whole((40, 16), 0);
        if !(2..=7).contains(&rank) {
            return Err(format!("it has {rank} dimensions"));
        }
        let sizes: Vec<i64> = (1..=rank as usize).map(|i| header.whole((40, 16), i)).collect();
        if sizes.iter().any(|&n| n < 1) {
            return Err(format!("it has a size of {sizes:?}"));
        }
        let (width, height) = (sizes[0] as usize, sizes[1] as usize);
        let frames = sizes[2..].iter().try_fold(1usize, |all, &n| all.checked_mul(n as usize));
        let frames = frames.ok_or("its sizes overflow")?;
        if width.checked_mul(height).is_none_or(|area| area > MAX_PIXELS) {
            return Err(format!("it claims {width} x {height} pixels, more than are read"));
        }
        let code = header.i16(if version == 1 { 70 } else { 12 });
        let element = Element::of_nifti(code);
        if element.is_none() && code != RGB24 {
            return Err(format!("elements of type {code} are not read"));
        }
        let offset = if version == 1 { header.real((108, 0), 0) as i64 } else { header.whole((0, 168), 0) };
        let offset = u64::try_from(offset).ok().filter(|&n| n >= length as u64).unwrap_or(length as u64);
        let (slope, intercept) = (header.real((112, 176), 0), header.real((116, 184), 0));
        let scaled = slope != 0.0 && slope.is_finite() && intercept.is_finite() && element.is_some();
        let facts = Facts {
            format: format!("NIfTI-{version}{}", if packed { ", gzip" } else { "" }),
            modality: None,
            width,
            height,
            frames,
            slices: sizes.get(2).map_or(1, |&n| n as usize),
            channels: if element.is_some() { 1 } else { 3 },
            bits: element.map_or(8, |e| 8 * e.bytes() as u32),
            spacing: [1, 2, 3].map(|i| header.real((76, 104), i).abs()),
            affine: affine(&header),
            patient: None,
        };
        let rescale = if scaled { Rescale::Linear { slope, intercept } } else { Rescale::NONE };
        Ok((facts, Nifti { bytes, offset, element, big_endian, width, height, rescale }))
    }

    fn frame_bytes(&self) -> usize {
        self.width * self.height * self.element.map_or(3, Element::bytes)
    }

    /// Decodes frame `index`, which exists.
    pub fn frame(&self, index: usize) -> Parsed<Frame> {
        let size = self.frame_bytes();
        let raw = if self.bytes.starts_with(GZIP) {
            let skip = (index as u64).checked_mul(size as u64).and_then(|n| n.checked_add(self.offset));
            volume::inflate(MultiGzDecoder::new(self.bytes), skip.ok_or("its sizes overflow")?, size)?
        } else {
            let data = usize::try_from(self.offset).ok().and_then(|start| self.bytes.get(start..)).unwrap_or_default();
            volume::part(data, index, size)?.to_vec()
        };
        let Some(element) = self.element else {
            let samples = Element::U8.samples(raw, false);
            return Ok(Frame { color: Color::Rgb, samples, meaning: Meaning::picture(8), ..self.blank() });
        };
        let samples = element.samples(raw, self.big_endian);
        let rescale = self.rescale.clone();
        let shown = element == Element::U8 && rescale == Rescale::NONE;
        Ok(Frame { samples, meaning: Meaning { rescale, shown, ..element.meaning() }, ..self.blank() })
    }

    fn blank(&self) -> Frame {
        let samples = super::scan::Samples::U8(vec![]);
        Frame { width: self.width, height: self.height, color: Color::Gray, samples, meaning: Meaning::picture(8) }
    }
}

/// From column, row and slice to millimetres: the sform if it is set, else the qform, else the spacing alone.
fn affine(header: &Header) -> Option<[[f64; 4]; 3]> {
    let (qform, sform) = (header.code((252, 344)), header.code((254, 348)));
    if sform > 0 {
        return Some([0, 1, 2].map(|i| [0, 1, 2, 3].map(|j| header.real((280, 400), 4 * i + j))));
    }
    let spacing = [1, 2, 3].map(|i| header.real((76, 104), i));
    if qform <= 0 {
        return Some([0, 1, 2].map(|i| [0, 1, 2, 3].map(|j| if i == j { spacing[i] } else { 0.0 })));
    }
    let [b, c, d] = [0, 1, 2].map(|i| header.real((256, 352), i));
    let a = (1.0 - b * b - c * c - d * d).max(0.0).sqrt();
    let rotation = [
        [a * a + b * b - c * c - d * d, 2.0 * (b * c - a * d), 2.0 * (b * d + a * c)],
        [2.0 * (b * c + a * d), a * a + c * c - b * b - d * d, 2.0 * (c * d - a * b)],
        [2.0 * (b * d - a * c), 2.0 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ];
    // The first element of pixdim is the handedness.
    let side = if header.real((76, 104), 0) < 0.0 { -1.0 } else { 1.0 };
    let row = |i: usize| {
        let [x, y, z] = rotation[i];
        [x * spacing[0], y * spacing[1], z * spacing[2] * side, header.real((268, 376), i)]
    };
    Some([row(0), row(1), row(2)])
}
