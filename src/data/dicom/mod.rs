//! DICOM images (PS3.3, PS3.5, PS3.10): one frame, or many; plain, RLE, JPEG, JPEG-LS and JPEG 2000.
//!
//! Palettes are resolved; every other value is given as stored, together with what the file says it means. Attributes of
//! single frames (PS3.3 C.7.6.16) go before shared ones, and those before the ones of the image.

mod bits;
mod codec;
mod dataset;
pub mod jpeg;
mod jpegls;
mod meaning;
mod rle;

use super::scan::{Color, Facts, Frame, Meaning, Samples, Table};
use codec::{Codec, Layout};
use dataset::{DOUBLE_PIXELS, FLOAT_PIXELS, PIXEL_DATA, Value};
pub use dataset::{DataSet, Parsed, Tag, is_dicom};
use std::{borrow::Cow, ops::Range};

const EXTENDED_OFFSETS: Tag = 0x7fe0_0001;
const PER_FRAME: Tag = 0x5200_9230;
const SHARED: Tag = 0x5200_9229;
const PIXEL_MEASURES: Tag = 0x0028_9110;

/// Most frames of a file.
const MAX_FRAMES: usize = 1 << 20;

/// A DICOM file whose header has been read.
pub struct Dicom<'a> {
    body: Cow<'a, [u8]>,
    pixels: Pixels,
    codec: Codec,
    layout: Layout,
    photometric: String,
    palette: Option<[Table; 3]>,
    /// Whether plain pixels share their color two by two.
    halved: bool,
    /// Of each frame, or one for all.
    meanings: Vec<Meaning>,
}

/// What `read` finds in the data set of a file.
pub fn header<T>(bytes: &[u8], read: impl FnOnce(&DataSet) -> T) -> Parsed<T> {
    let dataset::File { encoding, body, .. } = dataset::open(bytes)?;
    Ok(read(&DataSet::parse(&body, encoding)?))
}

/// Where the pixels are in the body.
enum Pixels {
    /// All frames in a row.
    Row(Range<usize>),
    /// Floats of so many bytes in a row.
    Floats(Range<usize>, usize),
    /// The fragments of each frame.
    Fragments(Vec<Vec<Range<usize>>>),
}

impl<'a> Dicom<'a> {
    /// Reads the header and finds the pixels of each frame.
    pub fn open(bytes: &'a [u8]) -> Parsed<(Facts, Dicom<'a>)> {
        let dataset::File { syntax, encoding, body } = dataset::open(bytes)?;
        let set = DataSet::parse(&body, encoding)?;
        let modality = set.text(0x0008_0060).map(Cow::into_owned);
        let element = [PIXEL_DATA, FLOAT_PIXELS, DOUBLE_PIXELS].into_iter().find_map(|tag| set.get(tag));
        let Some(element) = element else {
            let kind = modality.map_or(String::new(), |modality| format!(" (its modality is {modality})"));
            return Err(format!("it holds no pixels{kind}"));
        };
        let (codec, stored_as) = codec::of(&syntax)?;
        let frames = frame_count(&set)?;
        let photometric = set.text(0x0028_0004).map_or("MONOCHROME2".into(), Cow::into_owned);
        let layout = layout(&set, element.tag)?;
        let lossy = codec::is_lossy(&syntax);
        let meanings = meaning::all(&set, frames, &layout, lossy, modality.as_deref(), &photometric);
        let palette = if photometric == "PALETTE COLOR" { Some(meaning::palette(&set, layout.signed)?) } else { None };
        let pixels = match &element.value {
            Value::Bytes(data, start) if element.tag != PIXEL_DATA => {
                Pixels::Floats(*start..start + data.len(), layout.allocated as usize / 8)
            }
            Value::Bytes(data, start) => Pixels::Row(*start..start + data.len()),
            Value::Fragments(fragments) => {
                let offsets = offsets(&set, &body, fragments);
                Pixels::Fragments(group(&body, fragments, &offsets, frames)?)
            }
            Value::Items(_) => return Err("its pixels are a sequence of data sets".into()),
        };
        if matches!(pixels, Pixels::Row(_)) != (codec == Codec::Native) && element.tag == PIXEL_DATA {
            return Err(format!("its pixels are not stored as its transfer syntax ({stored_as}) says"));
        }
        let facts = Facts {
            format: format!("DICOM, {stored_as}"),
            width: layout.width,
            height: layout.height,
            frames,
            slices: frames,
            channels: if palette.is_some() { 3 } else { layout.channels },
            bits: layout.stored,
            spacing: spacing(&set),
            affine: affine(&set),
            patient: set.text(0x0010_0020).map(Cow::into_owned),
            modality,
        };
        // Some writers say YBR_FULL_422 of color that is there for every pixel.
        let halved = photometric == "YBR_FULL_422"
            && (layout.channels, layout.allocated) == (3, 8)
            && matches!(&pixels, Pixels::Row(range) if range.len() < frames * layout.samples());
        let wide = element.vr == *b"OW";
        drop(set);
        let mut dicom = Dicom { body, pixels, codec, layout, photometric, palette, halved, meanings };
        if encoding.big_endian {
            dicom.swap(wide);
        }
        Ok((facts, dicom))
    }

    /// Turns big-endian pixels into little-endian ones. Bytes within words (`wide`) have changed places too.
    fn swap(&mut self, wide: bool) {
        let (range, width) = match &mut self.pixels {
            Pixels::Row(range) => (range, (self.layout.allocated as usize / 8).max(if wide { 2 } else { 1 })),
            Pixels::Floats(range, width) => (range, *width),
            Pixels::Fragments(_) => return,
        };
        let mut pixels = self.body[range.clone()].to_vec();
        pixels.chunks_exact_mut(width).for_each(<[u8]>::reverse);
        *range = 0..pixels.len();
        self.body = Cow::Owned(pixels);
    }

    /// Decodes frame `index`, which exists.
    pub fn frame(&self, index: usize) -> Parsed<Frame> {
        let Layout { width, height, .. } = self.layout;
        let (samples, coded) = match &self.pixels {
            Pixels::Row(range) => self.row_frame(&self.body[range.clone()], index)?,
            Pixels::Floats(range, bytes) => (floats(&self.body[range.clone()], *bytes, &self.layout, index)?, None),
            Pixels::Fragments(frames) => {
                let parts = &frames[index];
                let data = match parts.as_slice() {
                    [one] => Cow::Borrowed(&self.body[one.clone()]),
                    many => many.iter().flat_map(|part| self.body[part.clone()].iter().copied()).collect(),
                };
                codec::decode(self.codec, &data, &self.layout)?
            }
        };
        let meaning = self.meanings[index.min(self.meanings.len() - 1)].clone();
        if let Some(palette) = &self.palette {
            let (samples, bits) = meaning::resolve(&samples, palette);
            return Ok(Frame { width, height, color: Color::Rgb, samples, meaning: Meaning::picture(bits) });
        }
        let color = match (self.layout.channels, self.photometric.as_str()) {
            (1, _) => Color::Gray,
            // JPEG 2000 undoes its own transforms; of JPEG, the coded data know best.
            (3, "RGB" | "YBR_ICT" | "YBR_RCT") => coded.unwrap_or(Color::Rgb),
            (3, photometric) if photometric.starts_with("YBR") => coded.unwrap_or(Color::Ybr),
            (channels, photometric) => return Err(format!("{photometric} with {channels} channels is not read")),
        };
        Ok(Frame { width, height, color, samples, meaning })
    }

    fn row_frame(&self, data: &[u8], index: usize) -> Parsed<(Samples, Option<Color>)> {
        let area = self.layout.width * self.layout.height;
        let bits = if self.halved { 16 * area } else { self.layout.samples() * self.layout.allocated as usize };
        let start = index.checked_mul(bits).ok_or("its frames are too large")?;
        // Frames of single bits follow each other without a gap (PS3.5 8.1.1).
        let (first, offset) = (start / 8, start % 8);
        let last = first + (offset + bits).div_ceil(8);
        let frame = data
            .get(first..last)
            .ok_or_else(|| format!("it has {} bytes of pixels where {last} or more are needed", data.len()))?;
        if self.halved {
            let pixels = frame.chunks_exact(4).flat_map(|p| [p[0], p[2], p[3], p[1], p[2], p[3]]);
            return Ok((Samples::U8(pixels.collect()), None));
        }
        if offset > 0 {
            let shifted: Vec<u8> =
                (0..bits).map(|i| (frame[(i + offset) / 8] >> ((i + offset) % 8) & 1) << (i % 8)).collect();
            let packed: Vec<u8> = shifted.chunks(8).map(|eight| eight.iter().fold(0, |all, bit| all | bit)).collect();
            return codec::decode(self.codec, &packed, &self.layout);
        }
        codec::decode(self.codec, frame, &self.layout)
    }
}

fn frame_count(set: &DataSet) -> Parsed<usize> {
    let frames = set.decimal(0x0028_0008).unwrap_or(1.0).max(1.0);
    if frames > MAX_FRAMES as f64 {
        return Err(format!("it claims {frames} frames"));
    }
    Ok(frames as usize)
}

fn layout(set: &DataSet, pixels: Tag) -> Parsed<Layout> {
    let need = |tag, name: &str| set.word(tag).ok_or_else(|| format!("its header has no {name}"));
    let (height, width) = (need(0x0028_0010, "Rows")?, need(0x0028_0011, "Columns")?);
    let allocated = match pixels {
        PIXEL_DATA => u32::from(need(0x0028_0100, "Bits Allocated")?),
        FLOAT_PIXELS => 32,
        _ => 64,
    };
    let stored = set.word(0x0028_0101).map_or(allocated, u32::from);
    if stored == 0 || stored > allocated {
        return Err(format!("it stores {stored} bits in {allocated}"));
    }
    let channels = usize::from(set.word(0x0028_0002).unwrap_or(1));
    if !matches!(channels, 1 | 3) {
        return Err(format!("{channels} channels are not read"));
    }
    let (width, height) = (usize::from(width), usize::from(height));
    Ok(Layout {
        width,
        height,
        channels,
        allocated,
        stored,
        high: set.word(0x0028_0102).map_or(stored - 1, u32::from).clamp(stored - 1, allocated - 1),
        signed: set.word(0x0028_0103) == Some(1),
        planar: set.word(0x0028_0006) == Some(1),
    })
}

/// Where the frames begin, counted from the first fragment; empty if the file does not say.
fn offsets(set: &DataSet, body: &[u8], fragments: &[Range<usize>]) -> Vec<u64> {
    let extended = set.bytes(EXTENDED_OFFSETS).unwrap_or_default().as_chunks::<8>().0;
    if !extended.is_empty() {
        return extended.iter().map(|&eight| u64::from_le_bytes(eight)).collect();
    }
    let basic = fragments.first().map_or(&[][..], |table| &body[table.clone()]);
    basic.as_chunks::<4>().0.iter().map(|&four| u32::from_le_bytes(four).into()).collect()
}

/// The fragments of each frame, without the offset table.
fn group(body: &[u8], all: &[Range<usize>], offsets: &[u64], frames: usize) -> Parsed<Vec<Vec<Range<usize>>>> {
    let all = all.get(1..).unwrap_or_default();
    if all.len() < frames {
        return Err(format!("it has {} fragments of pixels for {frames} frames", all.len()));
    }
    let base = all[0].start;
    let begins = |i: &usize| {
        let fragment = &all[*i];
        let marked = [[0xff, 0xd8], [0xff, 0x4f]].iter().any(|marker| body[fragment.clone()].starts_with(marker));
        if offsets.len() == frames { offsets.contains(&((fragment.start - base) as u64)) } else { marked }
    };
    let starts: Vec<usize> = match frames {
        1 => vec![0],
        _ if all.len() == frames => (0..frames).collect(),
        _ => (0..all.len()).filter(begins).collect(),
    };
    if starts.len() != frames || starts[0] != 0 {
        return Err(format!("it does not say which of its {} fragments are of which of {frames} frames", all.len()));
    }
    let ends = starts[1..].iter().copied().chain([all.len()]);
    Ok(starts.iter().zip(ends).map(|(&start, end)| all[start..end].to_vec()).collect())
}

fn floats(data: &[u8], bytes: usize, layout: &Layout, index: usize) -> Parsed<Samples> {
    let size = layout.samples() * bytes;
    let frame = index.checked_mul(size).and_then(|start| data.get(start..start + size));
    let frame = frame.ok_or_else(|| format!("it has {} bytes of pixels, too few for its frames", data.len()))?;
    Ok(Samples::Wide(match bytes {
        4 => frame.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four).into()).collect(),
        _ => frame.as_chunks().0.iter().map(|&eight| f64::from_le_bytes(eight)).collect(),
    }))
}

/// Millimetres between columns, rows and frames.
fn spacing(set: &DataSet) -> [f64; 3] {
    let groups = [SHARED, PER_FRAME].map(|tag| set.items(tag).first());
    let mut measures = groups.into_iter().flatten().filter_map(|group| group.items(PIXEL_MEASURES).first());
    let measures = measures.next().unwrap_or(set);
    let plane = [measures.decimals(0x0028_0030), set.decimals(0x0018_1164)];
    let between = measures.decimal(0x0018_0088).or(measures.decimal(0x0018_0050)).unwrap_or(0.0);
    match plane.iter().find(|pair| pair.len() == 2) {
        Some(pair) => [pair[1], pair[0], between],
        None => [0.0, 0.0, between],
    }
}

/// PS3.3 C.7.6.2.1.1, with the frames along the normal.
fn affine(set: &DataSet) -> Option<[[f64; 4]; 3]> {
    let (origin, direction) = (set.decimals(0x0020_0032), set.decimals(0x0020_0037));
    let [ox, oy, oz] = origin[..] else { return None };
    let [a, b, c, d, e, f] = direction[..] else { return None };
    let [dx, dy, dz] = spacing(set);
    let normal = [b * f - c * e, c * d - a * f, a * e - b * d];
    let row = |i: usize, o: f64| [[a, b, c][i] * dx, [d, e, f][i] * dy, normal[i] * dz, o];
    Some([row(0, ox), row(1, oy), row(2, oz)])
}
