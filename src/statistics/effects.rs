//! Effect sizes: how large a difference is, beside whether there is one.

use super::{
    Interval, Mean, SignedRanks,
    distributions::{normal_quantile, normal_reach},
};

/// A size of an effect, with its 95 % interval where the sample allows one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effect {
    /// The size.
    pub value: f64,
    /// Its interval, approximate.
    pub interval: Option<Interval>,
}

/// Cohen's d_z of paired differences, mean / sd (Cohen 1988), with the interval d ± z √(1/n + d² / 2n) of large samples (Hedges and
/// Olkin 1985). `None` of fewer than two differences, and if they are all one.
pub fn cohens_dz(differences: &[f64]) -> Option<Effect> {
    let mean = Mean::of(differences)?;
    let (n, value) = (mean.n as f64, mean.value / mean.sd.filter(|&sd| sd > 0.0)?);
    let reach = normal_reach() * (1.0 / n + value * value / (2.0 * n)).sqrt();
    Some(Effect { value, interval: Some(Interval { low: value - reach, high: value + reach }) })
}

/// The matched-pairs rank-biserial correlation (T⁺ − T⁻) / (T⁺ + T⁻) (Kerby 2014), from −1 to 1; pairs that do not differ are left
/// out. Its interval is that of Fisher's atanh r, with the jackknife's standard error of r; none at ±1, where all pairs agree,
/// and of fewer than three. `None` if no pair differs.
pub fn rank_biserial(differences: &[f64]) -> Option<Effect> {
    let moved: Vec<f64> = differences.iter().copied().filter(|&d| d != 0.0).collect();
    let correlation = |differences: &[f64]| {
        let SignedRanks { plus, minus, .. } = SignedRanks::test(differences)?;
        (plus + minus > 0.0).then(|| (plus - minus) / (plus + minus))
    };
    let value = correlation(&moved)?;
    let without = |i: usize| correlation(&[&moved[..i], &moved[i + 1..]].concat());
    let left_out: Vec<f64> = (0..moved.len()).filter_map(without).collect();
    let n = left_out.len() as f64;
    let mean = left_out.iter().sum::<f64>() / n;
    let variance = (n - 1.0) / n * left_out.iter().map(|r| (r - mean).powi(2)).sum::<f64>();
    let reach = normal_reach() * variance.sqrt() / (1.0 - value * value);
    let interval = Interval { low: (value.atanh() - reach).tanh(), high: (value.atanh() + reach).tanh() };
    Some(Effect { value, interval: (value.abs() < 1.0 && n > 2.0).then_some(interval) })
}

/// Cliff's δ of two independent samples, P(a > b) − P(a < b), with his consistent variance and asymmetric interval (Cliff 1996;
/// Feng and Cliff 2004). No interval at ±1, nor with fewer than two values in a sample. `None` if one is empty.
pub fn cliffs_delta(a: &[f64], b: &[f64]) -> Option<Effect> {
    let (n, m) = (a.len() as f64, b.len() as f64);
    let sign = |x: f64, y: f64| f64::from(i8::from(x > y) - i8::from(x < y));
    let of_a: Vec<f64> = a.iter().map(|&x| b.iter().map(|&y| sign(x, y)).sum::<f64>() / m).collect();
    let of_b: Vec<f64> = b.iter().map(|&y| a.iter().map(|&x| sign(x, y)).sum::<f64>() / n).collect();
    let value = of_a.iter().sum::<f64>() / n;
    let squares = |of: &[f64]| of.iter().map(|d| (d - value).powi(2)).sum::<f64>();
    let cells: f64 = a.iter().flat_map(|&x| b.iter().map(move |&y| (sign(x, y) - value).powi(2))).sum();
    let variance = (m * m * squares(&of_a) + n * n * squares(&of_b) - cells) / (n * m * (n - 1.0) * (m - 1.0));
    let z2 = normal_quantile(0.5 + super::LEVEL / 2.0).powi(2);
    let least = (1.0 - value * value) / (n * m - 1.0);
    let v = variance.max(least);
    let reach = (z2 * v * ((1.0 - value * value).powi(2) + z2 * v)).sqrt();
    let end = |reach: f64| ((value - value.powi(3) + reach) / (1.0 - value * value + z2 * v)).clamp(-1.0, 1.0);
    let interval = Interval { low: end(-reach), high: end(reach) };
    let known = n > 1.0 && m > 1.0 && value.abs() < 1.0;
    (!a.is_empty() && !b.is_empty()).then_some(Effect { value, interval: known.then_some(interval) })
}
