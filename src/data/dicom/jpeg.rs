//! The JPEG processes that common decoders leave out (ITU-T T.81): lossless (annex H), 2 to 16 bit, and extended
//! sequential with 12 bit, one component. What they hold in eight bits goes to the decoder of plain JPEG files.

use super::{
    bits::{Bits, extended},
    dataset::Parsed,
};
use crate::data::scan::Color;

/// What the frame header says.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// The process: the last hex digit of the frame marker, 0 for baseline, 3 for lossless.
    pub process: u8,
    /// Bits of a sample.
    pub precision: u32,
    pub width: usize,
    pub height: usize,
    /// Identifiers of the components.
    pub components: Vec<u8>,
    /// What kind of color its application segments say it is.
    pub color: Option<Color>,
    /// Whether each component has a sample per pixel.
    subsampled: bool,
    /// Quantisation table of the first component.
    table: usize,
}

/// The segments of a JPEG stream: marker and content, entropy-coded data passed over.
struct Segments<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Segments<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let start = self.data.get(self.at..)?.iter().position(|&b| b == 0xff)? + self.at;
            let marker = *self.data.get(start + 1)?;
            match marker {
                // Stuffing, restarts, start of image.
                0 | 0xd0..=0xd8 => self.at = start + 2,
                0xff => self.at = start + 1,
                0xd9 => return None,
                _ => {
                    let length = self.data.get(start + 2..start + 4)?;
                    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                    let content = self.data.get(start + 4..start + 2 + length)?;
                    self.at = start + 2 + length;
                    return Some((marker, content));
                }
            }
        }
    }
}

/// How the segment of 16 bytes begins in which Adobe tells of a transform.
pub const ADOBE: &[u8] = b"\xff\xee\0\x0eAdobe";

/// Color by the segments of JFIF, which is always YCbCr, and of Adobe.
fn color((marker, content): (u8, &[u8])) -> Option<Color> {
    match (marker, content) {
        (0xe0, [b'J', b'F', b'I', b'F', ..]) => Some(Color::Ybr),
        (0xee, [b'A', b'd', b'o', b'b', b'e', _, _, _, _, _, _, transform]) => match transform {
            0 => Some(Color::Rgb),
            _ => Some(Color::Ybr),
        },
        _ => None,
    }
}

/// Reads the frame header.
pub fn header(data: &[u8]) -> Parsed<Header> {
    let frame = |marker: u8| matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc);
    let found = Segments { data, at: 0 }.find(|(marker, _)| frame(*marker));
    let (marker, content) = found.ok_or("its JPEG data have no frame header")?;
    let [precision, h0, h1, w0, w1, count, rest @ ..] = content else {
        return Err("its JPEG frame header is cut off".into());
    };
    let (parts, _) = rest.as_chunks::<3>();
    if parts.len() != usize::from(*count) || parts.is_empty() {
        return Err("its JPEG frame header is cut off".into());
    }
    Ok(Header {
        process: marker & 15,
        precision: u32::from(*precision),
        width: usize::from(u16::from_be_bytes([*w0, *w1])),
        height: usize::from(u16::from_be_bytes([*h0, *h1])),
        color: Segments { data, at: 0 }.take_while(|(marker, _)| !frame(*marker)).find_map(color),
        components: parts.iter().map(|part| part[0]).collect(),
        subsampled: parts.iter().any(|part| part[1] != parts[0][1]),
        table: usize::from(parts[0][2] & 3),
    })
}

/// Decodes a lossless or a 12-bit sequential stream into samples with their channels side by side.
pub fn decode(data: &[u8], header: &Header) -> Parsed<Vec<u16>> {
    let channels = header.components.len();
    if header.process == 1 && channels > 1 {
        return Err("12-bit JPEG in colour is not read".into());
    }
    if header.subsampled {
        return Err("lossless JPEG with subsampled channels is not read".into());
    }
    let mut decoder = Decoder {
        header,
        huffman: Default::default(),
        quantisation: [[1; 64]; 4],
        restart: 0,
        samples: vec![0; header.width * header.height * channels],
    };
    let mut scans = 0;
    let mut segments = Segments { data, at: 0 };
    while let Some((marker, content)) = segments.next() {
        match marker {
            0xc4 => decoder.huffman_tables(content)?,
            0xdb => decoder.quantisation_tables(content)?,
            0xdd => decoder.restart = content.first_chunk().map_or(0, |&n| usize::from(u16::from_be_bytes(n))),
            0xda => {
                scans += decoder.scan(content, &data[segments.at..])?;
            }
            _ => {}
        }
    }
    if scans < channels {
        return Err("its JPEG data lack a scan".into());
    }
    Ok(decoder.samples)
}

/// Codes of up to this many bits are looked up at once.
const FAST: u32 = 9;
/// Codes and the numbers behind them, up to this many bits together, are looked up at once.
const FAST_NUMBER: u32 = 12;

struct Huffman {
    /// By the next [`FAST`] bits: length of the code and its value; length 0 for longer codes.
    fast: Box<[(u8, u8)]>,
    /// By the next [`FAST_NUMBER`] bits: length of a code with the number behind it, of as many bits as the code says, and
    /// that number; length 0 for longer ones.
    fast_numbers: Box<[(u8, i16)]>,
    /// First code of each length, left-aligned to 16 bits, and one past the last.
    limits: [u32; 17],
    /// What to add to a code of each length to get its place in `values`.
    offsets: [i32; 17],
    values: Vec<u8>,
}

impl Huffman {
    fn new(counts: &[u8; 16], values: &[u8]) -> Parsed<Huffman> {
        let mut table = Huffman {
            fast: vec![(0, 0); 1 << FAST].into(),
            fast_numbers: vec![(0, 0); 1 << FAST_NUMBER].into(),
            limits: [0; 17],
            offsets: [0; 17],
            values: values.to_vec(),
        };
        let (mut code, mut place) = (0u32, 0usize);
        for length in 1..=16 {
            table.offsets[length] = place as i32 - code as i32;
            for _ in 0..counts[length - 1] {
                if code >> length != 0 {
                    return Err("a Huffman table has too many codes".into());
                }
                if length as u32 <= FAST {
                    let shift = FAST - length as u32;
                    let (first, value) = ((code << shift) as usize, values[place]);
                    table.fast[first..first + (1 << shift)].fill((length as u8, value));
                }
                code += 1;
                place += 1;
            }
            table.limits[length] = code << (16 - length);
            code <<= 1;
        }
        for (bits, number) in table.fast_numbers.iter_mut().enumerate() {
            let (length, size) = table.fast[bits >> (FAST_NUMBER - FAST)];
            let left = FAST_NUMBER.checked_sub(u32::from(length) + u32::from(size));
            if let (1.., Some(left)) = (length, left) {
                let bits = (bits >> left) as i32 & ((1 << size) - 1);
                *number = (length + size, extended(bits, size.into()) as i16);
            }
        }
        Ok(table)
    }

    /// A number behind the code that tells its size.
    #[inline]
    fn number(&self, bits: &mut Bits) -> Parsed<i32> {
        let (length, number) = self.fast_numbers[bits.peek(FAST_NUMBER) as usize];
        if length > 0 {
            bits.skip(u32::from(length));
            return Ok(number.into());
        }
        match self.read(bits)? {
            size @ 0..16 => Ok(bits.signed(size)),
            16 => Ok(32768),
            _ => Err(BAD_CODE.into()),
        }
    }

    #[inline]
    fn read(&self, bits: &mut Bits) -> Parsed<u32> {
        let (length, value) = self.fast[bits.peek(FAST) as usize];
        if length > 0 {
            bits.skip(u32::from(length));
            return Ok(u32::from(value));
        }
        let word = bits.peek(16);
        let length = (FAST as usize + 1..=16).find(|&n| word < self.limits[n]).ok_or(BAD_CODE)?;
        bits.skip(length as u32);
        let place = (word >> (16 - length)) as i32 + self.offsets[length];
        self.values.get(place as usize).map(|&value| u32::from(value)).ok_or(BAD_CODE.into())
    }
}

const BAD_CODE: &str = "its JPEG data hold a code that no table has";

struct Decoder<'a> {
    header: &'a Header,
    huffman: [Option<Huffman>; 8],
    quantisation: [[u16; 64]; 4],
    restart: usize,
    samples: Vec<u16>,
}

impl Decoder<'_> {
    fn huffman_tables(&mut self, mut content: &[u8]) -> Parsed<()> {
        while let Some((head, rest)) = content.split_first_chunk::<17>() {
            let counts: &[u8; 16] = head.last_chunk().expect("16 of 17");
            let total: usize = counts.iter().map(|&n| usize::from(n)).sum();
            let values = rest.get(..total).ok_or("a Huffman table is cut off")?;
            // Tables of AC coefficients follow those of DC and lossless differences.
            let slot = usize::from(head[0] >> 4 & 1) * 4 + usize::from(head[0] & 3);
            self.huffman[slot] = Some(Huffman::new(counts, values)?);
            content = &rest[total..];
        }
        Ok(())
    }

    fn quantisation_tables(&mut self, mut content: &[u8]) -> Parsed<()> {
        while let [head, rest @ ..] = content {
            let wide = usize::from(head >> 4 & 1);
            let values = rest.get(..64 << wide).ok_or("a quantisation table is cut off")?;
            for (i, step) in self.quantisation[usize::from(head & 3)].iter_mut().enumerate() {
                *step = match wide {
                    0 => u16::from(values[i]),
                    _ => u16::from_be_bytes([values[2 * i], values[2 * i + 1]]),
                };
            }
            content = &rest[values.len()..];
        }
        Ok(())
    }

    /// Decodes a scan and returns the number of its components.
    fn scan(&mut self, content: &[u8], data: &[u8]) -> Parsed<usize> {
        let count = usize::from(*content.first().unwrap_or(&0));
        let (parts, rest) = content.get(1..).unwrap_or_default().as_chunks::<2>();
        let (parts, tail) = parts.split_at_checked(count).ok_or("a scan header is cut off")?;
        // Two of the last three bytes may have paired up.
        let tail: Vec<u8> = tail.as_flattened().iter().chain(rest).copied().collect();
        let [selection, _, transform] = tail[..] else { return Err("a scan header is cut off".into()) };
        let place = |id: u8| self.header.components.iter().position(|&known| known == id);
        let channels: Option<Vec<_>> = parts.iter().map(|part| place(part[0])).collect();
        let channels = channels.filter(|all| !all.is_empty()).ok_or("a scan names an unknown component")?;
        let table = |slot: usize| self.huffman[slot].as_ref().ok_or("a Huffman table is missing");
        let mut bits = Bits::new(data, 8);
        if self.header.process != 3 {
            let (dc, ac) = (table(usize::from(parts[0][1] >> 4 & 3))?, table(4 + usize::from(parts[0][1] & 3))?);
            let steps = &self.quantisation[self.header.table];
            return sequential(self.header, &mut self.samples, [dc, ac], steps, self.restart, &mut bits).map(|()| 1);
        }
        let tables: Result<Vec<_>, _> = parts.iter().map(|part| table(usize::from(part[1] >> 4 & 3))).collect();
        let shift = u32::from(transform & 15);
        if shift >= self.header.precision {
            return Err("its point transform leaves no bits".into());
        }
        let mut scan = Lossless {
            header: self.header,
            samples: &mut self.samples,
            channels: &channels,
            tables: &tables?,
            restart: self.restart,
            shift,
        };
        match selection {
            1 => scan.decode(&mut bits, |a, _, _| a),
            2 => scan.decode(&mut bits, |_, b, _| b),
            3 => scan.decode(&mut bits, |_, _, c| c),
            4 => scan.decode(&mut bits, |a, b, c| a + b - c),
            5 => scan.decode(&mut bits, |a, b, c| a + ((b - c) >> 1)),
            6 => scan.decode(&mut bits, |a, b, c| b + ((a - c) >> 1)),
            7 => scan.decode(&mut bits, |a, b, _| (a + b) >> 1),
            _ => return Err(format!("there is no predictor {selection}")),
        }?;
        Ok(count)
    }
}

struct Lossless<'a> {
    header: &'a Header,
    samples: &'a mut [u16],
    channels: &'a [usize],
    tables: &'a [&'a Huffman],
    restart: usize,
    shift: u32,
}

impl Lossless<'_> {
    /// Decodes with the predictor of the left, upper and upper left neighbours.
    fn decode(&mut self, bits: &mut Bits, predict: impl Fn(i32, i32, i32) -> i32) -> Parsed<()> {
        let (width, count) = (self.header.width, self.header.components.len());
        let stride = width * count;
        let middle = 1 << (self.header.precision - self.shift - 1);
        if !self.restart.is_multiple_of(width) {
            return Err("it restarts within a row, which lossless JPEG does not allow".into());
        }
        let rows = self.restart / width;
        for y in 0..self.header.height {
            let restarts = rows > 0 && y > 0 && y % rows == 0;
            if restarts {
                bits.restart()?;
            }
            let first_row = y == 0 || restarts;
            for x in 0..width {
                for (&channel, table) in self.channels.iter().zip(self.tables) {
                    let i = y * stride + x * count + channel;
                    let at = |i: usize| i32::from(self.samples[i]);
                    let prediction = match (first_row, x) {
                        (true, 0) => middle,
                        (true, _) => at(i - count),
                        (false, 0) => at(i - stride),
                        _ => predict(at(i - count), at(i - stride), at(i - stride - count)),
                    };
                    self.samples[i] = (prediction + table.number(bits)?) as u16;
                }
            }
            bits.check()?;
        }
        if self.shift > 0 {
            let all = self.samples.chunks_exact_mut(count);
            all.for_each(|pixel| self.channels.iter().for_each(|&channel| pixel[channel] <<= self.shift));
        }
        Ok(())
    }
}

/// Row-major place of each coefficient of the zigzag.
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// Decodes the blocks of one component in the order of the rows.
fn sequential(
    header: &Header,
    samples: &mut [u16],
    [dc, ac]: [&Huffman; 2],
    steps: &[u16; 64],
    restart: usize,
    bits: &mut Bits,
) -> Parsed<()> {
    let cosines = cosines();
    let (middle, top) = ((1 << (header.precision - 1)) as f32, ((1u32 << header.precision) - 1) as f32);
    let across = header.width.div_ceil(8);
    let mut level = 0i32;
    for block in 0..across * header.height.div_ceil(8) {
        if restart > 0 && block > 0 && block % restart == 0 {
            bits.restart()?;
            level = 0;
        }
        let mut values = [0f32; 64];
        let size = dc.read(bits)?.min(15);
        level = level.wrapping_add(bits.signed(size));
        values[0] = level as f32 * f32::from(steps[0]);
        let mut k = 1;
        while k < 64 {
            let code = ac.read(bits)?;
            let (run, size) = (code >> 4, code & 15);
            match (run, size) {
                (15, 0) => k += 16,
                (_, 0) => break,
                _ => {
                    k += run as usize;
                    let place = ZIGZAG.get(k).ok_or("a JPEG block has too many coefficients")?;
                    values[usize::from(*place)] = bits.signed(size) as f32 * f32::from(steps[k]);
                    k += 1;
                }
            }
        }
        bits.check()?;
        inverse_cosine(&mut values, &cosines);
        let (left, top_row) = (block % across * 8, block / across * 8);
        for (y, row) in values.chunks_exact(8).enumerate().take(header.height - top_row) {
            let place = &mut samples[(top_row + y) * header.width..][..header.width];
            for (sample, value) in place[left..].iter_mut().zip(row) {
                *sample = (value + middle).round().clamp(0.0, top) as u16;
            }
        }
    }
    Ok(())
}

/// `cosines[u][x]`: the share of coefficient `u` in sample `x`.
fn cosines() -> [[f32; 8]; 8] {
    std::array::from_fn(|u| {
        std::array::from_fn(|x| {
            let scale = if u == 0 { 0.125f64.sqrt() } else { 0.5 };
            (scale * ((2 * x + 1) as f64 * u as f64 * std::f64::consts::PI / 16.0).cos()) as f32
        })
    })
}

/// The two-dimensional inverse DCT (T.81 A.3.3), rows and then columns.
fn inverse_cosine(values: &mut [f32; 64], cosines: &[[f32; 8]; 8]) {
    let mut rows = [0f32; 64];
    for (row, out) in values.chunks_exact(8).zip(rows.chunks_exact_mut(8)) {
        for (coefficient, wave) in row.iter().zip(cosines) {
            out.iter_mut().zip(wave).for_each(|(sum, w)| *sum += coefficient * w);
        }
    }
    values.fill(0.0);
    for (row, wave) in rows.chunks_exact(8).zip(cosines) {
        for (out, w) in values.chunks_exact_mut(8).zip(wave) {
            out.iter_mut().zip(row).for_each(|(sum, v)| *sum += v * w);
        }
    }
}
