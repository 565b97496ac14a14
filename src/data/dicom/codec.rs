//! Encapsulated and plain pixel data to samples, by transfer syntax.

use super::{dataset::Parsed, jpeg, jpegls, rle};
use crate::data::scan::{Color, Samples};
use flate2::read::DeflateDecoder;
use hayro_jpeg2000::{DecodeSettings, DecoderContext, Image};
use std::{borrow::Cow, io::Read};
use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, options::DecoderOptions},
};

/// How the pixels are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As they are, all frames in a row.
    Native,
    /// As they are, each frame in a fragment.
    Encapsulated,
    /// Deflated, each frame in a fragment.
    Deflated,
    /// PackBits.
    Rle,
    /// DCT or lossless JPEG; its own header tells which.
    Jpeg,
    /// JPEG-LS.
    JpegLs,
    /// JPEG 2000.
    Jpeg2000,
}

/// The codec of a transfer syntax, and its name for people.
pub fn of(syntax: &str) -> Parsed<(Codec, &'static str)> {
    Ok(match syntax.strip_prefix("1.2.840.10008.1.2").unwrap_or("?") {
        "" | ".1" | ".2" => (Codec::Native, "uncompressed"),
        ".1.99" => (Codec::Native, "deflated"),
        ".1.98" => (Codec::Encapsulated, "uncompressed"),
        ".8.1" => (Codec::Deflated, "deflated frames"),
        ".5" => (Codec::Rle, "RLE"),
        ".4.50" => (Codec::Jpeg, "JPEG baseline"),
        ".4.51" => (Codec::Jpeg, "JPEG extended"),
        ".4.57" | ".4.70" => (Codec::Jpeg, "JPEG lossless"),
        ".4.80" => (Codec::JpegLs, "JPEG-LS lossless"),
        ".4.81" => (Codec::JpegLs, "JPEG-LS near-lossless"),
        ".4.90" => (Codec::Jpeg2000, "JPEG 2000 lossless"),
        ".4.91" => (Codec::Jpeg2000, "JPEG 2000"),
        _ if syntax.is_empty() => (Codec::Native, "uncompressed"),
        _ => return Err(format!("its transfer syntax {syntax} is not read")),
    })
}

/// Whether a transfer syntax is one whose samples need not be those that were stored.
pub fn is_lossy(syntax: &str) -> bool {
    let lossy = [".4.50", ".4.51", ".4.81", ".4.91"];
    syntax.strip_prefix("1.2.840.10008.1.2").is_some_and(|end| lossy.contains(&end))
}

/// How samples are laid out, as the data set says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layout {
    pub width: usize,
    pub height: usize,
    pub channels: usize,
    /// Bits that a sample takes: 1, 8, 16, 32 or 64.
    pub allocated: u32,
    /// Bits of it that are used.
    pub stored: u32,
    /// Place of the highest of them.
    pub high: u32,
    pub signed: bool,
    /// Whether the channels follow each other as planes.
    pub planar: bool,
}

impl Layout {
    /// Samples of a frame.
    pub fn samples(&self) -> usize {
        self.width * self.height * self.channels
    }

    fn check(&self, width: usize, height: usize, channels: usize) -> Parsed<()> {
        if (width, height, channels) == (self.width, self.height, self.channels) {
            return Ok(());
        }
        Err(format!(
            "its compressed image is {width} x {height} with {channels} channels, and its header says {} x {} with {}",
            self.width, self.height, self.channels
        ))
    }
}

/// Decodes the data of one frame; also tells what kind of color a JPEG says it is.
pub fn decode(codec: Codec, data: &[u8], layout: &Layout) -> Parsed<(Samples, Option<Color>)> {
    let plain = |samples: Samples| (samples, None);
    match codec {
        Codec::Native | Codec::Encapsulated => native(data, layout).map(plain),
        Codec::Deflated => {
            let bytes = (layout.samples() * layout.allocated as usize).div_ceil(8);
            let mut inflated = Vec::new();
            let read = DeflateDecoder::new(data).take(bytes as u64).read_to_end(&mut inflated);
            read.map_err(|e| format!("its deflated frame is damaged ({e})"))?;
            native(&inflated, layout).map(plain)
        }
        Codec::Rle => {
            let (area, width) = (layout.width * layout.height, layout.allocated as usize / 8);
            // Two bytes pack 128 at most.
            if width == 0 || area * layout.channels * width > data.len().saturating_mul(64) {
                return Err("it has too little RLE data for its size".into());
            }
            let bytes = rle::decode(data, area, layout.channels, width)?;
            native(&bytes, &Layout { planar: false, ..*layout }).map(plain)
        }
        Codec::Jpeg => jpeg_frame(data, layout),
        Codec::JpegLs => {
            let header = jpegls::header(data)?;
            layout.check(header.width, header.height, header.channels)?;
            Ok(plain(narrow(jpegls::decode(data)?, header.precision, layout)))
        }
        Codec::Jpeg2000 => jpeg2000(data, layout).map(plain),
    }
}

/// Plain little-endian samples.
fn native(data: &[u8], layout: &Layout) -> Parsed<Samples> {
    let count = layout.samples();
    let bytes = (count * layout.allocated as usize).div_ceil(8);
    let data = data.get(..bytes).ok_or_else(|| format!("it has {} bytes of pixels for {bytes}", data.len()))?;
    let shift = (layout.high + 1).saturating_sub(layout.stored);
    let samples = match layout.allocated {
        1 => Samples::U8((0..count).map(|i| data[i / 8] >> (i % 8) & 1).collect()),
        8 if !layout.signed && layout.stored == 8 => Samples::U8(data.to_vec()),
        8 => fit(data.iter().map(|&byte| u32::from(byte)), shift, layout),
        16 => fit(data.as_chunks().0.iter().map(|&pair| u32::from(u16::from_le_bytes(pair))), shift, layout),
        32 => fit(data.as_chunks().0.iter().map(|&four| u32::from_le_bytes(four)), shift, layout),
        bits => return Err(format!("{bits} bits allocated for a sample are not read")),
    };
    Ok(if layout.planar && layout.channels > 1 { interleave(samples, layout) } else { samples })
}

/// Samples of the stored bits of some words; sign bits fill up what is signed.
fn fit(words: impl Iterator<Item = u32>, shift: u32, layout: &Layout) -> Samples {
    let unused = 32 - layout.stored.clamp(1, 32);
    let aligned = words.map(|word| word >> shift << unused);
    match (layout.signed, layout.stored) {
        (false, ..=8) => Samples::U8(aligned.map(|word| (word >> unused) as u8).collect()),
        (false, ..=16) => Samples::U16(aligned.map(|word| (word >> unused) as u16).collect()),
        (true, ..=16) => Samples::I16(aligned.map(|word| (word as i32 >> unused) as i16).collect()),
        (false, _) => Samples::Wide(aligned.map(|word| f64::from(word >> unused)).collect()),
        (true, _) => Samples::Wide(aligned.map(|word| f64::from(word as i32 >> unused)).collect()),
    }
}

fn interleave(samples: Samples, layout: &Layout) -> Samples {
    fn mixed<T: Copy>(values: Vec<T>, channels: usize) -> Vec<T> {
        let area = values.len() / channels;
        (0..values.len()).map(|i| values[i % channels * area + i / channels]).collect()
    }
    match samples {
        Samples::U8(values) => Samples::U8(mixed(values, layout.channels)),
        Samples::U16(values) => Samples::U16(mixed(values, layout.channels)),
        Samples::I16(values) => Samples::I16(mixed(values, layout.channels)),
        Samples::Wide(values) => Samples::Wide(mixed(values, layout.channels)),
    }
}

/// Unsigned codes of `precision` bits as the samples that the data set says they are.
fn narrow(codes: Vec<u16>, precision: u32, layout: &Layout) -> Samples {
    if !layout.signed && precision > 8 {
        return Samples::U16(codes);
    }
    let stored = if layout.signed { layout.stored.min(precision) } else { precision };
    fit(codes.into_iter().map(u32::from), 0, &Layout { stored, ..*layout })
}

fn jpeg_frame(data: &[u8], layout: &Layout) -> Parsed<(Samples, Option<Color>)> {
    let header = jpeg::header(data)?;
    layout.check(header.width, header.height, header.components.len())?;
    match (header.process, header.precision) {
        (0..=2, 8) => baseline(data, layout, header.color),
        (1, 12) | (3, 2..=16) => Ok((narrow(jpeg::decode(data, &header)?, header.precision, layout), None)),
        (process, bits) => Err(format!("JPEG process {process} with {bits} bits is not read")),
    }
}

/// The channels as stored: nothing is made of Y, Cb and Cr.
fn baseline(data: &[u8], layout: &Layout, color: Option<Color>) -> Parsed<(Samples, Option<Color>)> {
    let damaged = |e: zune_jpeg::errors::DecodeErrors| format!("its JPEG data are damaged ({e})");
    let plain = without_adobe(data);
    let side = usize::from(u16::MAX);
    let options = DecoderOptions::new_fast().set_strict_mode(true).set_max_width(side).set_max_height(side);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&*plain), options);
    decoder.decode_headers().map_err(damaged)?;
    let stored = decoder.input_colorspace().ok_or("its JPEG data have no header")?;
    decoder.set_options(options.jpeg_set_out_colorspace(stored));
    let values = decoder.decode().map_err(damaged)?;
    let samples = match layout.signed {
        false => Samples::U8(values),
        true => narrow(values.into_iter().map(u16::from).collect(), 8, layout),
    };
    Ok((samples, color))
}

/// The data without the segment that makes the decoder take channels for something and change them.
fn without_adobe(data: &[u8]) -> Cow<'_, [u8]> {
    match data.windows(jpeg::ADOBE.len()).position(|bytes| bytes == jpeg::ADOBE) {
        Some(start) if start + 16 <= data.len() => Cow::Owned([&data[..start], &data[start + 16..]].concat()),
        _ => Cow::Borrowed(data),
    }
}

fn jpeg2000(data: &[u8], layout: &Layout) -> Parsed<Samples> {
    // Some files wrap the codestream in the boxes of a JP2 file; the data set says what they would.
    const START: [u8; 4] = [0xff, 0x4f, 0xff, 0x51];
    let start = data.windows(4).position(|four| four == START).ok_or("its JPEG 2000 data have no header")?;
    let data = &data[start..];
    let size = data.get(6..).and_then(|rest| rest.first_chunk::<38>()).ok_or("its JPEG 2000 header is cut off")?;
    let word = |i: usize| u32::from_be_bytes([size[i], size[i + 1], size[i + 2], size[i + 3]]) as usize;
    let (width, height) = (word(2).saturating_sub(word(10)), word(6).saturating_sub(word(14)));
    layout.check(width, height, usize::from(u16::from_be_bytes([size[34], size[35]])))?;
    let (signed, precision) = (size[36] & 0x80 != 0, u32::from(size[36] & 0x7f) + 1);
    if precision > 16 {
        return Err(format!("JPEG 2000 with {precision} bits is not read"));
    }
    let damaged = |e: hayro_jpeg2000::DecodeError| format!("its JPEG 2000 data are damaged ({e})");
    let settings = DecodeSettings { resolve_palette_indices: false, strict: true, target_resolution: None };
    let image = Image::new(data, &settings).map_err(damaged)?;
    let mut context = DecoderContext::default();
    let decoded = image.decode(&mut context).map_err(damaged)?;
    let channels = decoded.components();
    if channels.len() != layout.channels || channels.iter().any(|c| c.samples().len() != width * height) {
        return Err("its JPEG 2000 channels are not of its size".into());
    }
    // The decoder adds half the range to signed values too.
    let half = 1 << (precision - 1);
    let (offset, low, high) = if signed { (-half, -half, half - 1) } else { (0, 0, 2 * half - 1) };
    let mut values = vec![0i32; layout.samples()];
    for (c, channel) in channels.iter().enumerate() {
        let places = values[c..].iter_mut().step_by(layout.channels);
        places.zip(channel.samples()).for_each(|(place, v)| *place = (v.round() as i32 + offset).clamp(low, high));
    }
    // Where data set and codestream disagree about the sign, the data set is right.
    Ok(fit(values.into_iter().map(|v| v as u32), 0, &Layout { stored: precision, ..*layout }))
}
