//! An image file opened: what it is and holds, and its frames, decoded one at a time.
//!
//! The first bytes decide the format, never the file's name: DICOM, MetaImage, NIfTI, PNG, JPEG. A volume is a stack of
//! frames; a record of a dataset is one of them, by default the middle one.

use super::{decode, dicom::Dicom, metaimage::MetaImage, nifti::Nifti};
use crate::{Error, Result};
use std::sync::Arc;

/// Largest frame that is decoded, in pixels: five times a full-field mammogram.
pub const MAX_PIXELS: usize = decode::MAX_PIXELS;

/// What a file is, as far as its header tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// `PNG`, `JPEG`, `DICOM`, `MetaImage` or `NIfTI`; with the way its pixels are stored where there are several.
    pub format: String,
    /// Modality as DICOM writes it, say `CT`.
    pub modality: Option<String>,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Images in the file: frames, or slices of a volume, in each of its points in time.
    pub frames: usize,
    /// Those of one volume: as many as there are frames, unless the file holds several volumes, say points in time.
    pub slices: usize,
    /// Samples of a pixel.
    pub channels: usize,
    /// Bits of a sample that are used.
    pub bits: u32,
    /// Millimetres from column to column, row to row and frame to frame; 0 where the file does not say.
    pub spacing: [f64; 3],
    /// Rows of the matrix from column, row and frame, counted from 0, to millimetres in the file's own space: towards
    /// the patient's left, back and head in DICOM and MetaImage, right, front and head in NIfTI.
    pub affine: Option<[[f64; 4]; 3]>,
    /// Identifier of the patient.
    pub patient: Option<String>,
}

/// Samples as stored, the channels of a pixel side by side.
#[derive(Clone, Debug, PartialEq)]
pub enum Samples {
    /// Unsigned, up to 8 bit.
    U8(Vec<u8>),
    /// Unsigned, 9 to 16 bit.
    U16(Vec<u16>),
    /// Signed, up to 16 bit.
    I16(Vec<i16>),
    /// Whatever is wider.
    Wide(Vec<f64>),
}

impl Samples {
    /// Their number.
    pub fn len(&self) -> usize {
        match self {
            Samples::U8(values) => values.len(),
            Samples::U16(values) => values.len(),
            Samples::I16(values) => values.len(),
            Samples::Wide(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All as numbers.
    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            Samples::U8(values) => values.iter().map(|&v| v.into()).collect(),
            Samples::U16(values) => values.iter().map(|&v| v.into()).collect(),
            Samples::I16(values) => values.iter().map(|&v| v.into()).collect(),
            Samples::Wide(values) => values.clone(),
        }
    }
}

/// What the samples of a pixel are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// One gray value.
    Gray,
    /// Red, green, blue.
    Rgb,
    /// Luma and two differences of color (ITU-R 601, full range).
    Ybr,
}

/// A table that replaces values: the first input it has an entry for, and the entries.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Input of the first entry; lower ones get it too, as higher ones get the last.
    pub first: i64,
    /// Bits of an entry.
    pub bits: u32,
    /// The entries, at least one; the frames of a file share them.
    pub entries: Arc<[u16]>,
}

impl Table {
    /// The entry of a value.
    pub fn at(&self, value: f64) -> f64 {
        let place = (value as i64).saturating_sub(self.first).clamp(0, self.entries.len() as i64 - 1);
        self.entries[place as usize].into()
    }
}

/// From stored values to those of a physical quantity, or of the machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Rescale {
    /// `value * slope + intercept`.
    Linear {
        /// Factor.
        slope: f64,
        /// Added.
        intercept: f64,
    },
    /// A modality LUT.
    Table(Table),
}

impl Rescale {
    /// Values stay as they are.
    pub const NONE: Rescale = Rescale::Linear { slope: 1.0, intercept: 0.0 };

    /// The physical value of a stored one.
    pub fn apply(&self, value: f64) -> f64 {
        match self {
            Rescale::Linear { slope, intercept } => value * slope + intercept,
            Rescale::Table(table) => table.at(value),
        }
    }
}

/// How a window goes from black to white (PS3.3 C.11.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// C.11.2.1.2.1: a ramp over whole numbers.
    #[default]
    Linear,
    /// C.11.2.1.3.2: a ramp of exactly this width.
    LinearExact,
    /// C.11.2.1.3.1: a logistic curve.
    Sigmoid,
}

/// A way the file itself proposes to show its physical values.
#[derive(Clone, Debug, PartialEq)]
pub enum Voi {
    /// Between black and white around a centre.
    Window {
        /// Value of middle gray.
        center: f64,
        /// Breadth from black to white.
        width: f64,
        /// The curve.
        shape: Shape,
    },
    /// A VOI LUT.
    Table(Table),
}

/// What the samples of a gray frame mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Meaning {
    /// To physical values.
    pub rescale: Rescale,
    /// What the file proposes to show, the default first.
    pub voi: Vec<Voi>,
    /// Whether low values are white (MONOCHROME1).
    pub inverted: bool,
    /// Whether the exporter of the RadiologyNET study inverts it: for CR, unless the file says IDENTITY.
    pub study_inverted: bool,
    /// Stored values, from least to greatest, that mark pixels outside the picture.
    pub padding: Option<[f64; 2]>,
    /// Least and greatest value that can be stored.
    pub range: [f64; 2],
    /// Whether the range itself is meant to be shown, from black to white, as in photographs.
    pub shown: bool,
    /// Whether physical values are Hounsfield units.
    pub hounsfield: bool,
    /// Whether they have been through a lossy code, so that what was 0 need not be.
    pub lossy: bool,
}

impl Meaning {
    /// A picture of `bits` unsigned bits, black to white.
    pub fn picture(bits: u32) -> Meaning {
        Meaning {
            rescale: Rescale::NONE,
            voi: vec![],
            inverted: false,
            study_inverted: false,
            padding: None,
            range: [0.0, ((1u64 << bits) - 1) as f64],
            shown: true,
            hounsfield: false,
            lossy: false,
        }
    }
}

/// One decoded image.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// What the samples are.
    pub color: Color,
    /// Row by row from the top left.
    pub samples: Samples,
    /// What they mean.
    pub meaning: Meaning,
}

enum Kind<'a> {
    Dicom(Box<Dicom<'a>>),
    MetaImage(MetaImage<'a>),
    Nifti(Nifti<'a>),
    Picture(&'a [u8]),
}

/// An opened file: its header is read, its pixels are not.
pub struct Scan<'a> {
    name: &'a str,
    facts: Facts,
    kind: Kind<'a>,
}

impl<'a> Scan<'a> {
    /// Opens the bytes of a file. `name` is how the errors call it.
    ///
    /// # Errors
    /// An empty file, one of no known format, a header that is cut off or contradicts itself, a file without pixels, a
    /// frame larger than [`MAX_PIXELS`].
    pub fn open(bytes: &'a [u8], name: &'a str) -> Result<Scan<'a>> {
        if bytes.is_empty() {
            return Err(Error::unusable(format!("{name} is empty (0 bytes)"), decode::REPLACE));
        }
        let wrong = |format: &str, why: String| {
            Error::unusable(format!("{name} is a {format} file that cannot be read: {why}"), decode::REPLACE)
        };
        let (facts, kind) = if decode::is_picture(bytes) {
            (decode::facts(bytes, name)?, Kind::Picture(bytes))
        } else if super::dicom::is_dicom(bytes) {
            let (facts, dicom) = Dicom::open(bytes).map_err(|why| wrong("DICOM", why))?;
            (facts, Kind::Dicom(Box::new(dicom)))
        } else if super::nifti::is_nifti(bytes) {
            let (facts, nifti) = Nifti::open(bytes).map_err(|why| wrong("NIfTI", why))?;
            (facts, Kind::Nifti(nifti))
        } else if super::metaimage::is_metaimage(bytes) {
            let (facts, image) = MetaImage::open(bytes).map_err(|why| wrong("MetaImage", why))?;
            (facts, Kind::MetaImage(image))
        } else {
            return Err(decode::foreign(bytes, name));
        };
        decode::check_size(facts.width, facts.height, name)?;
        if facts.frames == 0 {
            return Err(wrong(&facts.format, "it has no frames".into()));
        }
        Ok(Scan { name, facts, kind })
    }

    /// What the header tells.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The frame that stands for the file: the middle one; of several volumes, that of the middle volume.
    pub fn middle(&self) -> usize {
        let Facts { frames, slices, .. } = self.facts;
        frames / slices / 2 * slices + slices / 2
    }

    /// Decodes frame `index`, counted from 0.
    ///
    /// # Errors
    /// A frame that is not there, or whose pixels are missing, damaged or of a kind that is not read.
    pub fn frame(&self, index: usize) -> Result<Frame> {
        let Facts { frames, format, .. } = &self.facts;
        if index >= *frames {
            return Err(Error::unusable(
                format!("{} has {frames} frames, and frame {index} is asked for", self.name),
                format!("0 to {}", frames - 1),
            ));
        }
        let decoded = match &self.kind {
            Kind::Dicom(dicom) => dicom.frame(index),
            Kind::MetaImage(image) => image.frame(index),
            Kind::Nifti(nifti) => nifti.frame(index),
            Kind::Picture(bytes) => return decode::decode(bytes, self.name),
        };
        decoded.map_err(|why| {
            let which = if *frames > 1 { format!("frame {index} of {frames}: {why}") } else { why };
            Error::unusable(format!("{} is a {format} file that cannot be read: {which}", self.name), decode::REPLACE)
        })
    }

    /// What frame `index` marks as a mask, see [`Frame::marked`]; of pictures all colors count.
    ///
    /// # Errors
    /// As [`Scan::frame`].
    pub fn marked(&self, index: usize) -> Result<Vec<bool>> {
        let frame = match self.kind {
            Kind::Picture(bytes) if index == 0 => decode::decode_in_color(bytes, self.name)?,
            _ => self.frame(index)?,
        };
        Ok(frame.marked())
    }
}
