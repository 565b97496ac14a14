//! Areas under ROC curves and their differences on the same cases (DeLong, DeLong and Clarke-Pearson 1988), by midranks in
//! O(n log n) (Sun and Xu 2014). Cases count as independent: with several images of a patient, see [`super::paired_difference`].

use super::{Interval, distributions::t_test, ranks::midranks};

/// An area under the ROC curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Auc {
    /// The chance that a positive case scores higher than a negative one, ties counting half.
    pub value: f64,
    /// Its variance.
    pub variance: f64,
    /// Its 95 % interval, value ± z √variance, cut at 0 and 1.
    pub interval: Interval,
}

/// The difference between the areas of two scores of the same cases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AucDifference {
    /// Area of the first score less that of the second.
    pub value: f64,
    /// Its variance, which counts that the cases are the same.
    pub variance: f64,
    /// Its 95 % interval, value ± z √variance.
    pub interval: Interval,
    /// Two-sided p value of z = value / √variance.
    pub p: f64,
}

impl Auc {
    /// Of `scores`, of which those at `positive` should be high. `None` with fewer than two positive or two negative cases, or a
    /// score that is not a number.
    #[track_caller]
    pub fn of(scores: &[f64], positive: &[bool]) -> Option<Auc> {
        let placements = Placements::of(scores, positive)?;
        let (value, variance) = (placements.auc(), placements.covariance(&placements));
        let Interval { low, high } = t_test(value, variance.sqrt(), f64::INFINITY).1;
        Some(Auc { value, variance, interval: Interval { low: low.max(0.0), high: high.min(1.0) } })
    }
}

impl AucDifference {
    /// Of scores `a` and `b` of the same cases; `None` as for [`Auc::of`].
    #[track_caller]
    pub fn of(a: &[f64], b: &[f64], positive: &[bool]) -> Option<AucDifference> {
        let (a, b) = (Placements::of(a, positive)?, Placements::of(b, positive)?);
        let value = a.auc() - b.auc();
        let variance = (a.covariance(&a) + b.covariance(&b) - 2.0 * a.covariance(&b)).max(0.0);
        let (p, interval) = t_test(value, variance.sqrt(), f64::INFINITY);
        Some(AucDifference { value, variance, interval, p })
    }
}

/// What share of the other kind each case is on the right side of: DeLong's V₁₀ and V₀₁.
struct Placements {
    positive: Vec<f64>,
    negative: Vec<f64>,
}

impl Placements {
    #[track_caller]
    fn of(scores: &[f64], positive: &[bool]) -> Option<Placements> {
        assert_eq!(scores.len(), positive.len(), "one score and one truth for each case");
        let of_kind = |kind: bool, values: &[f64]| {
            values.iter().zip(positive).filter(|(_, p)| **p == kind).map(|(v, _)| *v).collect::<Vec<f64>>()
        };
        let (among_all, _) = midranks(scores);
        // Of the rank among all, the rank among its own kind leaves the cases of the other kind below.
        let below = |kind| {
            let (among_kind, _) = midranks(&of_kind(kind, scores));
            let among_all = of_kind(kind, &among_all);
            among_all.into_iter().zip(among_kind).map(|(all, kind)| all - kind).collect::<Vec<f64>>()
        };
        let (below_positive, below_negative) = (below(true), below(false));
        let (m, n) = (below_positive.len(), below_negative.len());
        (m > 1 && n > 1 && scores.iter().all(|s| !s.is_nan())).then(|| Placements {
            positive: below_positive.into_iter().map(|b| b / n as f64).collect(),
            negative: below_negative.into_iter().map(|b| 1.0 - b / m as f64).collect(),
        })
    }

    fn auc(&self) -> f64 {
        self.positive.iter().sum::<f64>() / self.positive.len() as f64
    }

    /// Covariance of the two areas: that of the placements of each kind, divided by how many they are.
    fn covariance(&self, other: &Placements) -> f64 {
        let of = |a: &[f64], b: &[f64]| {
            let n = a.len() as f64;
            let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
            a.iter().zip(b).map(|(x, y)| (x - mean_a) * (y - mean_b)).sum::<f64>() / (n - 1.0) / n
        };
        of(&self.positive, &other.positive) + of(&self.negative, &other.negative)
    }
}
