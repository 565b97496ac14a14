//! One number for a curve of performance.

/// How the x axis is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// As it is, say epochs.
    Linear,
    /// By its logarithm, so that each doubling of, say, the training data counts the same.
    Log,
}

/// The area under the straight pieces between `points` (x, y), divided by the width of their x: the mean of the curve, in the
/// units of y. `None` of fewer than two different x, of x that do not rise, and of numbers that are not finite on this scale.
pub fn area_under(points: &[(f64, f64)], scale: Scale) -> Option<f64> {
    let x = |point: (f64, f64)| match scale {
        Scale::Linear => point.0,
        Scale::Log => point.0.ln(),
    };
    let finite = points.iter().all(|&p| x(p).is_finite() && p.1.is_finite());
    let rising = points.windows(2).all(|pair| pair[0].0 < pair[1].0);
    if points.len() < 2 || !finite || !rising {
        return None;
    }
    let area: f64 = points.windows(2).map(|pair| (x(pair[1]) - x(pair[0])) * (pair[0].1 + pair[1].1) / 2.0).sum();
    Some(area / (x(points[points.len() - 1]) - x(points[0])))
}
