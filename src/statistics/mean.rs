//! The mean of a few runs.

use super::{Interval, distributions::t_test};

/// A mean with its spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// How many values.
    pub n: usize,
    /// Their mean.
    pub value: f64,
    /// Their standard deviation, n − 1 in the denominator; `None` of one.
    pub sd: Option<f64>,
    /// The 95 % interval of the mean, value ± t₍ₙ₋₁₎ sd / √n (Student 1908); `None` of one.
    pub interval: Option<Interval>,
    /// Two-sided p value of Student's test for a mean of 0; `None` of one.
    pub p: Option<f64>,
}

impl Mean {
    /// Of `values`; `None` of none, and if one is not finite.
    pub fn of(values: &[f64]) -> Option<Mean> {
        let n = values.len();
        if n == 0 || values.iter().any(|v| !v.is_finite()) {
            return None;
        }
        let value = values.iter().sum::<f64>() / n as f64;
        let sd = (n > 1).then(|| (values.iter().map(|v| (v - value).powi(2)).sum::<f64>() / (n as f64 - 1.0)).sqrt());
        let (p, interval) = sd.map(|sd| t_test(value, sd / (n as f64).sqrt(), n as f64 - 1.0)).unzip();
        Some(Mean { n, value, sd, interval, p })
    }
}
