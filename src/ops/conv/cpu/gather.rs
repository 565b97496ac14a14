//! Which input pixels a multiplication reads: a table of offsets, or a copy of whole windows.

use crate::device::cpu::tile::OUTSIDE;

/// An image batch `[n, h, w, c]` that is read.
#[derive(Clone, Copy)]
pub struct Source<'a, T> {
    pub data: &'a [T],
    pub h: usize,
    pub w: usize,
    pub c: usize,
}

/// The place in a source that tap (0, 0) of a row reads; it may lie outside the image.
#[derive(Clone, Copy)]
pub struct Origin {
    pub n: usize,
    pub y: isize,
    pub x: isize,
}

/// Image, row and column of `count` consecutive pixels of images of `h` × `w`, from `first` on.
pub fn pixels((h, w): (usize, usize), first: usize, count: usize) -> Vec<(usize, usize, usize)> {
    let (mut n, mut y, mut x) = (first / (h * w), first / w % h, first % w);
    let next = |_| {
        let pixel = (n, y, x);
        x += 1;
        if x == w {
            (y, x) = (y + 1, 0);
        }
        if y == h {
            (n, y) = (n + 1, 0);
        }
        pixel
    };
    (0..count).map(next).collect()
}

/// Rows and columns from the origin to what a tap reads.
pub type Tap = (isize, isize);

impl<T: Copy + Default> Source<'_, T> {
    /// Offsets `[taps][origins]` of the pixels read, `OUTSIDE` for those outside the image.
    pub fn offsets(&self, origins: &[Origin], taps: &[Tap]) -> Vec<usize> {
        let mut offsets = Vec::with_capacity(taps.len() * origins.len());
        for &(dy, dx) in taps {
            offsets.extend(origins.iter().map(|o| {
                let (y, x) = ((o.y + dy) as usize, (o.x + dx) as usize);
                if y < self.h && x < self.w { ((o.n * self.h + y) * self.w + x) * self.c } else { OUTSIDE }
            }));
        }
        offsets
    }

    /// Copies the windows of `r` × `s` pixels at the origins, each `[r, s, c]`, with zeros outside the image.
    pub fn copy_windows(&self, origins: &[Origin], (r, s): (usize, usize), windows: &mut [T]) {
        let row = s * self.c;
        for (o, window) in origins.iter().zip(windows.chunks_exact_mut(r * row)) {
            let inside = |x: isize| x.clamp(0, self.w as isize);
            let (start, end) = (inside(o.x), inside(o.x + s as isize));
            let len = (end - start) as usize * self.c;
            for (dy, window) in window.chunks_exact_mut(row).enumerate() {
                let y = (o.y + dy as isize) as usize;
                if y >= self.h || len == 0 {
                    window.fill(T::default());
                    continue;
                }
                let left = (start - o.x) as usize * self.c;
                let at = ((o.n * self.h + y) * self.w + start as usize) * self.c;
                window[..left].fill(T::default());
                window[left..left + len].copy_from_slice(&self.data[at..at + len]);
                window[left + len..].fill(T::default());
            }
        }
    }
}
