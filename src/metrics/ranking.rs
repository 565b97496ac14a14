//! What the order of scores says about two groups: ROC, areas, the best threshold. As scikit-learn has them.

/// The scores of some samples in falling order, with the samples that share each.
pub(super) struct Ranking {
    /// Samples by falling score.
    order: Vec<usize>,
    /// Whether each of them, in that order, is positive.
    positive: Vec<bool>,
    /// Ends of the runs of equal scores in `order`.
    ends: Vec<usize>,
    /// Score of each run.
    scores: Vec<f32>,
}

/// What a threshold separates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RocPoint {
    /// Samples count as positive from this score on.
    pub threshold: f64,
    /// Share of the negatives that do.
    pub false_positive_rate: f64,
    /// Share of the positives that do.
    pub true_positive_rate: f64,
}

impl Ranking {
    pub fn new(n: usize, score: impl Fn(usize) -> f32, positive: impl Fn(usize) -> bool) -> Ranking {
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
        let mut ends = vec![];
        let mut scores = vec![];
        for run in order.chunk_by(|&a, &b| score(a) == score(b)) {
            ends.push(ends.last().unwrap_or(&0) + run.len());
            scores.push(score(run[0]));
        }
        let positive = order.iter().map(|&i| positive(i)).collect();
        Ranking { order, positive, ends, scores }
    }

    /// Positives and negatives above each threshold, sample `i` counting `weight(i)` times.
    fn counts(&self, weight: impl Fn(usize) -> f64) -> Vec<(f64, f64)> {
        let (mut positives, mut negatives, mut start) = (0.0, 0.0, 0);
        let until = |&end: &usize| {
            for (&sample, &positive) in self.order[start..end].iter().zip(&self.positive[start..end]) {
                *(if positive { &mut positives } else { &mut negatives }) += weight(sample);
            }
            start = end;
            (positives, negatives)
        };
        self.ends.iter().map(until).collect()
    }

    /// Area under the ROC curve: the chance that a positive sample gets a higher score than a negative one, ties counting
    /// half (Mann and Whitney 1947). `None` without either. Sample `i` counts `weight(i)` times.
    pub fn auc(&self, weight: impl Fn(usize) -> f64) -> Option<f64> {
        let counts = self.counts(weight);
        let &(positives, negatives) = counts.last()?;
        let (mut area, mut before) = (0.0, (0.0, 0.0));
        for (p, n) in counts {
            area += (n - before.1) * (p + before.0) / 2.0;
            before = (p, n);
        }
        (positives > 0.0 && negatives > 0.0).then(|| area / (positives * negatives))
    }

    /// Average precision: the mean of the precisions at each threshold, weighted by the rise in recall. `None` without
    /// positives.
    pub fn average_precision(&self, weight: impl Fn(usize) -> f64) -> Option<f64> {
        let counts = self.counts(weight);
        let positives = counts.last()?.0;
        let mut before = 0.0;
        let sum = counts.iter().map(|&(p, n)| {
            let rise = p - std::mem::replace(&mut before, p);
            if p + n > 0.0 { rise * p / (p + n) } else { 0.0 }
        });
        (positives > 0.0).then(|| sum.sum::<f64>() / positives)
    }

    /// The ROC curve, from the highest threshold down; empty without positives or negatives.
    pub fn roc(&self) -> Vec<RocPoint> {
        let counts = self.counts(|_| 1.0);
        let Some(&(positives, negatives)) = counts.last().filter(|(p, n)| *p > 0.0 && *n > 0.0) else { return vec![] };
        let point = |((p, n), &score): ((f64, f64), &f32)| RocPoint {
            threshold: f64::from(score),
            false_positive_rate: n / negatives,
            true_positive_rate: p / positives,
        };
        counts.into_iter().zip(&self.scores).map(point).collect()
    }

    /// The threshold with the highest sensitivity + specificity (Youden 1950), the highest of equals. `None` without positives
    /// or negatives.
    pub fn youden(&self) -> Option<f64> {
        let gain = |p: &RocPoint| p.true_positive_rate - p.false_positive_rate;
        let best = |best: RocPoint, p| if gain(&p) > gain(&best) { p } else { best };
        self.roc().into_iter().reduce(best).map(|p| p.threshold)
    }
}
