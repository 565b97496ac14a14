//! The rank tests of Wilcoxon (1945) and of Mann and Whitney (1947), two-sided, by the rules of SciPy's `method="auto"`.

use super::{
    distributions::normal_two_sided,
    ranks::{midranks, tie_term},
};

/// More pairs than this are tested by the normal approximation.
const MOST_EXACT_PAIRS: usize = 50;
/// As many pairs are tested exactly even with ties or zeros, by all 2ⁿ signs of the differences.
const MOST_PERMUTED_PAIRS: usize = 13;
/// Two samples both larger than this are tested by the normal approximation.
const MOST_EXACT_SAMPLE: usize = 8;

/// The signed-rank test of paired differences.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignedRanks {
    /// Sum of the ranks of the positive differences, T⁺.
    pub plus: f64,
    /// Sum of the ranks of the negative differences, T⁻. SciPy's statistic is the smaller of the two.
    pub minus: f64,
    /// Two-sided p value; 1 if no pair differs.
    pub p: f64,
    /// Whether it comes from the distribution over all signs, not from the normal approximation.
    pub exact: bool,
}

impl SignedRanks {
    /// Tests whether `differences` are symmetric about 0. Zeros are dropped (Wilcoxon's rule), ties share their mean rank. Exact
    /// up to 50 differences without tie and zero and up to 13 with; else normal, its variance corrected for ties, without
    /// continuity correction. `None` without any difference, and if one is not a number.
    pub fn test(differences: &[f64]) -> Option<SignedRanks> {
        if differences.is_empty() || differences.iter().any(|d| d.is_nan()) {
            return None;
        }
        let moved: Vec<f64> = differences.iter().copied().filter(|&d| d != 0.0).collect();
        let (ranks, runs) = midranks(&moved.iter().map(|d| d.abs()).collect::<Vec<_>>());
        let sum = |sign: f64| moved.iter().zip(&ranks).filter(|(d, _)| *d * sign > 0.0).map(|(_, r)| r).sum::<f64>();
        let (plus, minus) = (sum(1.0), sum(-1.0));
        let plain = moved.len() == differences.len() && runs.len() == moved.len();
        let exact = differences.len() <= if plain { MOST_EXACT_PAIRS } else { MOST_PERMUTED_PAIRS };
        let p = match () {
            () if moved.is_empty() => 1.0,
            () if exact => exact_signs(&ranks, plus.min(minus)),
            () => {
                let n = moved.len() as f64;
                let variance = (n * (n + 1.0) * (2.0 * n + 1.0) - tie_term(&runs) / 2.0) / 24.0;
                normal_two_sided((plus - minus) / 2.0 / variance.sqrt())
            }
        };
        Some(SignedRanks { plus, minus, p, exact })
    }
}

/// Twice the chance that the ranks with one sign sum to at most `least`, each sign being equally likely. Sums are counted in
/// halves, because midranks are (Streitberg and Röhmel 1986).
fn exact_signs(ranks: &[f64], least: f64) -> f64 {
    let halves = |rank: f64| (2.0 * rank).round() as usize;
    let mut chance = vec![1.0];
    for &rank in ranks {
        let step = halves(rank);
        let mut next = vec![0.0; chance.len() + step];
        for (sum, p) in chance.into_iter().enumerate() {
            next[sum] += p / 2.0;
            next[sum + step] += p / 2.0;
        }
        chance = next;
    }
    (2.0 * chance[..=halves(least)].iter().sum::<f64>()).min(1.0)
}

/// The test of two independent samples by the ranks that they have together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankSums {
    /// Mann and Whitney's U of the first sample: pairs in which it has the larger value, equals counting half.
    pub u: f64,
    /// Two-sided p value.
    pub p: f64,
    /// Whether it comes from the distribution over all orders, not from the normal approximation.
    pub exact: bool,
}

impl RankSums {
    /// Tests whether neither of `a` and `b` tends to larger values. Exact without ties if one has at most 8 values; else normal,
    /// corrected for ties and continuity. `None` if one is empty or holds what is not a number.
    pub fn test(a: &[f64], b: &[f64]) -> Option<RankSums> {
        let both = [a, b].concat();
        if a.is_empty() || b.is_empty() || both.iter().any(|v| v.is_nan()) {
            return None;
        }
        let (ranks, runs) = midranks(&both);
        let (m, n) = (a.len() as f64, b.len() as f64);
        let u = ranks[..a.len()].iter().sum::<f64>() - m * (m + 1.0) / 2.0;
        let least = u.min(m * n - u);
        let exact = runs.len() == both.len() && a.len().min(b.len()) <= MOST_EXACT_SAMPLE;
        let p = if exact {
            let chance = exact_orders(a.len().min(b.len()), a.len().max(b.len()));
            2.0 * chance[..=least as usize].iter().sum::<f64>()
        } else {
            let all = m + n;
            let variance = m * n / 12.0 * (all + 1.0 - tie_term(&runs) / (all * (all - 1.0)));
            let beyond = m * n / 2.0 - least - 0.5;
            // Without variance all values are one, and nothing lies beyond the mean.
            if variance > 0.0 && beyond > 0.0 { normal_two_sided(beyond / variance.sqrt()) } else { 1.0 }
        };
        Some(RankSums { u, p: p.min(1.0), exact })
    }
}

/// The chance of each U of samples of `m` and `n` values, all orders being equally likely (the recursion of Mann and Whitney 1947).
fn exact_orders(m: usize, n: usize) -> Vec<f64> {
    // Entry i is the distribution for samples of i and j values, of U = 0 to m n.
    let mut chance = vec![vec![0.0; m * n + 1]; m + 1];
    chance.iter_mut().for_each(|row| row[0] = 1.0);
    for j in 1..=n {
        for i in 1..=m {
            // The largest value belongs to the first sample, above all j of the second, or to the second.
            let first = i as f64 / (i + j) as f64;
            for u in (0..=i * j).rev() {
                let above = if u >= j { chance[i - 1][u - j] } else { 0.0 };
                chance[i][u] = first * above + (1.0 - first) * chance[i][u];
            }
        }
    }
    chance.swap_remove(m)
}
