//! Metrics of predicted masks, case by case.
//!
//! Where neither mask has a pixel, Dice and IoU are 1 and HD95 is 0: the network rightly found nothing. Where only one has,
//! Dice and IoU are 0 and there is no HD95. Means of Dice and IoU count every case; that of HD95 those that have one.

use super::{bootstrap::resampled, classes::mean, numbers::Measured};

/// Counts and distance of one structure in one case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskCase {
    /// Pixels of the true mask.
    pub truth: u64,
    /// Pixels of the predicted mask.
    pub predicted: u64,
    /// Pixels of both.
    pub overlap: u64,
    /// 95th percentile of the Hausdorff distance, in pixels; see [`hd95`].
    pub hd95: Option<f64>,
}

impl MaskCase {
    /// Compares two masks of rows of `width` pixels.
    #[track_caller]
    pub fn new(truth: &[bool], predicted: &[bool], width: usize) -> Self {
        assert_eq!(truth.len(), predicted.len(), "MaskCase: masks of two sizes");
        let count = |mask: &[bool]| mask.iter().filter(|&&marked| marked).count() as u64;
        let overlap = truth.iter().zip(predicted).filter(|(a, b)| **a && **b).count() as u64;
        MaskCase { truth: count(truth), predicted: count(predicted), overlap, hd95: hd95(truth, predicted, width) }
    }

    /// Dice 2·|A∩B| / (|A| + |B|); 1 where both are empty.
    pub fn dice(&self) -> f64 {
        share(2 * self.overlap, self.truth + self.predicted)
    }

    /// Intersection over union; 1 where both are empty.
    pub fn iou(&self) -> f64 {
        share(self.overlap, self.truth + self.predicted - self.overlap)
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// The larger of the 95th percentiles of the distances from the edge of each mask to that of the other, as MONAI has it. An
/// edge is what erosion by a cross takes away, the outside of the image not being marked; the percentile is linear between
/// neighbours. 0 where both masks are empty, `None` where one is.
pub fn hd95(a: &[bool], b: &[bool], width: usize) -> Option<f64> {
    let edges = [a, b].map(|mask| edge(mask, width).collect::<Vec<usize>>());
    match edges.each_ref().map(Vec::is_empty) {
        [true, true] => Some(0.0),
        [false, false] => {
            Some(directed(&edges[0], &edges[1], a.len(), width).max(directed(&edges[1], &edges[0], a.len(), width)))
        }
        _ => None,
    }
}

/// Positions of the marked pixels that have an unmarked one, or the end of the image, among their four neighbours.
pub fn edge(mask: &[bool], width: usize) -> impl Iterator<Item = usize> {
    let height = mask.len() / width;
    let inner = move |i: usize| {
        let (y, x) = (i / width, i % width);
        let within = y > 0 && y + 1 < height && x > 0 && x + 1 < width;
        within && mask[i - 1] && mask[i + 1] && mask[i - width] && mask[i + width]
    };
    (0..mask.len()).filter(move |&i| mask[i] && !inner(i))
}

/// 95th percentile of the distances from each pixel of `from` to the nearest of `to`.
fn directed(from: &[usize], to: &[usize], size: usize, width: usize) -> f64 {
    let squared = squared_distances(to, size, width);
    let mut distances: Vec<f64> = from.iter().map(|&i| squared[i].sqrt()).collect();
    distances.sort_by(f64::total_cmp);
    crate::statistics::quantile(&distances, 0.95)
}

/// The squared distance of each of `size` pixels, in rows of `width`, to the nearest of `points`: along the columns, then
/// along the rows (Felzenszwalb and Huttenlocher 2012).
fn squared_distances(points: &[usize], size: usize, width: usize) -> Vec<f64> {
    let mut field = vec![f64::INFINITY; size];
    points.iter().for_each(|&i| field[i] = 0.0);
    for x in 0..width {
        let column: Vec<f64> = field.iter().skip(x).step_by(width).copied().collect();
        field.iter_mut().skip(x).step_by(width).zip(lowest(&column)).for_each(|(d, lowest)| *d = lowest);
    }
    for row in field.chunks_exact_mut(width) {
        row.copy_from_slice(&lowest(row));
    }
    field
}

/// min over p of heights\[p\] + (q − p)², for each q.
fn lowest(heights: &[f64]) -> Vec<f64> {
    let height = |p: usize, q: usize| heights[p] + (q as f64 - p as f64).powi(2);
    // The parabolas that are the lowest somewhere, each with where it begins to be.
    let mut lowest: Vec<(usize, f64)> = vec![];
    for q in (0..heights.len()).filter(|&q| heights[q].is_finite()) {
        let begin = loop {
            let Some(&(p, from)) = lowest.last() else { break f64::NEG_INFINITY };
            let crossing = (height(q, 0) - height(p, 0)) / (2 * (q - p)) as f64;
            if crossing > from {
                break crossing;
            }
            lowest.pop();
        };
        lowest.push((q, begin));
    }
    let mut k = 0;
    let at = |q: usize| {
        while lowest.get(k + 1).is_some_and(|next| next.1 < q as f64) {
            k += 1;
        }
        lowest.get(k).map_or(f64::INFINITY, |&(p, _)| height(p, q))
    };
    (0..heights.len()).map(at).collect()
}

/// Every case of a split.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MaskScores {
    /// Names of the structures.
    pub names: Vec<String>,
    /// Each structure of each case, `[n, k]`.
    pub cases: Vec<MaskCase>,
}

impl MaskScores {
    /// Number of cases.
    pub fn len(&self) -> usize {
        self.cases.len() / self.names.len().max(1)
    }

    /// True if there is no case.
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// The structures of case `i`.
    pub fn case(&self, i: usize) -> &[MaskCase] {
        &self.cases[i * self.names.len()..][..self.names.len()]
    }

    /// Up to `n` cases with the lowest mean Dice, worst first; the first of equals first.
    pub fn worst(&self, n: usize) -> Vec<usize> {
        super::worst_by(self.len(), n, |i| -mean(self.case(i).iter().map(MaskCase::dice)))
    }
}

/// The metrics of one structure.
#[derive(Clone, Debug, PartialEq)]
pub struct StructureMetrics {
    /// Name of the structure.
    pub name: String,
    /// Cases that show it.
    pub present: usize,
    /// Cases that do not show it and in which it was rightly not found.
    pub rightly_empty: usize,
    /// Mean of Dice over all cases.
    pub dice: Measured,
    /// Mean of Dice over the cases that show it; NaN if none does.
    pub dice_present: f64,
    /// Mean of IoU over all cases.
    pub iou: Measured,
    /// Mean of HD95 in pixels over the cases that have one; NaN if none has.
    pub hd95: f64,
    /// Cases that have none.
    pub without_hd95: usize,
}

/// All metrics of one evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct MaskSummary {
    /// Number of cases.
    pub samples: usize,
    /// The metrics of each structure.
    pub structures: Vec<StructureMetrics>,
}

impl MaskSummary {
    /// Every metric of `scores`, with bootstrap intervals over the cases if there is a `seed` to draw them under.
    pub fn new(scores: &MaskScores, seed: Option<u64>) -> Self {
        let k = scores.names.len();
        MaskSummary { samples: scores.len(), structures: (0..k).map(|k| structure(scores, k, seed)).collect() }
    }

    /// Mean of Dice over cases and structures.
    pub fn dice(&self) -> f64 {
        mean(self.structures.iter().map(|structure| structure.dice.value))
    }
}

fn structure(scores: &MaskScores, k: usize, seed: Option<u64>) -> StructureMetrics {
    let cases: Vec<&MaskCase> = scores.cases.iter().skip(k).step_by(scores.names.len()).collect();
    let measured = |of: fn(&MaskCase) -> f64| {
        let values: Vec<f64> = cases.iter().map(|case| of(case)).collect();
        let weighted = |weight: &dyn Fn(usize) -> f64| {
            (0..values.len()).map(|i| weight(i) * values[i]).sum::<f64>() / values.len() as f64
        };
        let interval = seed.and_then(|seed| resampled(values.len(), seed, |weight| Some(weighted(&weight))));
        Measured { value: mean(values.iter().copied()), interval }
    };
    let present = || cases.iter().filter(|case| case.truth > 0);
    StructureMetrics {
        name: scores.names[k].clone(),
        present: present().count(),
        rightly_empty: cases.iter().filter(|case| case.truth + case.predicted == 0).count(),
        dice: measured(MaskCase::dice),
        dice_present: mean(present().map(|case| case.dice())),
        iou: measured(MaskCase::iou),
        hd95: mean(cases.iter().filter_map(|case| case.hd95)),
        without_hd95: cases.iter().filter(|case| case.hd95.is_none()).count(),
    }
}
