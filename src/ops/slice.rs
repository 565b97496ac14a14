//! Parts of the channels of images: concatenation and ranges, as copies.

use super::{Case, Spec};
use crate::{
    device::{DType, Grid, cpu::parallel},
    kernel,
    shape::{int, nhwc},
    tensor::{Tensor, launch},
};
use bytemuck::{Pod, Zeroable};
use std::ops::Range;

/// `width` channels of `rows` pixels, from channel `x_from` of an image of `x_c` channels to channel `y_from` of one of
/// `y_c`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Copy {
    pub rows: i64,
    pub width: i32,
    pub x_c: i32,
    pub x_from: i32,
    pub y_c: i32,
    pub y_from: i32,
    pub unused: i32,
}

impl Copy {
    /// A thread for each pack of `width` channels, or for each if `starts` are not all at packs.
    fn grid(&self, width: i32, starts: &[i32], dtype: DType) -> Grid {
        let packed = starts.iter().all(|&channels| (channels as usize).is_multiple_of(dtype.pack()));
        Grid::threads(self.rows as usize * width as usize / if packed { dtype.pack() } else { 1 })
    }
}

kernel!(COPY = "copy_channels", |p: Copy, [x] -> [y]| {
    let (width, x_c, x_from, y_from) = (p.width as usize, p.x_c as usize, p.x_from as usize, p.y_from as usize);
    parallel::rows(y, p.y_c as usize, #[inline(always)] |row, y| {
        for (y, x) in y.chunks_exact_mut(p.y_c as usize).zip(x[row * x_c..].chunks_exact(x_c)) {
            y[y_from..][..width].copy_from_slice(&x[x_from..][..width]);
        }
    });
}, grid |dtype| p.grid(p.width, &[p.width, p.x_c, p.x_from, p.y_c, p.y_from], dtype));

kernel!(SPREAD = "spread_channels", |p: Copy, [x] -> [y]| {
    let (width, x_c, y_from) = (p.width as usize, p.x_c as usize, p.y_from as usize);
    parallel::rows(y, p.y_c as usize, #[inline(always)] |row, y| {
        for (y, x) in y.chunks_exact_mut(p.y_c as usize).zip(x[row * x_c..].chunks_exact(x_c)) {
            y.fill(T::ZERO);
            y[y_from..][..width].copy_from_slice(x);
        }
    });
}, grid |dtype| p.grid(p.y_c, &[p.y_c], dtype));

/// Writes the channels of x `[…, c]` into those of y `[…, width]` from `from` on.
pub(super) fn put(x: &Tensor, y: &Tensor, from: usize) {
    let last = |t: &Tensor| *t.shape().last().expect("put: wants a channel axis");
    let (width, y_c) = (last(x), last(y));
    let rows = (x.len() / width) as i64;
    let (width, y_c) = (int(width), int(y_c));
    launch(&COPY, &Copy { rows, width, x_c: width, x_from: 0, y_c, y_from: int(from), unused: 0 }, &[x], &[y]);
}

/// Images `[n, h, w, cᵢ]` of one size, channels behind one another: `[n, h, w, Σ cᵢ]`.
#[track_caller]
pub fn concat(parts: &[&Tensor]) -> Tensor {
    let [n, h, w, _] = nhwc(parts.first().expect("concat: nothing to concatenate").shape(), "concat");
    let mut c = 0;
    let mut ranges = vec![];
    for part in parts {
        assert_eq!(&part.shape()[..3], [n, h, w], "concat: images of different sizes");
        ranges.push(c..c + part.shape()[3]);
        c += part.shape()[3];
    }
    let y = parts[0].empty(&[n, h, w, c], "concat");
    for (part, range) in parts.iter().zip(&ranges) {
        put(part, &y, range.start);
    }
    let wanted: Vec<bool> = parts.iter().map(|part| part.wants_grad()).collect();
    y.record("concat", parts, move |g| {
        let gradients = wanted.iter().zip(ranges).map(|(wanted, range)| wanted.then(|| channels(&g, range)));
        gradients.collect()
    })
}

/// Channels `range` of x `[n, h, w, c]`: `[n, h, w, range.len()]`.
#[track_caller]
pub fn channels(x: &Tensor, range: Range<usize>) -> Tensor {
    let [n, h, w, c] = nhwc(x.shape(), "channels");
    assert!(!range.is_empty() && range.end <= c, "channels: {range:?} of {c}");
    let width = int(range.len());
    let (rows, from) = ((n * h * w) as i64, int(range.start));
    let y = x.empty(&[n, h, w, range.len()], "channels");
    launch(&COPY, &Copy { rows, width, x_c: int(c), x_from: from, y_c: width, y_from: 0, unused: 0 }, &[x], &[&y]);
    y.record("channels", &[x], move |g| {
        let gx = g.empty(&[n, h, w, c], "channels backward");
        let p = Copy { rows, width, x_c: width, x_from: 0, y_c: int(c), y_from: from, unused: 0 };
        launch(&SPREAD, &p, &[&g], &[&gx]);
        vec![Some(gx)]
    })
}

/// x `[n, h, w, c]` with channels of zeros behind its own: `[n, h, w, width]`.
#[track_caller]
pub fn pad_channels(x: &Tensor, width: usize) -> Tensor {
    let [n, h, w, c] = nhwc(x.shape(), "pad_channels");
    assert!(c <= width, "pad_channels: {c} to {width}");
    let y = x.empty(&[n, h, w, width], "pad_channels");
    let (rows, c) = ((n * h * w) as i64, int(c));
    launch(&SPREAD, &Copy { rows, width: c, x_c: c, x_from: 0, y_c: int(width), y_from: 0, unused: 0 }, &[x], &[&y]);
    y.record("pad_channels", &[x], move |g| vec![Some(channels(&g, 0..c as usize))])
}

/// Cases of [`concat`].
pub static CONCAT: Spec = Spec {
    name: "concat",
    cases: || {
        let case = |label, size: usize, widths: &[usize]| {
            let shapes: Vec<[usize; 4]> = widths.iter().map(|&c| [2, size, size, c]).collect();
            let shapes: Vec<&[usize]> = shapes.iter().map(|s| &s[..]).collect();
            Case::new(label, &shapes, |t| concat(&t.iter().collect::<Vec<_>>()))
        };
        vec![
            case("8 and 16 channels", 3, &[8, 16]),
            case("3, 8 and 5 channels", 3, &[3, 8, 5]),
            case("one", 2, &[4]),
            case("256 and 256 @28", 28, &[256, 256]).real(),
        ]
    },
};

/// Cases of [`pad_channels`].
pub static PAD_CHANNELS: Spec = Spec {
    name: "pad_channels",
    cases: || {
        let case =
            |label, x: [usize; 4], width| Case::new(label, &[&x], move |t| pad_channels(&t[0], width)).linear_in(&[0]);
        vec![
            case("3 to 8", [2, 3, 5, 3], 8),
            case("5 to 7", [1, 2, 3, 5], 7),
            case("8 to 16", [2, 3, 2, 8], 16),
            case("3 to 8 @224", [8, 224, 224, 3], 8).real(),
        ]
    },
};

/// Cases of [`channels`].
pub static CHANNELS: Spec = Spec {
    name: "channels",
    cases: || {
        let case = |label, x: [usize; 4], range: Range<usize>| {
            Case::new(label, &[&x], move |t| channels(&t[0], range.clone())).linear_in(&[0])
        };
        vec![
            case("8 to 24 of 32", [2, 3, 2, 32], 8..24),
            case("2 to 7 of 9", [2, 3, 2, 9], 2..7),
            case("3 to 11 of 16", [1, 2, 3, 16], 3..11),
            case("128 to 256 of 512 @28", [8, 28, 28, 512], 128..256).real(),
        ]
    },
};
