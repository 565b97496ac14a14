//! Pictures inside the page.

use crate::metrics::masks::edge;
use std::collections::HashSet;

/// An 8-bit picture, gray or in colour.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `[height, width]`, 0 is black; or `[height, width, 3]` of red, green and blue.
    pub pixels: Vec<u8>,
}

/// How outlines are drawn.
const GREEN: [u8; 3] = [40, 220, 80];
const RED: [u8; 3] = [255, 60, 60];
const YELLOW: [u8; 3] = [255, 230, 50];

/// How a map over a picture is drawn: from little heat to the most, which hides this share of the picture.
const EMBER: [u8; 3] = [200, 30, 60];
const FLAME: [u8; 3] = [255, 210, 40];
const HEAT_SHARE: f64 = 0.6;

impl Picture {
    /// The picture as a PNG in a `data:` address.
    #[track_caller]
    pub(super) fn data_uri(&self) -> String {
        format!("data:image/png;base64,{}", base64(&self.png()))
    }

    /// This gray picture with the outline of the mask `truth` in green, that of `predicted` in red, and both in yellow.
    #[track_caller]
    pub fn outlined(&self, truth: &[bool], predicted: &[bool]) -> Picture {
        let width = self.width as usize;
        let [truth, predicted] = [truth, predicted].map(|mask| edge(mask, width).collect::<HashSet<usize>>());
        let colour = |(i, &gray): (usize, &u8)| match (truth.contains(&i), predicted.contains(&i)) {
            (true, false) => GREEN,
            (false, true) => RED,
            (true, true) => YELLOW,
            (false, false) => [gray; 3],
        };
        Picture { pixels: self.pixels.iter().enumerate().flat_map(colour).collect(), ..*self }
    }

    /// This gray picture under a map `heat` of its size, at least 0: the warmer the higher, up to the map's greatest value.
    #[track_caller]
    pub fn overlaid(&self, heat: &[f64]) -> Picture {
        assert_eq!(self.pixels.len(), heat.len(), "overlaid: a map of {} x {}", self.width, self.height);
        let most = heat.iter().copied().fold(0.0, f64::max);
        let colour = |(&gray, &heat): (&u8, &f64)| {
            let t = if most > 0.0 { heat / most } else { 0.0 };
            let mix = |ember: u8, flame: u8| {
                let warm = f64::from(ember) + (f64::from(flame) - f64::from(ember)) * t;
                (f64::from(gray) + (warm - f64::from(gray)) * t * HEAT_SHARE).round() as u8
            };
            [mix(EMBER[0], FLAME[0]), mix(EMBER[1], FLAME[1]), mix(EMBER[2], FLAME[2])]
        };
        Picture { pixels: self.pixels.iter().zip(heat).flat_map(colour).collect(), ..*self }
    }

    /// The picture as a PNG file.
    #[track_caller]
    pub fn png(&self) -> Vec<u8> {
        let (width, height) = (self.width, self.height);
        let color = match self.pixels.len() / (width * height) as usize {
            3 => png::ColorType::Rgb,
            _ => png::ColorType::Grayscale,
        };
        let samples = color.samples() * (width * height) as usize;
        assert_eq!(self.pixels.len(), samples, "Picture: pixels of {width} x {height}");
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, width, height);
        encoder.set_color(color);
        encoder.set_depth(png::BitDepth::Eight);
        encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(&self.pixels))
            .expect("Picture: an image of at least one pixel, written to memory");
        file
    }
}

/// Base 64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * i)) as usize % 64];
            text.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_png_holds_the_pixels() {
        let picture = Picture { width: 3, height: 2, pixels: vec![0, 50, 100, 150, 200, 255] };
        let mut reader = png::Decoder::new(std::io::Cursor::new(picture.png())).read_info().unwrap();
        let mut pixels = vec![0; 6];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height, info.color_type), (3, 2, png::ColorType::Grayscale));
        assert_eq!(pixels, picture.pixels);
    }

    /// The test vectors of RFC 4648, section 10.
    #[test]
    fn base64_gives_the_published_texts() {
        let texts = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        texts.iter().enumerate().for_each(|(n, text)| assert_eq!(base64(&b"foobar"[..n]), *text));
        assert_eq!(base64(&[0xfb, 0xff, 0xbf]), "+/+/");
    }
}
