//! Bits of entropy-coded JPEG and JPEG-LS data, the highest of each byte first.

use super::dataset::Parsed;

/// A reader that ends at the next marker. What is read beyond is zeros; [`Bits::check`] tells.
pub struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// Bits of the byte after 0xff: all eight of a JPEG's stuffed zero are dropped, JPEG-LS stuffs one bit.
    after_ff: u32,
    /// The next bits, left-aligned.
    window: u64,
    /// How many of them are there.
    held: u32,
    /// How many of them lie beyond the data.
    beyond: u32,
}

/// The number that `bits`, `size` of them, are by EXTEND of T.81 F.2.2.1: with a leading zero it is negative.
#[inline]
pub fn extended(bits: i32, size: u32) -> i32 {
    if size > 0 && bits >> (size - 1) == 0 { bits - (1 << size) + 1 } else { bits }
}

impl<'a> Bits<'a> {
    /// `after_ff`: 8 where a zero byte follows each 0xff (T.81), 7 where a zero bit does (T.87).
    pub fn new(data: &'a [u8], after_ff: u32) -> Self {
        Bits { data, at: 0, after_ff, window: 0, held: 0, beyond: 0 }
    }

    /// Holds at least 48 bits.
    #[inline]
    fn fill(&mut self) {
        if self.held < 32 {
            // Four bytes without 0xff, nor behind one, are the rule.
            if let Some(&four) = self.data.get(self.at..).and_then(|rest| rest.first_chunk::<4>())
                && !four.contains(&0xff)
                && (self.after_ff == 8 || self.at == 0 || self.data[self.at - 1] != 0xff)
            {
                self.window |= u64::from(u32::from_be_bytes(four)) << (32 - self.held);
                self.held += 32;
                self.at += 4;
            } else {
                self.fill_bytes();
            }
        }
    }

    #[cold]
    fn fill_bytes(&mut self) {
        while self.held <= 48 {
            let (byte, bits) = self.byte();
            self.window |= u64::from(byte) << (64 - bits - self.held);
            self.held += bits;
        }
    }

    /// The next byte, and how many of its bits count.
    fn byte(&mut self) -> (u8, u32) {
        let next = |at: usize| self.data.get(at).copied();
        let previous = self.at.checked_sub(1).and_then(next);
        match (next(self.at), next(self.at + 1)) {
            (Some(0xff), Some(0)) if self.after_ff == 8 => {
                self.at += 2;
                (0xff, 8)
            }
            (Some(0xff), Some(following)) if self.after_ff == 7 && following < 0x80 => {
                self.at += 1;
                (0xff, if previous == Some(0xff) { 7 } else { 8 })
            }
            (None | Some(0xff), _) => {
                self.beyond += 8;
                (0, 8)
            }
            (Some(byte), _) => {
                self.at += 1;
                (byte, if self.after_ff == 7 && previous == Some(0xff) { 7 } else { 8 })
            }
        }
    }

    /// The next `count` bits, at most 32, which stay.
    #[inline]
    pub fn peek(&mut self, count: u32) -> u32 {
        self.fill();
        (self.window >> 32 >> (32 - count)) as u32
    }

    /// Passes over `count` bits that have been peeked at.
    #[inline]
    pub fn skip(&mut self, count: u32) {
        self.window <<= count;
        self.held -= count;
    }

    /// The next `count` bits, at most 24.
    #[inline]
    pub fn read(&mut self, count: u32) -> u32 {
        let bits = self.peek(count);
        self.skip(count);
        bits
    }

    /// The number that the next `size` bits are, at most 24.
    #[inline]
    pub fn signed(&mut self, size: u32) -> i32 {
        extended(self.read(size) as i32, size)
    }

    /// The number of zeros before the next one, which is passed over too; at most `limit`.
    #[inline]
    pub fn zeros(&mut self, limit: u32) -> u32 {
        let mut zeros = 0;
        loop {
            let ahead = self.peek(32).leading_zeros();
            if ahead < 32 {
                self.skip(ahead + 1);
                return zeros + ahead;
            }
            self.skip(32);
            zeros += 32;
            if zeros > limit {
                return zeros;
            }
        }
    }

    /// An error if bits beyond the data have been read.
    pub fn check(&self) -> Parsed<()> {
        if self.beyond > self.held { Err("its compressed pixels end early".into()) } else { Ok(()) }
    }

    /// Goes on behind the next restart marker.
    pub fn restart(&mut self) -> Parsed<()> {
        self.check()?;
        (self.window, self.held, self.beyond) = (0, 0, 0);
        // The reader stands at the marker, or before bytes that pad the interval.
        let marker = self.data[self.at..].windows(2).position(|pair| pair[0] == 0xff && pair[1] & 0xf8 == 0xd0);
        self.at += marker.ok_or("a restart marker is missing")? + 2;
        Ok(())
    }
}
