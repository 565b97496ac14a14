//! The bytes of a DICOM file to data elements (PS3.5 section 7, PS3.10 section 7).
//!
//! Values stay where they are, as slices of the file; only the lists of elements are built. Reading stops at the pixel
//! data: what follows is of no use here, and often broken.

use flate2::read::DeflateDecoder;
use std::{borrow::Cow, io::Read, ops::Range};

/// Why a file cannot be read, in words that follow "because".
pub type Parsed<T> = Result<T, String>;

/// A tag: group and element, as in `0x0028_0010`.
pub type Tag = u32;

/// Pixel Data; its neighbours hold floats.
pub const PIXEL_DATA: Tag = 0x7fe0_0010;
/// Float Pixel Data.
pub const FLOAT_PIXELS: Tag = 0x7fe0_0008;
/// Double Float Pixel Data.
pub const DOUBLE_PIXELS: Tag = 0x7fe0_0009;

const TRANSFER_SYNTAX: Tag = 0x0002_0010;
const ITEM: Tag = 0xfffe_e000;
const ITEM_END: Tag = 0xfffe_e00d;
const SEQUENCE_END: Tag = 0xfffe_e0dd;
const UNDEFINED: u32 = u32::MAX;

/// The sequences that are looked into; with implicit VR, nothing but the dictionary tells that they are some.
const SEQUENCES: [Tag; 7] = [0x0028_3000, 0x0028_3010, 0x0028_9110, 0x0028_9132, 0x0028_9145, 0x5200_9229, 0x5200_9230];

/// Deeper nesting than any real file has.
const MAX_DEPTH: usize = 24;

/// Most bytes that a deflated file may unfold to.
const MAX_INFLATED: u64 = 1 << 30;

/// How elements are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// Whether elements name their value representation.
    pub explicit: bool,
    /// Whether numbers are big-endian.
    pub big_endian: bool,
}

/// One data element.
pub struct Element<'a> {
    pub tag: Tag,
    /// Value representation; `UN` where the file does not name it.
    pub vr: [u8; 2],
    pub value: Value<'a>,
}

/// What an element holds.
pub enum Value<'a> {
    /// Bytes, and where in the data set they begin.
    Bytes(&'a [u8], usize),
    /// Items of a sequence.
    Items(Vec<DataSet<'a>>),
    /// Fragments of encapsulated pixel data, the offset table first, as places in the data set.
    Fragments(Vec<Range<usize>>),
}

/// Data elements in their order.
#[derive(Default)]
pub struct DataSet<'a> {
    elements: Vec<Element<'a>>,
    big_endian: bool,
}

/// The meta information of a file, and its data set unfolded.
pub struct File<'a> {
    /// UID of the transfer syntax; empty where the file does not say.
    pub syntax: String,
    /// How the data set is written.
    pub encoding: Encoding,
    /// The data set's bytes.
    pub body: Cow<'a, [u8]>,
}

/// Whether `bytes` look like a DICOM file: by its preamble, or without one by a first element of a low group.
pub fn is_dicom(bytes: &[u8]) -> bool {
    bytes.get(128..132) == Some(b"DICM") || starts_data_set(bytes)
}

/// Whether the first element is of group 2 or 8 and small.
fn starts_data_set(bytes: &[u8]) -> bool {
    let Some(head) = bytes.first_chunk::<8>() else { return false };
    let little = matches!(head[..2], [0x02 | 0x08, 0]) && head[3] == 0;
    let big = matches!(head[..2], [0, 0x02 | 0x08]) && head[2] == 0;
    let named = head[4].is_ascii_uppercase() && head[5].is_ascii_uppercase();
    (little || big) && (named || little && u32::from_le_bytes([head[4], head[5], head[6], head[7]]) < 256)
}

/// Splits a file into meta information and data set; a deflated one is inflated.
pub fn open(bytes: &[u8]) -> Parsed<File<'_>> {
    let start = if bytes.get(128..132) == Some(b"DICM") { 132 } else { 0 };
    let meta = Encoding { explicit: true, big_endian: false };
    let mut parser = Parser { bytes, at: start, encoding: meta };
    let mut syntax = String::new();
    while bytes.get(parser.at..parser.at + 2) == Some(&[2, 0]) {
        let element = parser.element(bytes.len(), 0)?;
        if let (TRANSFER_SYNTAX, Value::Bytes(uid, _)) = (element.tag, &element.value) {
            syntax = text_of(uid).into_owned();
        }
    }
    let rest = &bytes[parser.at..];
    let encoding = match syntax.as_str() {
        "" => guess(rest),
        "1.2.840.10008.1.2" => Encoding { explicit: false, big_endian: false },
        "1.2.840.10008.1.2.2" => Encoding { explicit: true, big_endian: true },
        _ => meta,
    };
    let body = if syntax == "1.2.840.10008.1.2.1.99" {
        let mut inflated = Vec::new();
        let read = DeflateDecoder::new(rest).take(MAX_INFLATED).read_to_end(&mut inflated);
        read.map_err(|e| format!("its deflated data set is damaged ({e})"))?;
        Cow::Owned(inflated)
    } else {
        Cow::Borrowed(rest)
    };
    Ok(File { syntax, encoding, body })
}

/// The encoding that the first element shows.
fn guess(bytes: &[u8]) -> Encoding {
    let explicit = bytes.get(4..6).is_some_and(|vr| vr.iter().all(u8::is_ascii_uppercase));
    Encoding { explicit, big_endian: explicit && bytes.first() == Some(&0) }
}

impl<'a> DataSet<'a> {
    /// The elements of `body` as far as the pixel data.
    pub fn parse(body: &'a [u8], encoding: Encoding) -> Parsed<DataSet<'a>> {
        Parser { bytes: body, at: 0, encoding }.data_set(body.len(), false, 0)
    }

    /// The element of a tag.
    pub fn get(&self, tag: Tag) -> Option<&Element<'a>> {
        self.elements.iter().find(|element| element.tag == tag)
    }

    /// The bytes of a value that is not empty.
    pub fn bytes(&self, tag: Tag) -> Option<&'a [u8]> {
        match self.get(tag)?.value {
            Value::Bytes(bytes, _) if !bytes.is_empty() => Some(bytes),
            _ => None,
        }
    }

    /// The value as text, without the padding.
    pub fn text(&self, tag: Tag) -> Option<Cow<'a, str>> {
        self.bytes(tag).map(text_of).filter(|text| !text.is_empty())
    }

    /// The numbers of a text value; empty if one of them is none.
    pub fn decimals(&self, tag: Tag) -> Vec<f64> {
        let Some(text) = self.text(tag) else { return vec![] };
        let parsed: Result<Vec<f64>, _> = text.split('\\').map(|word| word.trim().parse()).collect();
        parsed.ok().filter(|all| all.iter().all(|x| x.is_finite())).unwrap_or_default()
    }

    /// The first number of a text value.
    pub fn decimal(&self, tag: Tag) -> Option<f64> {
        self.decimals(tag).first().copied()
    }

    /// The 16-bit words of a binary value.
    pub fn words(&self, tag: Tag) -> Vec<u16> {
        let word = if self.big_endian { u16::from_be_bytes } else { u16::from_le_bytes };
        self.bytes(tag).unwrap_or_default().as_chunks().0.iter().map(|&pair| word(pair)).collect()
    }

    /// The first 16-bit word of a binary value.
    pub fn word(&self, tag: Tag) -> Option<u16> {
        self.words(tag).first().copied()
    }

    /// The items of a sequence; none if it is missing.
    pub fn items(&self, tag: Tag) -> &[DataSet<'a>] {
        match self.get(tag).map(|element| &element.value) {
            Some(Value::Items(items)) => items,
            _ => &[],
        }
    }
}

fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim_matches(|c: char| c == '\0' || c.is_whitespace())),
        Cow::Owned(text) => Cow::Owned(text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).into()),
    }
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    encoding: Encoding,
}

impl<'a> Parser<'a> {
    /// Elements up to `end`, or in an item of undefined length up to its delimiter.
    fn data_set(&mut self, end: usize, delimited: bool, depth: usize) -> Parsed<DataSet<'a>> {
        let mut elements = Vec::new();
        while self.at < end {
            if delimited && self.peek_tag() == Some(ITEM_END) {
                self.at += 8;
                break;
            }
            // A rest too short for an element is padding.
            if end - self.at < 8 {
                self.at = end;
                break;
            }
            let element = self.element(end, depth)?;
            let last = element.tag == PIXEL_DATA && depth == 0;
            elements.push(element);
            if last {
                break;
            }
        }
        Ok(DataSet { elements, big_endian: self.encoding.big_endian })
    }

    fn element(&mut self, end: usize, depth: usize) -> Parsed<Element<'a>> {
        let tag = self.tag()?;
        let (vr, length) = self.vr_and_length(tag)?;
        let sequence = &vr == b"SQ" || &vr == b"UN" && SEQUENCES.contains(&tag);
        let value = if length == UNDEFINED && tag == PIXEL_DATA {
            Value::Fragments(self.fragments()?)
        } else if length == UNDEFINED || sequence {
            let outer = self.encoding;
            // PS3.5 6.2.2: what is unknown within explicit VR is written as implicit little-endian.
            if &vr == b"UN" && outer.explicit {
                self.encoding = Encoding { explicit: false, big_endian: false };
            }
            let items = self.items(length, end, depth + 1);
            self.encoding = outer;
            Value::Items(items.map_err(|e| format!("{e}, in {}", shown(tag)))?)
        } else {
            let start = self.at;
            Value::Bytes(self.take(length as usize, end, tag)?, start)
        };
        Ok(Element { tag, vr, value })
    }

    fn vr_and_length(&mut self, tag: Tag) -> Parsed<([u8; 2], u32)> {
        let delimiter = tag >> 16 == 0xfffe;
        let vr: [u8; 2] = self.bytes.get(self.at..self.at + 2).and_then(|b| b.try_into().ok()).ok_or_else(cut)?;
        // Some writers slip implicit elements between explicit ones.
        if !self.encoding.explicit || delimiter || !vr.iter().all(u8::is_ascii_uppercase) {
            return Ok((*b"UN", self.u32()?));
        }
        self.at += 2;
        let long = [b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"];
        if long.contains(&&vr) {
            self.at += 2;
            return Ok((vr, self.u32()?));
        }
        Ok((vr, u32::from(self.u16()?)))
    }

    fn items(&mut self, length: u32, end: usize, depth: usize) -> Parsed<Vec<DataSet<'a>>> {
        if depth > MAX_DEPTH {
            return Err(format!("its sequences are nested more than {MAX_DEPTH} deep"));
        }
        let end = match length {
            UNDEFINED => end,
            _ => self.at.checked_add(length as usize).filter(|&stop| stop <= end).ok_or_else(cut)?,
        };
        let mut items = Vec::new();
        while self.at < end {
            let tag = self.tag()?;
            let item = self.u32()?;
            match tag {
                SEQUENCE_END => break,
                ITEM if item == UNDEFINED => items.push(self.data_set(end, true, depth)?),
                ITEM => {
                    let stop = self.at.checked_add(item as usize).filter(|&stop| stop <= end).ok_or_else(cut)?;
                    items.push(self.data_set(stop, false, depth)?);
                }
                _ => return Err(format!("{} stands where an item should begin", shown(tag))),
            }
        }
        Ok(items)
    }

    fn fragments(&mut self) -> Parsed<Vec<Range<usize>>> {
        let mut fragments = Vec::new();
        while self.at + 8 <= self.bytes.len() {
            let tag = self.tag()?;
            let length = self.u32()? as usize;
            if tag != ITEM {
                break;
            }
            // The decoder tells whether what is there is enough.
            let stop = self.at.saturating_add(length).min(self.bytes.len());
            fragments.push(self.at..stop);
            self.at = stop;
        }
        Ok(fragments)
    }

    fn take(&mut self, length: usize, end: usize, tag: Tag) -> Parsed<&'a [u8]> {
        let left = end.min(self.bytes.len()).saturating_sub(self.at);
        // Pixel data that end early are told of with their sizes.
        let length = if tag == PIXEL_DATA { length.min(left) } else { length };
        if length > left {
            return Err(format!("{} has {length} bytes, and {left} are left", shown(tag)));
        }
        let bytes = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(bytes)
    }

    fn u16(&mut self) -> Parsed<u16> {
        let raw = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()).ok_or_else(cut)?;
        self.at += 2;
        Ok(if self.encoding.big_endian { u16::from_be_bytes(*raw) } else { u16::from_le_bytes(*raw) })
    }

    fn u32(&mut self) -> Parsed<u32> {
        let raw = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()).ok_or_else(cut)?;
        self.at += 4;
        Ok(if self.encoding.big_endian { u32::from_be_bytes(*raw) } else { u32::from_le_bytes(*raw) })
    }

    fn tag(&mut self) -> Parsed<Tag> {
        Ok(u32::from(self.u16()?) << 16 | u32::from(self.u16()?))
    }

    fn peek_tag(&self) -> Option<Tag> {
        Parser { bytes: self.bytes, at: self.at, encoding: self.encoding }.tag().ok()
    }
}

fn cut() -> String {
    "it ends in the middle of an element".into()
}

fn shown(tag: Tag) -> String {
    format!("element ({:04x},{:04x})", tag >> 16, tag & 0xffff)
}
