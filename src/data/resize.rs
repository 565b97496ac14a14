//! Any image into a square: scaled with its aspect kept, centred, padded with black.

use super::decode::{Gray, Pixels};
use fast_image_resize::{
    FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedImage, TypedImageRef},
    pixels::{U8, U16},
};

/// Scales `image` so that its longer side is `size` and pads it to `size * size` with zeros.
///
/// The shorter side is `floor(short * size / long)`, at least 1; of the padding, the smaller half goes on top and left.
/// The filter is a triangle whose support grows with the reduction (Pillow's `BILINEAR`), so nothing aliases; the result
/// keeps the depth of the image. Panics if `size` is 0.
pub fn fit(image: &Gray, size: usize) -> Gray {
    fit_by(image, size, ResizeAlg::Convolution(FilterType::Bilinear))
}

/// [`fit`] with a filter that stays as narrow as it is, so that what is scaled down far can alias: OpenCV's
/// `INTER_LINEAR`, which the study uses.
pub fn fit_plain(image: &Gray, size: usize) -> Gray {
    fit_by(image, size, ResizeAlg::Interpolation(FilterType::Bilinear))
}

fn fit_by(image: &Gray, size: usize, filter: ResizeAlg) -> Gray {
    assert!(size > 0, "fit: size must be at least 1");
    let (width, height) = fitted(image.width, image.height, size);
    let from = (image.width, image.height);
    let pixels = match &image.pixels {
        Pixels::U8(values) => {
            Pixels::U8(place(scale::<U8>(values, from, (width, height), filter), (width, height), size))
        }
        Pixels::U16(values) => {
            Pixels::U16(place(scale::<U16>(values, from, (width, height), filter), (width, height), size))
        }
    };
    Gray { width: size, height: size, pixels }
}

/// Puts a mask `[height, width, k]` of 0 and 1 where [`fit`] puts its image: each pixel is that of the nearest centre, and 0
/// beside the image.
pub fn fit_mask(mask: &[u8], (width, height): (usize, usize), k: usize, size: usize) -> Vec<u8> {
    let (w, h) = fitted(width, height, size);
    let (left, top) = ((size - w) / 2, (size - h) / 2);
    let mut square = vec![0; size * size * k];
    for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
        let from = (nearest(y, height, h) * width + nearest(x, width, w)) * k;
        square[((top + y) * size + left + x) * k..][..k].copy_from_slice(&mask[from..from + k]);
    }
    square
}

/// Undoes [`fit_mask`]: what lay on the image, in the size of the image.
pub fn unfit_mask(mask: &[u8], (width, height): (usize, usize), k: usize, size: usize) -> Vec<u8> {
    let (w, h) = fitted(width, height, size);
    let (left, top) = ((size - w) / 2, (size - h) / 2);
    let pixel = |y: usize, x: usize| ((top + nearest(y, h, height)) * size + left + nearest(x, w, width)) * k;
    (0..height * width).flat_map(|i| &mask[pixel(i / width, i % width)..][..k]).copied().collect()
}

/// Of `from` pixels the one whose centre is nearest to that of pixel `i` of `to`.
fn nearest(i: usize, from: usize, to: usize) -> usize {
    (2 * i + 1) * from / (2 * to)
}

/// Width and height after scaling. Whole numbers: in floating point the longer side can come out as `size - 1`.
fn fitted(width: usize, height: usize, size: usize) -> (usize, usize) {
    let long = width.max(height);
    let side = |s: usize| (s * size / long).max(1);
    (side(width), side(height))
}

/// A resizable pixel of one component `Raw`.
trait Scalable: PixelTrait {
    type Raw: Copy + Default;
    fn wrap(raw: Self::Raw) -> Self;
    fn raw(self) -> Self::Raw;
}

impl Scalable for U8 {
    type Raw = u8;
    fn wrap(raw: u8) -> Self {
        U8::new(raw)
    }
    fn raw(self) -> u8 {
        self.0
    }
}

impl Scalable for U16 {
    type Raw = u16;
    fn wrap(raw: u16) -> Self {
        U16::new(raw)
    }
    fn raw(self) -> u16 {
        self.0
    }
}

fn scale<P: Scalable>(values: &[P::Raw], from: (usize, usize), to: (usize, usize), filter: ResizeAlg) -> Vec<P::Raw> {
    if from == to {
        return values.to_vec();
    }
    let source: Vec<P> = values.iter().map(|&v| P::wrap(v)).collect();
    let source = TypedImageRef::new(from.0 as u32, from.1 as u32, &source).expect("pixels fill the image");
    let mut target = TypedImage::new(to.0 as u32, to.1 as u32);
    let options = ResizeOptions::new().resize_alg(filter);
    Resizer::new().resize_typed::<P>(&source, &mut target, &options).expect("the crop is the whole image");
    target.pixels().iter().map(|&p| p.raw()).collect()
}

fn place<T: Copy + Default>(values: Vec<T>, (width, height): (usize, usize), size: usize) -> Vec<T> {
    if (width, height) == (size, size) {
        return values;
    }
    let (left, top) = ((size - width) / 2, (size - height) / 2);
    let mut square = vec![T::default(); size * size];
    for (y, row) in values.chunks_exact(width).enumerate() {
        let start = (top + y) * size + left;
        square[start..start + width].copy_from_slice(row);
    }
    square
}
