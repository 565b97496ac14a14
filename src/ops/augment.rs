//! Augmentation on the device: from gray values as they are stored to the normalised input of a network in one launch, and masks
//! after them. It has no gradient.

use crate::{
    device::{DType, Grid, cpu::parallel},
    kernel,
    rng::{Purpose, philox, unit},
    shape::{int, nhwc},
    tensor::{Tensor, launch},
};
use bytemuck::{Pod, Zeroable};
use std::f64::consts::TAU;

/// What happens to one image, in this order: the affine map (bilinear), brightness, contrast, gamma, noise, cutout, mixing with
/// another image of the batch that has gone through its own. Intensities are cut to [0, 1] after each of the middle four, as
/// torchvision does. `Change` in `kernels/augment.cu` must agree.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Change {
    /// From output to input, as rows of a 2×3 matrix: takes (x, y, 1), with x to the right and y downwards in pixels from
    /// the centre of the output, to pixels from the centre of the input.
    pub affine: [[f32; 3]; 2],
    /// Factor of intensities.
    pub brightness: f32,
    /// Factor of the difference from `pivot`.
    pub contrast: f32,
    /// What contrast leaves as it is, usually the mean of the brightened image.
    pub pivot: f32,
    /// Exponent of intensities.
    pub gamma: f32,
    /// Standard deviation of Gaussian noise, of intensities.
    pub noise: f32,
    /// What the noise is a function of.
    pub key: [u32; 2],
    /// A part of the output that becomes the mean intensity.
    pub cutout: Rectangle,
    /// The image of the batch that it is mixed with.
    pub partner: u32,
    /// Its own share; the rest is the partner's (mixup, Zhang et al. 2018).
    pub share: f32,
    /// A part of the output that is the partner's alone (CutMix, Yun et al. 2019).
    pub patch: Rectangle,
}

/// Rows and columns of pixels from the first up to, but without, the last.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Rectangle {
    /// First and last row.
    pub rows: [u32; 2],
    /// First and last column.
    pub cols: [u32; 2],
}

impl Rectangle {
    fn holds(&self, row: usize, col: usize) -> bool {
        let within = |[first, last]: [u32; 2], at: usize| (first as usize..last as usize).contains(&at);
        within(self.rows, row) && within(self.cols, col)
    }

    /// Number of pixels.
    pub fn area(&self) -> u32 {
        (self.rows[1] - self.rows[0]) * (self.cols[1] - self.cols[0])
    }
}

impl Change {
    /// Words of a change.
    pub const LEN: usize = size_of::<Change>() / size_of::<u32>();

    /// No change: the centre of the image at its own scale.
    pub const NONE: Change = Change {
        affine: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
        brightness: 1.0,
        contrast: 1.0,
        pivot: 0.5,
        gamma: 1.0,
        noise: 0.0,
        key: [0; 2],
        cutout: Rectangle { rows: [0; 2], cols: [0; 2] },
        partner: 0,
        share: 1.0,
        patch: Rectangle { rows: [0; 2], cols: [0; 2] },
    };

    /// The share of the image's own target in the target of the mixture, `area` pixels large.
    pub fn target_share(&self, area: usize) -> f32 {
        self.share * (1.0 - self.patch.area() as f32 / area as f32)
    }

    /// Where a pixel of the output comes from, in an input of (columns, rows).
    fn source(&self, [dx, dy]: [f64; 2], size: (usize, usize)) -> [f64; 2] {
        let [x, y] = self.affine.map(|row| row.map(f64::from));
        let along = |[a, b, c]: [f64; 3], size| a * dx + b * dy + c + centre(size);
        [along(x, size.0), along(y, size.1)]
    }
}

fn centre(size: usize) -> f64 {
    0.5 * (size as f64 - 1.0)
}

/// What surrounds an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Edge {
    /// Black.
    Zero = 0,
    /// Its outermost pixels, repeated.
    Repeat = 1,
}

/// The input that a network wants, and how the images for it are stored.
#[derive(Clone, Debug)]
pub struct Input {
    /// Bytes of a stored value: 1, or 2 in the order of the machine; the largest value is white.
    pub bytes: usize,
    /// Height and width.
    pub size: (usize, usize),
    /// What surrounds an image.
    pub edge: Edge,
    /// Mean intensity of each channel; three of them for a gray image repeat it.
    pub mean: Vec<f32>,
    /// Standard deviation of the intensities of each channel.
    pub std: Vec<f32>,
    /// Type of the result.
    pub dtype: DType,
}

/// Channels at most: of one draw of the generator come the noises of so many.
const CHANNELS: usize = 3;

/// Images `[n, h, w, k]` of values of so many bytes to `[n, oh, ow, c]`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Augment {
    n: i32,
    h: i32,
    w: i32,
    k: i32,
    oh: i32,
    ow: i32,
    c: i32,
    edge: i32,
    bytes: i32,
    mean: [f32; CHANNELS],
    std: [f32; CHANNELS],
}

impl Augment {
    /// Stored value `i` of an image. Inlined, as what calls it, into the kernel: that alone is compiled for the processor.
    #[inline(always)]
    fn stored(&self, image: &[u8], i: usize) -> f64 {
        match self.bytes {
            1 => f64::from(image[i]),
            _ => f64::from(u16::from_ne_bytes([image[2 * i], image[2 * i + 1]])),
        }
    }

    /// The largest value that can be stored.
    fn white(&self) -> f64 {
        f64::from(if self.bytes == 1 { u16::from(u8::MAX) } else { u16::MAX })
    }

    /// Stored value in row i and column j, where there may be none.
    #[inline(always)]
    fn pixel(&self, image: &[u8], channel: usize, mut i: i32, mut j: i32) -> f64 {
        if self.edge == Edge::Repeat as i32 {
            (i, j) = (i.clamp(0, self.h - 1), j.clamp(0, self.w - 1));
        }
        let there = (0..self.h).contains(&i) && (0..self.w).contains(&j);
        if there { self.stored(image, (i * self.w + j) as usize * self.k as usize + channel) } else { 0.0 }
    }

    /// Intensity of an image at (x, y), by bilinear interpolation.
    #[inline(always)]
    fn sample(&self, image: &[u8], channel: usize, [x, y]: [f64; 2]) -> f64 {
        // Further out nothing changes, and what is no number becomes the outside.
        let inside = |at: f64, size: i32| if at > -1.0 { at.min(f64::from(size)) } else { -1.0 };
        let (x, y) = (inside(x, self.w), inside(y, self.h));
        let (left, top) = (x.floor() as i32, y.floor() as i32);
        let (right, down) = (x - f64::from(left), y - f64::from(top));
        let pixels = if left >= 0 && top >= 0 && left + 1 < self.w && top + 1 < self.h {
            let row = |dy| ((top + dy) * self.w + left) as usize * self.k as usize + channel;
            [row(0), row(1)].map(|at| [self.stored(image, at), self.stored(image, at + self.k as usize)])
        } else {
            [0, 1].map(|dy| [0, 1].map(|dx| self.pixel(image, channel, top + dy, left + dx)))
        };
        let [upper, lower] = pixels.map(|[l, r]| l * (1.0 - right) + r * right);
        (upper * (1.0 - down) + lower * down) / self.white()
    }

    /// Adds `share` of the intensities of a pixel of the output to `into`, before mixing.
    #[inline(always)]
    fn add(&self, image: &[u8], change: &Change, (row, col): (usize, usize), share: f64, into: &mut [f64; CHANNELS]) {
        let (h, w, k, oh, ow) = (self.h as usize, self.w as usize, self.k as usize, self.oh as usize, self.ow as usize);
        let cut = change.cutout.holds(row, col);
        let at = change.source([col as f64 - centre(ow), row as f64 - centre(oh)], (w, h));
        let [brightness, contrast, pivot, gamma, noise] =
            [change.brightness, change.contrast, change.pivot, change.gamma, change.noise].map(f64::from);
        let normals = if noise > 0.0 { normals(row * ow + col, change.key) } else { [0.0; CHANNELS] };
        let mut values = [0.0; CHANNELS];
        for (channel, value) in values.iter_mut().enumerate().take(if cut { 0 } else { k }) {
            let v = (self.sample(image, channel, at) * brightness).clamp(0.0, 1.0);
            let v = if contrast == 1.0 { v } else { (pivot + (v - pivot) * contrast).clamp(0.0, 1.0) };
            let v = if gamma == 1.0 { v } else { v.powf(gamma) };
            *value = (v + noise * normals[channel]).clamp(0.0, 1.0);
        }
        for (channel, into) in into.iter_mut().enumerate() {
            *into += share * if cut { f64::from(self.mean[channel]) } else { values[if k == 1 { 0 } else { channel }] };
        }
    }
}

/// Independent standard normals of a pixel (Box and Muller 1958).
fn normals(pixel: usize, key: [u32; 2]) -> [f64; CHANNELS] {
    let words = philox([pixel as u32, 0, 0, Purpose::Noise as u32], key);
    let [u, v, s, t] = words.map(|word| f64::from(unit(word)));
    let radius = |u: f64| (-2.0 * (1.0 - u).ln()).sqrt();
    [radius(u) * (TAU * v).cos(), radius(u) * (TAU * v).sin(), radius(s) * (TAU * t).cos()]
}

kernel!(AUGMENT = "augment", |p: Augment, [images: u8, changes: u32] -> [y]| {
    let [n, h, w, k, oh, ow, c, bytes] = [p.n, p.h, p.w, p.k, p.oh, p.ow, p.c, p.bytes].map(|x| x as usize);
    let area = h * w * k * bytes;
    let changes: &[Change] = bytemuck::cast_slice(changes);
    parallel::pieces(y, ow * c, #[inline(always)] |line, y| {
        let (image, row) = (line / oh, line % oh);
        let change = &changes[image];
        let partner = (change.partner as usize).min(n - 1);
        for (col, y) in y.chunks_exact_mut(c).enumerate() {
            let share = if change.patch.holds(row, col) { 0.0 } else { f64::from(change.share) };
            let mut v = [0.0; CHANNELS];
            for (i, share) in [(image, share), (partner, 1.0 - share)] {
                if share > 0.0 {
                    p.add(&images[i * area..][..area], &changes[i], (row, col), share, &mut v);
                }
            }
            for (channel, y) in y.iter_mut().enumerate() {
                *y = T::of((v[channel] - f64::from(p.mean[channel])) / f64::from(p.std[channel]));
            }
        }
    });
}, grid |dtype| Grid::lines((p.n * p.oh) as usize, p.ow as usize, 1, dtype));

/// Images `[n, h, w, 1 or 3]` of bytes, or with the values' bytes in the last extent, changed and normalised: `[n, oh, ow, c]`,
/// where c is the number of means. `changes` is `[n, Change::LEN]` (u32), a [`Change`] for each image.
#[track_caller]
pub fn augment(images: &Tensor, changes: &Tensor, input: &Input) -> Tensor {
    let [n, h, w, stored] = nhwc(images.shape(), "augment");
    let (bytes, (oh, ow), c) = (input.bytes, input.size, input.mean.len());
    let k = stored / bytes;
    assert_eq!(images.dtype(), DType::U8, "augment: images are bytes");
    assert!(stored == k * bytes && [1, 2].contains(&bytes), "augment: {stored} bytes a pixel as {input:?}");
    assert!((k == c || k == 1) && (1..=CHANNELS).contains(&c) && input.std.len() == c, "augment: {k} to {input:?}");
    check_changes(changes, n);
    int(h * w * stored); // an image is indexed by 32 bits
    let of = |values: &[f32]| std::array::from_fn(|i| values.get(i).copied().unwrap_or(1.0));
    let (mean, std) = (of(&input.mean), of(&input.std));
    let [n, h, w, k, oh, ow, c, bytes] = [n, h, w, k, oh, ow, c, bytes].map(int);
    let p = Augment { n, h, w, k, oh, ow, c, edge: input.edge as i32, bytes, mean, std };
    let y = images.tape().empty(&[n, oh, ow, c].map(|x| x as usize), input.dtype, "augment");
    launch(&AUGMENT, &p, &[images, changes], &[&y]);
    y
}

#[track_caller]
fn check_changes(changes: &Tensor, n: usize) {
    let fit = changes.shape() == [n, Change::LEN] && changes.dtype() == DType::U32;
    assert!(fit, "augment: changes {changes:?} of {n} images");
}

/// Masks `[n, h, w, k]`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Masks {
    n: i32,
    h: i32,
    w: i32,
    k: i32,
}

kernel!(AUGMENT_MASKS = "augment_masks", |p: Masks, [masks: u8, changes: u32] -> [y]| {
    let [h, w, k] = [p.h, p.w, p.k].map(|x| x as usize);
    let changes: &[Change] = bytemuck::cast_slice(changes);
    parallel::pieces(y, w * k, #[inline(always)] |line, y| {
        let (image, row) = (line / h, line % h);
        let mask = &masks[image * h * w * k..][..h * w * k];
        for (col, y) in y.chunks_exact_mut(k).enumerate() {
            let at = changes[image].source([col as f64 - centre(w), row as f64 - centre(h)], (w, h)).map(f64::round);
            let there = (0.0..w as f64).contains(&at[0]) && (0.0..h as f64).contains(&at[1]);
            for (c, y) in y.iter_mut().enumerate() {
                let marked = there && mask[(at[1] as usize * w + at[0] as usize) * k + c] != 0;
                *y = if marked { T::ONE } else { T::ZERO };
            }
        }
    });
}, grid |dtype| Grid::lines((p.n * p.h) as usize, p.w as usize, 1, dtype));

/// Masks `[n, h, w, k]` (u8, marked where not 0) moved as [`augment`] moves their images: 0 or 1 of type `dtype`. Each pixel is that
/// of the nearest centre, so that a mask stays a mask; outside nothing is marked. Cutout hides the image alone: what it hides is there.
#[track_caller]
pub fn augment_masks(masks: &Tensor, changes: &Tensor, dtype: DType) -> Tensor {
    let shape = nhwc(masks.shape(), "augment_masks");
    assert_eq!(masks.dtype(), DType::U8, "augment_masks: masks are bytes");
    check_changes(changes, shape[0]);
    let [n, h, w, k] = shape.map(int);
    int(shape[1] * shape[2] * shape[3]); // a mask is indexed by 32 bits
    let y = masks.tape().empty(&shape, dtype, "augment_masks");
    launch(&AUGMENT_MASKS, &Masks { n, h, w, k }, &[masks, changes], &[&y]);
    y
}
