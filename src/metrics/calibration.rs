//! Whether probabilities mean what they say.

/// Bins of equal width from 0 to 1.
pub const BINS: usize = 10;

/// The samples whose probability lies in `(low, high]`; the first bin has 0 too.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// Number of samples.
    pub samples: u64,
    /// Mean of their probabilities; NaN without samples.
    pub predicted: f64,
    /// Share of them that are positive; NaN without samples.
    pub observed: f64,
}

/// The reliability curve of `(probability, positive)` pairs: scikit-learn's `calibration_curve` with uniform bins.
pub fn reliability(samples: impl Iterator<Item = (f32, bool)>) -> [Bin; BINS] {
    let mut sums = [(0u64, 0.0, 0u64); BINS];
    for (p, positive) in samples {
        let p = f64::from(p);
        let bin = (1..BINS).filter(|&edge| p > edge as f64 / BINS as f64).count();
        let (n, sum, positives) = &mut sums[bin];
        *n += 1;
        *sum += p;
        *positives += u64::from(positive);
    }
    sums.map(|(n, sum, positives)| Bin { samples: n, predicted: sum / n as f64, observed: positives as f64 / n as f64 })
}

/// Expected calibration error (Naeini et al. 2015): the mean over the samples of |observed − predicted| of their bins; NaN
/// without samples.
pub fn ece(bins: &[Bin; BINS]) -> f64 {
    let filled = || bins.iter().filter(|bin| bin.samples > 0);
    let apart = |bin: &Bin| bin.samples as f64 * (bin.observed - bin.predicted).abs();
    filled().map(apart).sum::<f64>() / filled().map(|bin| bin.samples).sum::<u64>() as f64
}
