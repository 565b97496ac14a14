//! How well images are reconstructed.

use super::{
    bootstrap::resampled,
    classes::mean,
    numbers::{Measured, Weight},
};

/// The errors of each reconstructed image, over its pixels and channels, in the units of the network's input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageScores {
    /// Mean absolute error of each.
    pub mae: Vec<f64>,
    /// Mean squared error of each.
    pub mse: Vec<f64>,
}

impl ImageScores {
    /// Adds an image and what became of it.
    #[track_caller]
    pub fn push(&mut self, image: &[f64], reconstructed: &[f64]) {
        assert_eq!(image.len(), reconstructed.len(), "ImageScores::push: another size");
        let errors = || image.iter().zip(reconstructed).map(|(x, y)| y - x);
        self.mae.push(mean(errors().map(f64::abs)));
        self.mse.push(mean(errors().map(|error| error * error)));
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.mae.len()
    }

    /// True if there is no image.
    pub fn is_empty(&self) -> bool {
        self.mae.is_empty()
    }

    /// Up to `k` images with the largest absolute error, worst first; the first of equals first.
    pub fn worst(&self, k: usize) -> Vec<usize> {
        super::worst_by(self.len(), k, |i| self.mae[i])
    }
}

/// All metrics of one evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageSummary {
    /// Number of images.
    pub samples: usize,
    /// Mean absolute error.
    pub mae: Measured,
    /// Root of the mean squared error over all pixels.
    pub rmse: Measured,
    /// Peak signal-to-noise ratio in dB for intensities in [0, 1], −10·log₁₀ of the mean squared error.
    pub psnr: Measured,
}

impl ImageSummary {
    /// Every metric of `scores`, with bootstrap intervals if there is a `seed` to draw them under.
    pub fn new(scores: &ImageScores, seed: Option<u64>) -> Self {
        let n = scores.len();
        let weighted = |weight: &Weight, of: &[f64]| {
            (0..n).map(|i| weight(i) * of[i]).sum::<f64>() / (0..n).map(weight).sum::<f64>()
        };
        let measured = |metric: &dyn Fn(&Weight) -> f64| Measured {
            value: metric(&|_| 1.0),
            interval: seed.and_then(|seed| resampled(n, seed, |weight| Some(metric(&weight)))),
        };
        ImageSummary {
            samples: n,
            mae: measured(&|weight| weighted(weight, &scores.mae)),
            rmse: measured(&|weight| weighted(weight, &scores.mse).sqrt()),
            psnr: measured(&|weight| -10.0 * weighted(weight, &scores.mse).log10()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_means_over_pixels_and_images() {
        let mut scores = ImageScores::default();
        scores.push(&[0.0, 1.0], &[0.2, 1.0]);
        scores.push(&[0.5, 0.5], &[0.0, 0.1]);
        assert_eq!(scores.worst(1), [1]);
        let summary = ImageSummary::new(&scores, None);
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a}, not {b}");
        near(summary.mae.value, (0.2 + 0.5 + 0.4) / 4.0);
        let mse: f64 = (0.04 + 0.25 + 0.16) / 4.0;
        near(summary.rmse.value, mse.sqrt());
        near(summary.psnr.value, 10.0 * (1.0 / mse).log10());
    }
}
