//! Several tests at once.

/// The p values of a family of tests, adjusted so that calling those below α significant errs at all with a chance of at most α,
/// however the tests depend on each other: the i-th smallest of m becomes max over j ≤ i of (m − j + 1) p₍ⱼ₎, at most 1
/// (Holm 1979).
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let (mut adjusted, mut largest) = (vec![0.0; p.len()], 0.0f64);
    for (i, &test) in order.iter().enumerate() {
        largest = largest.max((p.len() - i) as f64 * p[test]).min(1.0);
        adjusted[test] = largest;
    }
    adjusted
}
