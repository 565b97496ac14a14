//! Bytes of a PNG or JPEG file to gray pixels.
//!
//! Colour becomes gray by ITU-R 601 luma, in the integer
//! arithmetic of Pillow's `convert("L")`; a YCbCr JPEG already stores that luma and its Y channel is taken as it is. Alpha
//! is ignored, as Pillow does: a transparent pixel keeps the colour stored under it. Orientation tags are ignored too.

use super::{
    dicom::jpeg,
    scan::{Color, Facts, Frame, Meaning, Samples},
};
use crate::{Error, Result};
use png::{BitDepth, ColorType, Transformations};
use std::io::Cursor;
use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

/// Largest image that is decoded, in pixels: five times a full-field mammogram, and 200 MB at 16 bit.
pub const MAX_PIXELS: usize = 100_000_000;

/// Most bytes the PNG decoder may allocate: RGBA at 16 bit of the largest image, and its row buffers.
const PNG_BYTES: usize = MAX_PIXELS * 8 + (64 << 20);

/// Gray values at the depth of the file, `height * width` of them, row by row.
#[derive(Clone, Debug, PartialEq)]
pub enum Pixels {
    /// 8 bit or less; 255 is white.
    U8(Vec<u8>),
    /// 16 bit; 65535 is white.
    U16(Vec<u16>),
}

/// One gray image.
#[derive(Clone, Debug, PartialEq)]
pub struct Gray {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Values, row by row from the top left.
    pub pixels: Pixels,
}

impl Gray {
    /// The values as numbers in `[0, 1]`: 8 bit over 255, 16 bit over 65535.
    pub fn to_unit(&self) -> Vec<f32> {
        match &self.pixels {
            Pixels::U8(values) => values.iter().map(|&v| f32::from(v) / 255.0).collect(),
            Pixels::U16(values) => values.iter().map(|&v| f32::from(v) / 65535.0).collect(),
        }
    }

    /// Mean of the values as numbers in `[0, 1]`.
    pub fn mean(&self) -> f32 {
        let n = (self.width * self.height).max(1) as f64;
        let sum = |values: &mut dyn Iterator<Item = u64>| values.sum::<u64>() as f64;
        (match &self.pixels {
            Pixels::U8(values) => sum(&mut values.iter().map(|&v| v.into())) / 255.0 / n,
            Pixels::U16(values) => sum(&mut values.iter().map(|&v| v.into())) / 65535.0 / n,
        }) as f32
    }

    /// Bytes that the pixels occupy.
    pub fn bytes(&self) -> usize {
        match &self.pixels {
            Pixels::U8(values) => values.len(),
            Pixels::U16(values) => 2 * values.len(),
        }
    }
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
const JPEG: &[u8] = b"\xff\xd8\xff";

/// Whether `bytes` begin as a PNG or a JPEG does.
pub fn is_picture(bytes: &[u8]) -> bool {
    bytes.starts_with(PNG) || bytes.starts_with(JPEG)
}

/// What the header of a PNG or JPEG tells. `name` is how the errors call the file.
pub fn facts(bytes: &[u8], name: &str) -> Result<Facts> {
    let (format, width, height, channels, bits) = if bytes.starts_with(PNG) {
        let decoder = png::Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: PNG_BYTES });
        let reader = decoder.read_info().map_err(|e| damaged("PNG", name, e))?;
        let info = reader.info();
        let bits = u32::from(info.bit_depth as u8);
        ("PNG", info.width as usize, info.height as usize, info.color_type.samples(), bits)
    } else {
        let header = jpeg::header(bytes).map_err(|e| damaged("JPEG", name, e))?;
        ("JPEG", header.width, header.height, header.components.len(), header.precision)
    };
    Ok(Facts { format: format.into(), width, height, frames: 1, slices: 1, channels, bits, ..Facts::default() })
}

/// Decodes a PNG (1 to 16 bit; gray, RGB, palette, with or without alpha) or a JPEG (baseline or progressive; gray,
/// YCbCr, RGB, CMYK) to gray. `name` is how the errors call the file: a truncated, damaged or too large one.
pub fn decode(bytes: &[u8], name: &str) -> Result<Frame> {
    let frame = if bytes.starts_with(PNG) { decode_png(bytes, name) } else { decode_jpeg(bytes, name, false) };
    frame.map(Frame::into_gray)
}

/// [`decode`] that leaves in color what is.
pub fn decode_in_color(bytes: &[u8], name: &str) -> Result<Frame> {
    if bytes.starts_with(PNG) { decode_png(bytes, name) } else { decode_jpeg(bytes, name, true) }
}

/// What can be done about a file that cannot be read.
pub const REPLACE: &str = "replace or remove the file, or pass --skip-bad to go on without it";

/// The error of a file in no format that is read.
pub fn foreign(bytes: &[u8], name: &str) -> Error {
    let format = if bytes.starts_with(b"GIF8") {
        "a GIF file"
    } else if bytes.starts_with(b"II*\0") || bytes.starts_with(b"MM\0*") {
        "a TIFF file"
    } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        "a WebP file"
    } else if bytes.starts_with(b"BM") && bytes.get(6..10) == Some(&[0; 4]) {
        "a BMP file"
    } else if is_text(bytes) {
        return Error::unusable(format!("{name} holds text, not an image"), REPLACE);
    } else {
        return Error::unusable(format!("{name} is no image (its first bytes are those of no known format)"), REPLACE);
    };
    Error::unusable(
        format!("{name} is {format}, and only DICOM, NIfTI, MetaImage, PNG and JPEG are read"),
        "convert it to PNG (8 or 16 bit)",
    )
}

fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().take(512).all(|&b| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..))
}

fn damaged(kind: &str, name: &str, cause: impl std::fmt::Display) -> Error {
    Error::unusable(format!("{name} is a {kind} that is truncated or damaged ({cause})"), REPLACE)
}

/// An error if an image of this size has no pixels, or more than [`MAX_PIXELS`].
pub fn check_size(width: usize, height: usize, name: &str) -> Result<()> {
    match width.checked_mul(height) {
        Some(0) => Err(Error::unusable(format!("{name} has no pixels ({width} x {height})"), REPLACE)),
        Some(pixels) if pixels <= MAX_PIXELS => Ok(()),
        _ => Err(Error::unusable(
            format!(
                "{name} claims {width} x {height} pixels, more than the limit of {} million",
                MAX_PIXELS / 1_000_000
            ),
            "downscale it, or pass --skip-bad to go on without it",
        )),
    }
}

fn decode_png(bytes: &[u8], name: &str) -> Result<Frame> {
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: PNG_BYTES });
    decoder.set_transformations(Transformations::EXPAND);
    decoder.set_ignore_text_chunk(true);
    let header = decoder.read_header_info().map_err(|e| damaged("PNG", name, e))?;
    let (width, height) = (header.width as usize, header.height as usize);
    check_size(width, height, name)?;

    let mut reader = decoder.read_info().map_err(|e| damaged("PNG", name, e))?;
    let (color, depth) = reader.output_color_type();
    let mut raw = vec![0; reader.output_buffer_size().ok_or_else(|| damaged("PNG", name, "its size overflows"))?];
    reader.next_frame(&mut raw).map_err(|e| damaged("PNG", name, e))?;

    let stored = color.samples();
    let (color, kept) = match color {
        ColorType::Rgb | ColorType::Rgba => (Color::Rgb, 3),
        _ => (Color::Gray, 1),
    };
    let (samples, bits) = if depth == BitDepth::Sixteen {
        let words = raw.as_chunks().0.iter().map(|&pair| u16::from_be_bytes(pair)).collect();
        (Samples::U16(without_alpha(words, stored, kept)), 16)
    } else {
        (Samples::U8(without_alpha(raw, stored, kept)), 8)
    };
    Ok(Frame { width, height, color, samples, meaning: Meaning::picture(bits) })
}

/// The first `kept` of the `stored` samples of each pixel.
fn without_alpha<T: Copy>(samples: Vec<T>, stored: usize, kept: usize) -> Vec<T> {
    if kept == stored {
        return samples;
    }
    samples.chunks_exact(stored).flat_map(|pixel| &pixel[..kept]).copied().collect()
}

/// The luma alone, where it is stored, unless `in_color`.
fn decode_jpeg(bytes: &[u8], name: &str, in_color: bool) -> Result<Frame> {
    // The decoder fills what is missing from the last rows with gray; the end marker tells.
    if !has_end_marker(bytes) {
        return Err(damaged("JPEG", name, "its end marker is missing"));
    }
    let side = usize::from(u16::MAX);
    let options = DecoderOptions::new_fast().set_strict_mode(true).set_max_width(side).set_max_height(side);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|e| damaged("JPEG", name, e))?;
    let (Some(info), Some(stored)) = (decoder.info(), decoder.input_colorspace()) else {
        return Err(damaged("JPEG", name, "it has no header"));
    };
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    check_size(width, height, name)?;

    let is_gray = stored == ColorSpace::Luma || stored == ColorSpace::YCbCr && !in_color;
    let (wanted, color) = if is_gray { (ColorSpace::Luma, Color::Gray) } else { (ColorSpace::RGB, Color::Rgb) };
    decoder.set_options(options.jpeg_set_out_colorspace(wanted));
    let raw = decoder.decode().map_err(|e| damaged("JPEG", name, e))?;
    let meaning = Meaning { lossy: true, ..Meaning::picture(8) };
    Ok(Frame { width, height, color, samples: Samples::U8(raw), meaning })
}

/// Whether an end-of-image marker follows the last start-of-scan marker. Neither can occur inside the compressed data,
/// where every 0xff is followed by a stuffed zero.
fn has_end_marker(bytes: &[u8]) -> bool {
    let last = |marker: u8| bytes.windows(2).rposition(|pair| pair == [0xff, marker]);
    last(0xd9) > last(0xda)
}

/// ITU-R 601 luma in 16-bit fixed point, rounded: (19595 R + 38470 G + 7471 B) / 65536.
pub fn luma8(r: u8, g: u8, b: u8) -> u8 {
    ((19595 * u32::from(r) + 38470 * u32::from(g) + 7471 * u32::from(b) + 0x8000) >> 16) as u8
}

/// The same of 16-bit values.
pub fn luma16(r: u16, g: u16, b: u16) -> u16 {
    ((19595 * u64::from(r) + 38470 * u64::from(g) + 7471 * u64::from(b) + 0x8000) >> 16) as u16
}
