//! From stored values to gray: which of them is black, which is white.

use super::{
    decode::{Gray, Pixels, luma8, luma16},
    scan::{Color, Frame, Meaning, Samples, Shape, Voi},
};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// How values become gray, as in `--intensity`. Part of the recipe of a run, so that `predict` does the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Intensity {
    /// By what the file is: a picture, and anything in color, as stored; else the window the file proposes; else
    /// [`Intensity::CT`] for a CT; as stored where 8 bits are all there is; else percentiles 0.5 to 99.5.
    #[default]
    Auto,
    /// `stored`: the range of the stored type from black to white.
    Stored,
    /// `window`: the file's first window or VOI LUT; a file without one is an error.
    FileWindow,
    /// `window:CENTER,WIDTH`: this window over physical values (PS3.3 C.11.2.1.2.1).
    Window(f64, f64),
    /// `range:LOW,HIGH`: physical values from black to white; for CT in Hounsfield units.
    Range(f64, f64),
    /// `percentile:LOW,HIGH`: percentiles of the image from black to white.
    Percentile(f64, f64),
    /// `min-max`: the least and the greatest value of the image.
    MinMax,
    /// `z-score`: the mean is middle gray, three standard deviations below it black, above it white.
    ZScore,
    /// `study`: as RadiologyNET's exporter and loader: the first window as a plain ramp without the half steps of
    /// PS3.3, cut to 8 bits; CR inverted unless declared IDENTITY; scaled without a filter against aliasing. Pictures
    /// are cut to 8 bits; any other file without a window is an error, as it is left out there.
    Study,
}

impl Intensity {
    /// What [`Intensity::Auto`] shows of a CT without a window: from air to dense bone, in Hounsfield units.
    pub const CT: Intensity = Intensity::Range(-1000.0, 1000.0);
    /// What it shows of other files without one.
    const OTHER: Intensity = Intensity::Percentile(0.5, 99.5);

    /// Whether images are scaled with a filter that grows with the reduction; the study's are not.
    pub fn antialias(&self) -> bool {
        *self != Intensity::Study
    }
}

impl fmt::Display for Intensity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Intensity::Auto => f.write_str("auto"),
            Intensity::Stored => f.write_str("stored"),
            Intensity::FileWindow => f.write_str("window"),
            Intensity::Window(center, width) => write!(f, "window:{center},{width}"),
            Intensity::Range(low, high) => write!(f, "range:{low},{high}"),
            Intensity::Percentile(low, high) => write!(f, "percentile:{low},{high}"),
            Intensity::MinMax => f.write_str("min-max"),
            Intensity::ZScore => f.write_str("z-score"),
            Intensity::Study => f.write_str("study"),
        }
    }
}

impl FromStr for Intensity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (word, numbers) = text.split_once(':').unwrap_or((text, ""));
        let pair = numbers.split_once(',').and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
        let finite = pair.filter(|(a, b): &(f64, f64)| a.is_finite() && b.is_finite());
        match (word, finite) {
            ("auto", None) if numbers.is_empty() => Ok(Intensity::Auto),
            ("stored", None) if numbers.is_empty() => Ok(Intensity::Stored),
            ("window", None) if numbers.is_empty() => Ok(Intensity::FileWindow),
            ("min-max", None) if numbers.is_empty() => Ok(Intensity::MinMax),
            ("z-score", None) if numbers.is_empty() => Ok(Intensity::ZScore),
            ("study", None) if numbers.is_empty() => Ok(Intensity::Study),
            ("window", Some((center, width))) if width >= 1.0 => Ok(Intensity::Window(center, width)),
            ("range" | "hu", Some((low, high))) if low < high => Ok(Intensity::Range(low, high)),
            ("percentile", Some((low, high))) if 0.0 <= low && low < high && high <= 100.0 => {
                Ok(Intensity::Percentile(low, high))
            }
            _ => Err(Error::unusable(
                format!("there is no intensity {text:?}"),
                "auto, stored, window, window:CENTER,WIDTH (a width of at least 1), range:LOW,HIGH, \
                 percentile:LOW,HIGH (0 to 100), min-max, z-score or study",
            )),
        }
    }
}

impl TryFrom<String> for Intensity {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse().map_err(|e: Error| e.to_string())
    }
}

impl From<Intensity> for String {
    fn from(intensity: Intensity) -> String {
        intensity.to_string()
    }
}

impl Voi {
    /// The share of white, in `[0, 1]`, of a physical value.
    pub fn apply(&self, value: f64) -> f64 {
        match *self {
            Voi::Window { center, width, shape: Shape::Sigmoid } => {
                1.0 / (1.0 + (-4.0 * (value - center) / width).exp())
            }
            Voi::Window { center, width, shape } => {
                let (center, width) = match shape {
                    Shape::LinearExact => (center, width),
                    _ => (center - 0.5, width - 1.0),
                };
                if value <= center - width / 2.0 {
                    0.0
                } else if value > center + width / 2.0 {
                    1.0
                } else {
                    (value - center) / width + 0.5
                }
            }
            Voi::Table(ref table) => table.at(value) / ((1u64 << table.bits) - 1) as f64,
        }
    }
}

/// What of an image is black and white, all of it known.
enum Curve<'a> {
    Voi(&'a Voi),
    Window(Voi),
    Range(f64, f64),
}

impl Curve<'_> {
    fn apply(&self, value: f64) -> f64 {
        match self {
            Curve::Voi(voi) => voi.apply(value),
            Curve::Window(voi) => voi.apply(value),
            Curve::Range(low, high) if low < high => ((value - low) / (high - low)).clamp(0.0, 1.0),
            // An image of one value.
            Curve::Range(..) => 0.0,
        }
    }
}

impl Frame {
    /// The physical values of a gray frame: `height * width` of them, row by row.
    pub fn physical(&self) -> Vec<f64> {
        self.samples.to_f64().into_iter().map(|value| self.meaning.rescale.apply(value)).collect()
    }

    /// Which pixels a mask marks: those whose physical value is other than 0; of lossy ones, in which there is noise about 0,
    /// those whose stored value is at least half of the greatest. Of color, those with such a value in any channel.
    pub fn marked(&self) -> Vec<bool> {
        let Meaning { rescale, range: [_, white], lossy, .. } = &self.meaning;
        let is_marked = |&stored: &f64| {
            let value = rescale.apply(stored);
            if *lossy { stored >= white / 2.0 } else { value != 0.0 && !value.is_nan() }
        };
        let values = self.samples.to_f64();
        match self.color {
            Color::Gray => values.iter().map(is_marked).collect(),
            Color::Rgb => values.chunks_exact(3).map(|pixel| pixel.iter().any(is_marked)).collect(),
            Color::Ybr => {
                let neutral = (white + 1.0) / 2.0;
                let rgb = |p: &[f64]| {
                    let (y, b, r) = (p[0], p[1] - neutral, p[2] - neutral);
                    [y + 1.402 * r, y - 0.344136 * b - 0.714136 * r, y + 1.772 * b].map(|v| v.round().max(0.0))
                };
                values.chunks_exact(3).map(|pixel| rgb(pixel).iter().any(is_marked)).collect()
            }
        }
    }

    /// The gray image that `intensity` makes of the frame: 8 bit where the stored values are shown as they are and have
    /// no more, else 16 bit. `name` is how the errors call the file.
    ///
    /// # Errors
    /// A window of the file that is asked for and not there.
    pub fn render(self, intensity: Intensity, name: &str) -> Result<Gray> {
        let frame = self.into_gray();
        let meaning = &frame.meaning;
        let chosen = match intensity {
            Intensity::Auto if meaning.shown => Intensity::Stored,
            Intensity::Auto if !meaning.voi.is_empty() => Intensity::FileWindow,
            Intensity::Auto if meaning.hounsfield => Intensity::CT,
            Intensity::Auto if matches!(frame.samples, Samples::U8(_)) => Intensity::Stored,
            Intensity::Auto => Intensity::OTHER,
            other => other,
        };
        if chosen == Intensity::Stored && !meaning.inverted {
            match (&frame.samples, meaning.range) {
                (Samples::U8(_), [_, 255.0]) | (Samples::U16(_), [_, 65535.0]) => return Ok(frame.into_stored()),
                _ => {}
            }
        }
        if chosen == Intensity::Study {
            return frame.render_as_study(name);
        }
        let curve = match chosen {
            Intensity::FileWindow => Curve::Voi(meaning.voi.first().ok_or_else(|| no_window(name))?),
            Intensity::Window(center, width) => Curve::Window(Voi::Window { center, width, shape: Shape::Linear }),
            Intensity::Range(low, high) => Curve::Range(low, high),
            Intensity::Percentile(low, high) => frame.spread(|all| percentiles(all, [low, high])),
            Intensity::MinMax => frame.spread(|all| {
                all.iter().fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], &v| [low.min(v), high.max(v)])
            }),
            Intensity::ZScore => frame.spread(|all| {
                let n = all.len().max(1) as f64;
                let mean = all.iter().sum::<f64>() / n;
                let deviation = (all.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
                [mean - 3.0 * deviation, mean + 3.0 * deviation]
            }),
            _ => {
                let [low, high] = meaning.range.map(|value| meaning.rescale.apply(value));
                Curve::Range(low.min(high), low.max(high))
            }
        };
        // Where the values of the image set the range, padding is outside of it, and black.
        let padding = match chosen {
            Intensity::Percentile(..) | Intensity::MinMax | Intensity::ZScore => meaning.padding,
            _ => None,
        };
        let pixels = frame.map(|stored| {
            if padding.is_some_and(|[low, high]| (low..=high).contains(&stored)) || stored.is_nan() {
                return 0u16;
            }
            let share = curve.apply(meaning.rescale.apply(stored));
            let share = if meaning.inverted { 1.0 - share } else { share };
            (share * 65535.0).round() as u16
        });
        Ok(Gray { width: frame.width, height: frame.height, pixels: Pixels::U16(pixels) })
    }

    fn render_as_study(self, name: &str) -> Result<Gray> {
        let meaning = &self.meaning;
        let window = meaning.voi.iter().find_map(|voi| match *voi {
            Voi::Window { center, width, .. } => Some((center, width)),
            Voi::Table(_) => None,
        });
        let level: Box<dyn Fn(f64) -> f64> = match window {
            Some((center, width)) => Box::new(move |value| match value {
                v if v <= center - width / 2.0 => 0.0,
                v if v > center + width / 2.0 => 255.0,
                v => (v - center + width / 2.0) / width * 255.0,
            }),
            None if meaning.shown => {
                let white = meaning.range[1];
                Box::new(move |value| value * 255.0 / white)
            }
            None => return Err(no_window(name)),
        };
        let pixels = self.map(|stored| {
            let level = level(meaning.rescale.apply(stored)) as u8;
            if meaning.study_inverted { 255 - level } else { level }
        });
        Ok(Gray { width: self.width, height: self.height, pixels: Pixels::U8(pixels) })
    }

    /// The frame with one gray value a pixel: luma of what is in color.
    pub(super) fn into_gray(self) -> Frame {
        let samples = match (self.color, self.samples) {
            (Color::Gray, samples) => samples,
            (Color::Ybr, samples) => match samples {
                Samples::U8(values) => Samples::U8(values.chunks_exact(3).map(|p| p[0]).collect()),
                Samples::U16(values) => Samples::U16(values.chunks_exact(3).map(|p| p[0]).collect()),
                Samples::I16(values) => Samples::I16(values.chunks_exact(3).map(|p| p[0]).collect()),
                Samples::Wide(values) => Samples::Wide(values.chunks_exact(3).map(|p| p[0]).collect()),
            },
            (Color::Rgb, Samples::U8(v)) => Samples::U8(v.chunks_exact(3).map(|p| luma8(p[0], p[1], p[2])).collect()),
            (Color::Rgb, Samples::U16(v)) => {
                Samples::U16(v.chunks_exact(3).map(|p| luma16(p[0], p[1], p[2])).collect())
            }
            (Color::Rgb, samples) => {
                let luma = |p: &[f64]| 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2];
                Samples::Wide(samples.to_f64().chunks_exact(3).map(luma).collect())
            }
        };
        Frame { color: Color::Gray, samples, ..self }
    }

    fn into_stored(self) -> Gray {
        let pixels = match self.samples {
            Samples::U8(values) => Pixels::U8(values),
            Samples::U16(values) => Pixels::U16(values),
            _ => unreachable!("asked for unsigned samples only"),
        };
        Gray { width: self.width, height: self.height, pixels }
    }

    /// The curve between the two physical values that `bounds` finds in those of the picture, without padding.
    fn spread(&self, bounds: impl Fn(&mut [f64]) -> [f64; 2]) -> Curve<'static> {
        let mut values = self.samples.to_f64();
        let padding = self.meaning.padding;
        values.retain(|v| v.is_finite() && !padding.is_some_and(|[low, high]| (low..=high).contains(v)));
        values.iter_mut().for_each(|v| *v = self.meaning.rescale.apply(*v));
        if values.is_empty() {
            return Curve::Range(0.0, 0.0);
        }
        let [low, high] = bounds(&mut values);
        Curve::Range(low, high)
    }

    /// `f` of every stored value; of 16-bit ones it is computed once for each that occurs.
    fn map<T: Copy + Default>(&self, f: impl Fn(f64) -> T) -> Vec<T> {
        fn by_table<V: Copy + Ord + Into<i32>, T: Copy + Default>(values: &[V], f: impl Fn(f64) -> T) -> Vec<T> {
            let (Some(&low), Some(&high)) = (values.iter().min(), values.iter().max()) else { return vec![] };
            let (low, high): (i32, i32) = (low.into(), high.into());
            if (high - low) as usize >= values.len() {
                return values.iter().map(|&v| f(v.into().into())).collect();
            }
            let table: Vec<T> = (low..=high).map(|v| f(v.into())).collect();
            values.iter().map(|&v| table[(v.into() - low) as usize]).collect()
        }
        match &self.samples {
            Samples::U8(values) => by_table(values, f),
            Samples::U16(values) => by_table(values, f),
            Samples::I16(values) => by_table(values, f),
            Samples::Wide(values) => values.iter().map(|&v| f(v)).collect(),
        }
    }
}

fn no_window(name: &str) -> Error {
    Error::unusable(format!("{name} proposes no window"), "--intensity auto, or window:CENTER,WIDTH")
}

/// Percentiles with linear interpolation, as numpy's.
fn percentiles(values: &mut [f64], percents: [f64; 2]) -> [f64; 2] {
    percents.map(|percent| {
        let place = percent / 100.0 * (values.len() - 1) as f64;
        let (below, share) = (place.floor() as usize, place.fract());
        let (_, &mut low, above) = values.select_nth_unstable_by(below, f64::total_cmp);
        let high = above.iter().copied().fold(f64::INFINITY, f64::min);
        if share > 0.0 { low + (high - low) * share } else { low }
    })
}
