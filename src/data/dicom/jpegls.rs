//! JPEG-LS, lossless and near-lossless (ITU-T T.87).

use super::{bits::Bits, dataset::Parsed};

/// What the headers say.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Bits of a sample.
    pub precision: u32,
    pub width: usize,
    pub height: usize,
    pub channels: usize,
}

/// How the channels of a scan follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Interleave {
    None,
    Line,
    Sample,
}

/// Segments that the decoder reads.
struct Markers<'a> {
    header: Header,
    preset: [i32; 5],
    /// The scan header and the data behind it, of each scan.
    scans: Vec<(&'a [u8], &'a [u8])>,
}

/// Reads the frame header.
pub fn header(data: &[u8]) -> Parsed<Header> {
    markers(data).map(|markers| markers.header)
}

fn markers(data: &[u8]) -> Parsed<Markers<'_>> {
    if !data.starts_with(&[0xff, 0xd8]) {
        return Err("its JPEG-LS data have no start marker".into());
    }
    let (mut header, mut preset, mut scans) = (None, [0; 5], vec![]);
    let mut at = 2;
    // A marker, unlike what is stuffed, has the highest bit set.
    while let Some(gap) = data[at..].windows(2).position(|pair| pair[0] == 0xff && pair[1] >= 0x80 && pair[1] != 0xff) {
        let start = at + gap;
        let marker = data[start + 1];
        if marker == 0xd9 {
            break;
        }
        let length = data.get(start + 2..start + 4).map(|n| usize::from(u16::from_be_bytes([n[0], n[1]])));
        let content =
            length.and_then(|length| data.get(start + 4..start + 2 + length)).ok_or("a segment is cut off")?;
        at = start + 4 + content.len();
        let word = |i: usize| content.get(i..i + 2).map_or(0, |n| i32::from(u16::from_be_bytes([n[0], n[1]])));
        match (marker, content) {
            (0xf7, [precision, _, _, _, _, channels, ..]) => {
                header = Some(Header {
                    precision: u32::from(*precision),
                    width: word(3) as usize,
                    height: word(1) as usize,
                    channels: usize::from(*channels),
                })
            }
            (0xf8, [1, ..]) => preset = std::array::from_fn(|i| word(1 + 2 * i)),
            (0xf8, _) => return Err("JPEG-LS mapping tables are not read".into()),
            (0xdd, _) => return Err("JPEG-LS with restart markers is not read".into()),
            (0xda, _) => scans.push((content, &data[at..])),
            _ => {}
        }
    }
    let header = header.ok_or("its JPEG-LS data have no frame header")?;
    if !(2..=16).contains(&header.precision) {
        return Err(format!("its JPEG-LS data have {} bits a sample", header.precision));
    }
    Ok(Markers { header, preset, scans })
}

/// Decodes into samples with their channels side by side.
pub fn decode(data: &[u8]) -> Parsed<Vec<u16>> {
    let Markers { header, preset, scans } = markers(data)?;
    let Header { width, height, channels, .. } = header;
    let mut samples = vec![0; width * height * channels];
    let mut done = 0;
    for (content, data) in scans {
        let count = usize::from(*content.first().unwrap_or(&0));
        let Some(&[near, mode, _]) = content.get(1 + 2 * count..) else {
            return Err("a scan header is cut off".into());
        };
        let interleave = match (mode, count) {
            (_, 1) => Interleave::None,
            (1, _) => Interleave::Line,
            (2, _) => Interleave::Sample,
            _ => return Err("a scan of several channels says not how they follow each other".into()),
        };
        if done + count > channels || count == 0 {
            return Err("its JPEG-LS scans have more channels than its header".into());
        }
        let coder = Coder::new(&header, preset, i32::from(near))?;
        Scan { coder, bits: Bits::new(data, 7), width, height, count }.decode(
            interleave,
            &mut samples[done..],
            channels,
        )?;
        done += count;
    }
    if done < channels {
        return Err("its JPEG-LS data lack a scan".into());
    }
    Ok(samples)
}

/// Order of the run lengths (T.87 A.2.1).
const J: [u32; 32] =
    [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// Statistics of a context; in those of runs, `b` counts negative errors.
#[derive(Clone, Copy)]
struct Context {
    a: i32,
    b: i32,
    c: i32,
    n: i32,
}

/// Contexts of gradients; two more are of ends of runs.
const REGULAR: usize = 365;

struct Coder {
    max: i32,
    near: i32,
    thresholds: [i32; 3],
    reset: i32,
    range: i32,
    /// Bits of a mapped error.
    error_bits: u32,
    /// Longest code.
    limit: u32,
    contexts: Vec<Context>,
}

impl Coder {
    fn new(header: &Header, preset: [i32; 5], near: i32) -> Parsed<Coder> {
        let top = (1 << header.precision) - 1;
        let max = if preset[0] == 0 { top } else { preset[0] };
        if max > top || near > max / 2 {
            return Err("its JPEG-LS parameters contradict each other".into());
        }
        // T.87 C.2.4.1.1.
        let clamp = |i: i32, low: i32| if i > max || i < low { low } else { i };
        let basic = |t: i32, least: i32, nears: i32| {
            if max >= 128 {
                (max.min(4095) + 128) / 256 * (t - least) + least + nears * near
            } else {
                least.max(t / (256 / (max + 1)) + nears * near)
            }
        };
        let mut thresholds = [0; 3];
        let mut low = near + 1;
        for (i, (t, least, nears)) in [(3, 2, 3), (7, 3, 5), (21, 4, 7)].into_iter().enumerate() {
            low = if preset[i + 1] == 0 { clamp(basic(t, least, nears), low) } else { preset[i + 1] };
            thresholds[i] = low;
        }
        let range = (max + 2 * near) / (2 * near + 1) + 1;
        let bits = |values: i32| 32 - (values - 1).leading_zeros();
        let depth = bits(max + 1).max(2);
        let start = Context { a: ((range + 32) / 64).max(2), b: 0, c: 0, n: 1 };
        Ok(Coder {
            max,
            near,
            thresholds,
            reset: if preset[4] == 0 { 64 } else { preset[4].max(3) },
            range,
            error_bits: bits(range),
            limit: 2 * (depth + depth.max(8)),
            contexts: vec![start; REGULAR + 2],
        })
    }

    #[inline]
    fn quantise(&self, gradient: i32) -> i32 {
        let [t1, t2, t3] = self.thresholds;
        let size = gradient.abs();
        let level = i32::from(size > self.near) + i32::from(size >= t1) + i32::from(size >= t2) + i32::from(size >= t3);
        if gradient < 0 { -level } else { level }
    }

    /// The mapped error, coded as in T.87 A.5.3.
    #[inline]
    fn golomb(&self, bits: &mut Bits, k: u32, limit: u32) -> i32 {
        let zeros = bits.zeros(limit);
        let mapped = if zeros + self.error_bits + 1 < limit {
            (zeros << k | bits.read(k)) as i32
        } else {
            bits.read(self.error_bits) as i32 + 1
        };
        // No coder writes more; a damaged file must not overflow the sums.
        mapped.min(self.range + 1)
    }

    /// The sample that an error makes of a prediction.
    #[inline]
    fn corrected(&self, prediction: i32, error: i32) -> i32 {
        let step = 2 * self.near + 1;
        let value = prediction + error * step;
        let wrapped = if value < -self.near {
            value + self.range * step
        } else if value > self.max + self.near {
            value - self.range * step
        } else {
            value
        };
        wrapped.clamp(0, self.max)
    }

    /// A sample outside runs, from its neighbours and its quantised gradients (T.87 A.4 to A.6).
    #[inline]
    fn regular(&mut self, bits: &mut Bits, [a, b, c]: [i32; 3], mix: i32) -> i32 {
        let sign = if mix < 0 { -1 } else { 1 };
        let mut context = self.contexts[(mix * sign) as usize];
        let median = if c >= a.max(b) {
            a.min(b)
        } else if c <= a.min(b) {
            a.max(b)
        } else {
            a + b - c
        };
        let prediction = (median + sign * context.c).clamp(0, self.max);
        let k = order(context.n, context.a);
        let mapped = self.golomb(bits, k, self.limit);
        let plain = if mapped & 1 == 0 { mapped >> 1 } else { -((mapped + 1) >> 1) };
        let swapped = self.near == 0 && k == 0 && 2 * context.b <= -context.n;
        let error = if swapped { -plain - 1 } else { plain };
        context.b += error * (2 * self.near + 1);
        context.a = context.a.saturating_add(error.abs());
        if context.n == self.reset {
            context.a >>= 1;
            context.b >>= 1;
            context.n >>= 1;
        }
        context.n += 1;
        if context.b <= -context.n {
            context.b = (context.b + context.n).max(1 - context.n);
            context.c = (context.c - 1).max(-128);
        } else if context.b > 0 {
            context.b = (context.b - context.n).min(0);
            context.c = (context.c + 1).min(127);
        }
        self.contexts[(mix * sign) as usize] = context;
        self.corrected(prediction, sign * error)
    }

    /// The error that ends a run, in the context of its kind: 1 where the neighbours are alike, else 0 (T.87 A.7.2).
    fn run_end(&mut self, bits: &mut Bits, alike: i32, run: u32) -> i32 {
        let context = &self.contexts[REGULAR + alike as usize];
        let k = order(context.n, context.a.saturating_add(if alike == 1 { context.n >> 1 } else { 0 }));
        let mapped = self.golomb(bits, k, self.limit - J[run as usize] - 1);
        let (reset, context) = (self.reset, &mut self.contexts[REGULAR + alike as usize]);
        let odd = (mapped + alike) & 1;
        let size = (mapped + alike + odd) / 2;
        let negative = (k != 0 || 2 * context.b >= context.n) == (odd == 1);
        let error = if negative { -size } else { size };
        context.b += i32::from(error < 0);
        context.a = context.a.saturating_add((mapped + 1 - alike) >> 1);
        if context.n == reset {
            context.a >>= 1;
            context.b >>= 1;
            context.n >>= 1;
        }
        context.n += 1;
        error
    }
}

/// The Golomb parameter: the least `k` with `n 2^k >= a`.
#[inline]
fn order(n: i32, a: i32) -> u32 {
    (0..24).find(|&k| i64::from(n) << k >= i64::from(a)).unwrap_or(24)
}

struct Scan<'a> {
    coder: Coder,
    bits: Bits<'a>,
    width: usize,
    height: usize,
    count: usize,
}

/// A line and the one above it, a channel each, with a sample more on both sides.
struct Lines {
    above: Vec<i32>,
    line: Vec<i32>,
    run: u32,
}

impl Lines {
    fn new(width: usize) -> Lines {
        Lines { above: vec![0; width + 2], line: vec![0; width + 2], run: 0 }
    }

    /// Makes the last line the one above, and sets the samples beside them (T.87 A.2.1).
    fn advance(&mut self) {
        std::mem::swap(&mut self.above, &mut self.line);
        let last = self.above.len() - 1;
        self.above[last] = self.above[last - 1];
        self.line[0] = self.above[1];
    }

    /// Neighbours a, b, c, d of sample `x`, counted from 1.
    #[inline]
    fn around(&self, x: usize) -> [i32; 4] {
        [self.line[x - 1], self.above[x], self.above[x - 1], self.above[x + 1]]
    }
}

impl Scan<'_> {
    fn decode(&mut self, interleave: Interleave, samples: &mut [u16], channels: usize) -> Parsed<()> {
        let mut lines: Vec<Lines> = (0..self.count).map(|_| Lines::new(self.width)).collect();
        for y in 0..self.height {
            lines.iter_mut().for_each(Lines::advance);
            match interleave {
                Interleave::Sample => self.line_of_all(&mut lines),
                _ => lines.iter_mut().for_each(|lines| self.line_of_one(lines)),
            }
            self.bits.check()?;
            for (c, lines) in lines.iter().enumerate() {
                let row = samples[y * self.width * channels + c..].iter_mut().step_by(channels);
                row.zip(&lines.line[1..=self.width]).for_each(|(sample, &value)| *sample = value as u16);
            }
        }
        Ok(())
    }

    /// The context of the gradients between the neighbours, 0 for a run, negative for the mirrored ones.
    #[inline]
    fn mix(&self, [a, b, c, d]: [i32; 4]) -> i32 {
        81 * self.coder.quantise(d - b) + 9 * self.coder.quantise(b - c) + self.coder.quantise(c - a)
    }

    fn line_of_one(&mut self, lines: &mut Lines) {
        let mut x = 1;
        while x <= self.width {
            let around @ [a, b, c, _] = lines.around(x);
            let mix = self.mix(around);
            if mix != 0 {
                lines.line[x] = self.coder.regular(&mut self.bits, [a, b, c], mix);
                x += 1;
                continue;
            }
            let run = self.run_length(self.width + 1 - x, &mut lines.run);
            lines.line[x..x + run].fill(a);
            x += run;
            if x <= self.width {
                let b = lines.above[x];
                let alike = (a - b).abs() <= self.coder.near;
                let error = self.coder.run_end(&mut self.bits, i32::from(alike), lines.run);
                lines.line[x] = match alike {
                    true => self.coder.corrected(a, error),
                    false => self.coder.corrected(b, if b < a { -error } else { error }),
                };
                lines.run = lines.run.saturating_sub(1);
                x += 1;
            }
        }
    }

    /// Sample-interleaved: a run is one of all channels.
    fn line_of_all(&mut self, all: &mut [Lines]) {
        let mut x = 1;
        while x <= self.width {
            if all.iter().any(|lines| self.mix(lines.around(x)) != 0) {
                for lines in all.iter_mut() {
                    let around @ [a, b, c, _] = lines.around(x);
                    let mix = self.mix(around);
                    lines.line[x] = self.coder.regular(&mut self.bits, [a, b, c], mix);
                }
                x += 1;
                continue;
            }
            let run = self.run_length(self.width + 1 - x, &mut all[0].run);
            for lines in all.iter_mut() {
                let a = lines.line[x - 1];
                lines.line[x..x + run].fill(a);
            }
            x += run;
            if x <= self.width {
                let order = all[0].run;
                for lines in all.iter_mut() {
                    let (a, b) = (lines.line[x - 1], lines.above[x]);
                    let error = self.coder.run_end(&mut self.bits, 0, order);
                    lines.line[x] = self.coder.corrected(b, if b < a { -error } else { error });
                }
                all[0].run = order.saturating_sub(1);
                x += 1;
            }
        }
    }

    /// The length of a run of at most `left` samples; at less, a sample follows that ends it (T.87 A.7.1).
    fn run_length(&mut self, left: usize, order: &mut u32) -> usize {
        let mut length = 0;
        while self.bits.read(1) == 1 {
            let step = 1 << J[*order as usize];
            length += step;
            if length <= left {
                *order = (*order + 1).min(31);
            }
            if length >= left {
                return left;
            }
        }
        (length + self.bits.read(J[*order as usize]) as usize).min(left)
    }
}
