//! The normal and Student's t distribution, as tests and intervals need them.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use super::{Interval, LEVEL};

/// P(|Z| ≥ |z|) of a standard normal Z.
pub fn normal_two_sided(z: f64) -> f64 {
    2.0 * Normal::standard().sf(z.abs())
}

/// P(Z ≤ z) of a standard normal Z.
pub fn normal_cdf(z: f64) -> f64 {
    Normal::standard().cdf(z)
}

/// The z with P(Z ≤ z) = `p`.
pub fn normal_quantile(p: f64) -> f64 {
    Normal::standard().inverse_cdf(p)
}

/// How many standard errors an interval of [`LEVEL`] reaches to either side of a normal estimate.
pub fn normal_reach() -> f64 {
    normal_quantile(0.5 + LEVEL / 2.0)
}

/// With more degrees of freedom Student's t counts as normal: quantiles differ by 1 in 10⁵, and `statrs` may search for ever.
const MOST_FREEDOM: f64 = 1e5;

/// Student's t test of `estimate` against 0 and the interval around it. An estimate without error
/// is certain: p is 0, or 1 at 0.
pub fn t_test(estimate: f64, standard_error: f64, df: f64) -> (f64, Interval) {
    let student = (df <= MOST_FREEDOM).then(|| StudentsT::new(0.0, 1.0, df).expect("degrees of freedom are positive"));
    let (p, reach) = match student {
        _ if standard_error == 0.0 => (f64::from(u8::from(estimate == 0.0)), 0.0),
        Some(t) => (2.0 * t.sf((estimate / standard_error).abs()), t.inverse_cdf(0.5 + LEVEL / 2.0)),
        None => (normal_two_sided(estimate / standard_error), normal_reach()),
    };
    (p, Interval { low: estimate - reach * standard_error, high: estimate + reach * standard_error })
}
