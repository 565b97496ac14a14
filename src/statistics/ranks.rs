//! Ranks in which equals share the mean of theirs.

/// Midranks of `values` from 1, and the size of each run of equals.
pub fn midranks(values: &[f64]) -> (Vec<f64>, Vec<usize>) {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let (mut ranks, mut runs, mut done) = (vec![0.0; values.len()], vec![], 0);
    for run in order.chunk_by(|&a, &b| values[a] == values[b]) {
        run.iter().for_each(|&i| ranks[i] = (2 * done + run.len() + 1) as f64 / 2.0);
        runs.push(run.len());
        done += run.len();
    }
    (ranks, runs)
}

/// Σ(t³ − t) over the runs of equals, by which ties shrink the variance of a rank sum.
pub fn tie_term(runs: &[usize]) -> f64 {
    runs.iter().map(|&t| (t as f64).powi(3) - t as f64).sum()
}
