//! A counter-based random generator, so that every draw is a function of what it is for and not of what was drawn before.
//!
//! Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). The same counter and key give
//! the same numbers on every device, at any worker count and after any interruption. It is our own because a CUDA kernel
//! has to produce the very same bits.

/// One block of Philox4x32-10: four words from a counter and a key.
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut c, mut k) = (counter, key);
    for _ in 0..10 {
        let p0 = u64::from(c[0]) * 0xD251_1F53;
        let p1 = u64::from(c[2]) * 0xCD9E_8D57;
        c = [(p1 >> 32) as u32 ^ c[1] ^ k[0], p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k[1], p0 as u32];
        k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
    }
    c
}

/// What a stream of numbers is for. Two purposes never share numbers, whatever their seeds and indices.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum Purpose {
    /// Initial weights.
    Init = 1,
    /// Order of the samples in an epoch.
    Order = 2,
    /// Augmentation of one sample.
    Augment = 3,
    /// Dropout masks.
    Dropout = 4,
    /// Assignment of records to splits.
    Split = 5,
    /// Resampling in statistics.
    Bootstrap = 6,
    /// Inputs of tests and benchmarks.
    Test = 7,
    /// Stochastic depth.
    Depth = 8,
    /// Noise in the pixels of an augmented image.
    Noise = 9,
    /// Order of the classes in a round of balanced sampling.
    Round = 10,
    /// Places of crops.
    Crop = 16,
}

/// A stream of random numbers, addressed by seed, purpose and two indices (say, epoch and sample).
#[derive(Clone, Debug)]
pub struct Rng {
    key: [u32; 2],
    /// Words 1 to 3 of the counter; word 0 counts blocks.
    stream: [u32; 3],
    block: u32,
    words: [u32; 4],
    used: usize,
}

impl Rng {
    /// The stream of `purpose` at `(a, b)` under `seed`. `b` keeps its low 32 bits.
    pub fn new(seed: u64, purpose: Purpose, a: u32, b: u32) -> Self {
        Rng {
            key: [seed as u32, (seed >> 32) as u32],
            stream: [a, b, purpose as u32],
            block: 0,
            words: [0; 4],
            used: 4,
        }
    }

    /// The next 32 bits.
    pub fn bits(&mut self) -> u32 {
        if self.used == 4 {
            let [a, b, c] = self.stream;
            self.words = philox([self.block, a, b, c], self.key);
            self.block = self.block.checked_add(1).expect("more than 2^34 numbers drawn from one stream");
            self.used = 0;
        }
        self.used += 1;
        self.words[self.used - 1]
    }

    /// Uniform in `[0, 1)`, 24 bits.
    pub fn uniform(&mut self) -> f32 {
        unit(self.bits())
    }

    /// Uniform in `[lo, hi)`.
    pub fn range(&mut self, lo: f32, hi: f32) -> f32 {
        lo + (hi - lo) * self.uniform()
    }

    /// Uniform in `0..n`, without bias (Lemire 2019). `n` must not be zero.
    pub fn below(&mut self, n: u32) -> u32 {
        assert!(n > 0, "Rng::below: empty range");
        let threshold = n.wrapping_neg() % n;
        loop {
            let wide = u64::from(self.bits()) * u64::from(n);
            if wide as u32 >= threshold {
                return (wide >> 32) as u32;
            }
        }
    }

    /// Standard normal (Box and Muller 1958).
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - f64::from(self.uniform())).ln()).sqrt();
        (radius * (std::f64::consts::TAU * f64::from(self.uniform())).cos()) as f32
    }

    /// Puts `items` into a uniformly random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u32 + 1) as usize);
        }
    }
}

/// The top 24 bits of a word as a number in `[0, 1)`.
pub fn unit(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / (1 << 24) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 distribution (kat_vectors, philox4x32 10 rounds).
    #[test]
    fn philox_gives_the_published_words() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut rng = Rng::new(1, Purpose::Test, 0, 0);
        let n = 100_000;
        let (mut sum, mut squares, mut uniform) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            let z = f64::from(rng.normal());
            sum += z;
            squares += z * z;
            uniform += f64::from(rng.uniform());
        }
        let n = f64::from(n);
        assert!((sum / n).abs() < 0.02 && (squares / n - 1.0).abs() < 0.02 && (uniform / n - 0.5).abs() < 0.01);
    }

    #[test]
    fn shuffle_permutes() {
        let mut items: Vec<u32> = (0..100).collect();
        Rng::new(7, Purpose::Order, 3, 0).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
