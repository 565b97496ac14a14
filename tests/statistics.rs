//! Statistics against SciPy, statsmodels and definitions; `scripts/make_statistics_fixtures.py` writes the fixture. Then what
//! they have to keep on samples of known origin: error rates, coverage, power.

use roentgen::{
    rng::{Purpose, Rng},
    statistics::{
        Auc, AucDifference, Groups, Interval, Mean, PairedDifference, RankSums, Scale, SignedRanks, area_under,
        bootstrap::{bca, percentile, resampled, resampled_with_runs, two_sided_p},
        effects::{Effect, cliffs_delta, cohens_dz, rank_biserial},
        holm, paired_bootstrap, paired_difference,
    },
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    signed_ranks: Vec<SignedRanksCase>,
    rank_sums: Vec<RankSumsCase>,
    holm: Vec<HolmCase>,
    delong: Vec<DelongCase>,
    paired: Vec<PairedCase>,
    bootstrap: Vec<BootstrapCase>,
    draws: Vec<DrawsCase>,
}

#[derive(Deserialize)]
struct SignedRanksCase {
    name: String,
    differences: Vec<f64>,
    plus: f64,
    minus: f64,
    p: Option<f64>,
    dz: Option<[f64; 3]>,
    rank_biserial: Option<(f64, Option<f64>, Option<f64>)>,
    mean: Option<[f64; 5]>,
}

#[derive(Deserialize)]
struct RankSumsCase {
    name: String,
    a: Vec<f64>,
    b: Vec<f64>,
    u: f64,
    p: Option<f64>,
    delta: (f64, Option<f64>, Option<f64>),
}

#[derive(Deserialize)]
struct HolmCase {
    p: Vec<f64>,
    adjusted: Vec<f64>,
}

#[derive(Deserialize)]
struct DelongCase {
    name: String,
    a: Vec<f64>,
    b: Vec<f64>,
    truth: Vec<bool>,
    auc: [f64; 2],
    variance: [f64; 2],
    difference: f64,
    difference_variance: f64,
    p: f64,
    published: Option<Published>,
}

#[derive(Deserialize)]
struct Published {
    auc: [f64; 2],
    standard_error: [f64; 2],
    chi2: f64,
}

#[derive(Deserialize)]
struct PairedCase {
    name: String,
    a: Vec<Vec<f64>>,
    b: Vec<Vec<f64>>,
    groups: Vec<usize>,
    difference: f64,
    p: f64,
    interval: [f64; 2],
}

#[derive(Deserialize)]
struct BootstrapCase {
    name: String,
    values: Vec<f64>,
    percentile: [f64; 2],
    bca: [f64; 2],
}

#[derive(Deserialize)]
struct DrawsCase {
    draws: Vec<f64>,
    estimate: f64,
    left_out: Vec<f64>,
    percentile: [f64; 2],
    bca: [f64; 2],
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("fixtures/statistics.json")).unwrap()
}

#[track_caller]
fn assert_close(ours: f64, theirs: f64, what: &str) {
    assert!((ours - theirs).abs() <= 1e-10 * theirs.abs().max(1.0), "{what}: {ours} for {theirs}");
}

#[track_caller]
fn assert_interval(ours: Interval, theirs: [f64; 2], what: &str) {
    assert_close(ours.low, theirs[0], what);
    assert_close(ours.high, theirs[1], what);
}

#[track_caller]
fn assert_effect(ours: Option<Effect>, theirs: Option<(f64, Option<f64>, Option<f64>)>, what: &str) {
    assert_eq!(ours.is_some(), theirs.is_some(), "{what}");
    let (Some(ours), Some((value, low, high))) = (ours, theirs) else { return };
    assert_close(ours.value, value, what);
    assert_eq!(ours.interval.is_some(), low.is_some(), "{what}: {ours:?}");
    if let (Some(interval), Some(low), Some(high)) = (ours.interval, low, high) {
        assert_interval(interval, [low, high], what);
    }
}

#[test]
fn signed_ranks_and_effects_of_pairs_equal_scipy() {
    for case in fixture().signed_ranks {
        let (name, ours) = (&case.name, SignedRanks::test(&case.differences).unwrap());
        assert_eq!((ours.plus, ours.minus), (case.plus, case.minus), "{name}");
        // SciPy's NaN is for differences that are all zero.
        assert_close(ours.p, case.p.unwrap_or(1.0), name);
        if let Some(p) = case.p {
            assert!((ours.p / p - 1.0).abs() < 1e-9, "{name}: {} for {p}", ours.p);
        }
        assert_effect(cohens_dz(&case.differences), case.dz.map(|[v, l, h]| (v, Some(l), Some(h))), name);
        assert_effect(rank_biserial(&case.differences), case.rank_biserial, name);
        let mean = Mean::of(&case.differences).unwrap();
        assert_eq!(mean.interval.is_some(), case.mean.is_some(), "{name}");
        if let (Some([value, sd, low, high, p]), Some(interval)) = (case.mean, mean.interval) {
            assert_close(mean.value, value, name);
            assert_close(mean.sd.unwrap(), sd, name);
            assert_close(mean.p.unwrap(), p, name);
            assert_interval(interval, [low, high], name);
        }
    }
}

#[test]
fn the_signed_rank_test_is_exact_where_scipy_is() {
    let exact = |name: &str| {
        let case = fixture().signed_ranks.into_iter().find(|case| case.name == name).unwrap();
        SignedRanks::test(&case.differences).unwrap().exact
    };
    assert!(exact("fifty, the last exact") && exact("thirteen with a zero, the last exact") && exact("ties"));
    assert!(!exact("fifty-one, normal") && !exact("fourteen with a zero, normal") && !exact("many ties"));
}

#[test]
fn rank_sums_and_cliffs_delta_equal_scipy_and_the_definition() {
    for case in fixture().rank_sums {
        let (name, ours) = (&case.name, RankSums::test(&case.a, &case.b).unwrap());
        assert_eq!(ours.u, case.u, "{name}");
        assert_close(ours.p, case.p.unwrap_or(1.0), name);
        assert_effect(cliffs_delta(&case.a, &case.b), Some(case.delta), name);
        let other = RankSums::test(&case.b, &case.a).unwrap();
        assert_close(other.p, ours.p, name);
        assert_eq!(
            ours.exact,
            ["one and one", "three and three, apart", "five and five", "eight and thirty, exact"]
                .contains(&name.as_str()),
            "{name}"
        );
    }
}

#[test]
fn holm_equals_statsmodels() {
    for case in fixture().holm {
        let ours = holm(&case.p);
        assert_eq!(ours.len(), case.adjusted.len());
        ours.iter()
            .zip(&case.adjusted)
            .for_each(|(&ours, &theirs)| assert_close(ours, theirs, &format!("{:?}", case.p)));
    }
    assert!(holm(&[]).is_empty());
}

#[test]
fn delong_equals_the_double_sum_and_the_published_example() {
    for case in fixture().delong {
        let name = &case.name;
        for (scores, (auc, variance)) in [&case.a, &case.b].into_iter().zip(case.auc.into_iter().zip(case.variance)) {
            let ours = Auc::of(scores, &case.truth).unwrap();
            assert_close(ours.value, auc, name);
            assert_close(ours.variance, variance, name);
            assert!(ours.interval.low >= 0.0 && ours.interval.high <= 1.0);
        }
        let ours = AucDifference::of(&case.a, &case.b, &case.truth).unwrap();
        assert_close(ours.value, case.difference, name);
        assert_close(ours.variance, case.difference_variance, name);
        assert_close(ours.p, case.p, name);
        if let Some(published) = &case.published {
            let near = |ours: f64, theirs: f64| assert!((ours - theirs).abs() < 5e-5, "{name}: {ours} for {theirs}");
            near(Auc::of(&case.a, &case.truth).unwrap().value, published.auc[0]);
            near(Auc::of(&case.b, &case.truth).unwrap().variance.sqrt(), published.standard_error[1]);
            near(ours.value * ours.value / ours.variance, published.chi2);
        }
    }
}

/// The mean over cases that count `weights` times, of one arm less that of the other.
fn difference_of_means<'a>(a: &'a [Vec<f64>], b: &'a [Vec<f64>]) -> impl Fn(usize, &[f64]) -> Option<f64> + 'a {
    |run, weights| {
        let sum: f64 = a[run].iter().zip(&b[run]).zip(weights).map(|((a, b), w)| w * (a - b)).sum();
        Some(sum / weights.iter().sum::<f64>()).filter(|mean| mean.is_finite())
    }
}

#[test]
fn the_paired_difference_equals_the_analysis_of_variance() {
    for case in fixture().paired {
        let groups = Groups::named(&case.groups);
        let ours = paired_difference(&groups, case.a.len(), difference_of_means(&case.a, &case.b)).unwrap();
        assert_close(ours.difference, case.difference, &case.name);
        assert_close(ours.p, case.p, &case.name);
        assert_interval(ours.interval, case.interval, &case.name);
        assert_eq!(ours.runs.len(), case.a.len());
    }
}

#[test]
fn many_groups_are_left_out_in_parts() {
    let a = [normals(&mut Rng::new(3, Purpose::Test, 0, 0), 1001, 0.1)];
    let b = [vec![0.0; 1001]];
    let mut calls = std::cell::Cell::new(0);
    let difference = |run: usize, weights: &[f64]| {
        calls.set(calls.get() + 1);
        difference_of_means(&a, &b)(run, weights)
    };
    let ours = paired_difference(&Groups::alone(1001), 1, difference).unwrap();
    assert_eq!(*calls.get_mut(), 201);
    let expected = Mean::of(&a[0]).unwrap().interval.unwrap();
    let width = (ours.interval.high - ours.interval.low) / (expected.high - expected.low);
    assert!((width - 1.0).abs() < 0.15, "{width}");
    assert_close(ours.difference, Mean::of(&a[0]).unwrap().value, "mean");
}

#[test]
fn bootstrap_intervals_equal_scipy() {
    for case in fixture().draws {
        assert_interval(percentile(case.draws.clone()).unwrap(), case.percentile, "percentile");
        assert_interval(bca(case.draws, case.estimate, &case.left_out).unwrap(), case.bca, "BCa");
    }
    for case in fixture().bootstrap {
        let mean = |weights: &[f64]| {
            let sum: f64 = weights.iter().zip(&case.values).map(|(w, v)| w * v).sum();
            Some(sum / weights.iter().sum::<f64>())
        };
        let groups = Groups::alone(case.values.len());
        let draws = resampled(&groups, 40_000, 3, mean);
        let estimate = mean(&vec![1.0; case.values.len()]).unwrap();
        let left_out: Vec<f64> =
            (0..groups.len()).map(|group| mean(&groups.without(group, groups.len())).unwrap()).collect();
        let near = |ours: Interval, theirs: [f64; 2]| {
            // The ends of 40 000 draws move by about 1 % of the width.
            let slack = 0.02 * (theirs[1] - theirs[0]);
            let off = (ours.low - theirs[0]).abs().max((ours.high - theirs[1]).abs());
            assert!(off < slack, "{}: {ours:?} for {theirs:?}", case.name);
        };
        near(percentile(draws.clone()).unwrap(), case.percentile);
        near(bca(draws, estimate, &left_out).unwrap(), case.bca);
    }
}

#[test]
fn groups_are_drawn_whole_and_the_same_seed_draws_the_same() {
    let groups = Groups::named(&["b", "a", "b", "c", "a"]);
    assert_eq!((groups.len(), groups.cases()), (3, 5));
    assert_eq!(groups.without(0, 3), [0.0, 1.0, 0.0, 1.0, 1.0]);
    let mut sizes = vec![];
    for i in 0..50 {
        let weights = groups.draw(&mut Rng::new(1, Purpose::Test, i, 0));
        assert_eq!((weights[0], weights[1]), (weights[2], weights[4]));
        assert_eq!(weights[0] + weights[1] + weights[3], 3.0);
        sizes.push(weights.iter().sum::<f64>());
    }
    assert!(sizes.contains(&6.0) && sizes.contains(&5.0) && sizes.contains(&4.0), "{sizes:?}");
    let heaviest = |seed| resampled(&groups, 20, seed, |weights| Some(weights[0]));
    assert_eq!(heaviest(5), heaviest(5));
    assert_ne!(heaviest(5), heaviest(6));
    assert!(resampled(&Groups::alone(0), 20, 5, |_| Some(1.0)).is_empty());
    // A mean over the drawn runs, of which each counts as often as it was drawn.
    assert_eq!(resampled_with_runs(&groups, 4, 9, 5, |_, _| Some(0.25)), [0.25; 9]);
}

#[test]
fn areas_under_learning_curves_are_means() {
    let area = |points: &[(f64, f64)], scale| area_under(points, scale);
    assert_eq!(area(&[(1.0, 0.5), (3.0, 0.7), (4.0, 0.7)], Scale::Linear), Some((1.2 + 0.7) / 3.0));
    // Each doubling counts the same: from 25 % to 50 % to 100 %.
    assert_close(area(&[(0.25, 0.2), (0.5, 0.4), (1.0, 0.8)], Scale::Log).unwrap(), (0.3 + 0.6) / 2.0, "log");
    for bad in
        [&[][..], &[(1.0, 0.5)], &[(1.0, 0.5), (1.0, 0.6)], &[(2.0, 0.5), (1.0, 0.6)], &[(1.0, f64::NAN), (2.0, 0.6)]]
    {
        assert_eq!(area(bad, Scale::Linear), None, "{bad:?}");
    }
    assert_eq!(area(&[(0.0, 0.5), (1.0, 0.6)], Scale::Log), None);
}

#[test]
fn nothing_and_what_is_no_number_have_no_result() {
    assert_eq!(SignedRanks::test(&[]), None);
    assert_eq!(SignedRanks::test(&[1.0, f64::NAN]), None);
    assert_eq!(RankSums::test(&[], &[1.0]), None);
    assert_eq!(RankSums::test(&[f64::NAN], &[1.0]), None);
    assert_eq!((cliffs_delta(&[], &[1.0]), cohens_dz(&[1.0]), rank_biserial(&[0.0])), (None, None, None));
    assert_eq!((Mean::of(&[]), Mean::of(&[1.0, f64::NAN])), (None, None));
    assert_eq!(Auc::of(&[0.1, 0.2, 0.3], &[true, false, false]), None);
    assert_eq!(Auc::of(&[0.1, f64::NAN, 0.3, 0.4], &[true, false, false, true]), None);
    assert_eq!(percentile(vec![]), None);
    assert_eq!(bca(vec![1.0; 10], 2.0, &[1.0, 2.0]), None);
    assert_eq!(paired_difference(&Groups::named(&[1, 1]), 3, |_, _| Some(0.1)), None);
    assert_eq!(paired_difference(&Groups::alone(4), 0, |_, _| Some(0.1)), None);
    assert_eq!(paired_difference(&Groups::alone(4), 2, |_, _| None), None);
    assert_eq!(paired_difference(&Groups::alone(4), 2, |_, weights| Some(1.0 / weights[0] - 1.0 / weights[1])), None);
    assert_eq!(two_sided_p(&[]), 1.0);
    // The same networks twice, and two scores without any error.
    let same = paired_difference(&Groups::alone(4), 3, |_, _| Some(0.0)).unwrap();
    assert_eq!((same.difference, same.p), (0.0, 1.0));
    let perfect = AucDifference::of(&[1.0, 2.0, 3.0, 4.0], &[0.1, 0.2, 0.8, 0.9], &[false, false, true, true]).unwrap();
    assert_eq!((perfect.value, perfect.variance, perfect.p), (0.0, 0.0, 1.0));
}

/// How often `test` of trial 0, 1, … gives a p value of at most 5 %.
fn rejections(trials: u32, test: impl Fn(&mut Rng) -> f64) -> u32 {
    (0..trials).map(|trial| u32::from(test(&mut Rng::new(77, Purpose::Test, trial, 9)) <= 0.05)).sum()
}

/// Panics if `count` of `trials` is more than 3.3 standard deviations from a rate of `expected`: by chance once in a thousand.
#[track_caller]
fn assert_rate(count: u32, trials: u32, expected: f64, what: &str) {
    let (n, mean) = (f64::from(trials), f64::from(trials) * expected);
    let reach = 3.3 * (n * expected * (1.0 - expected)).sqrt();
    assert!((f64::from(count) - mean).abs() <= reach, "{what}: {count} of {trials}, expected {mean} ± {reach:.0}");
}

fn normals(rng: &mut Rng, n: usize, shift: f64) -> Vec<f64> {
    (0..n).map(|_| f64::from(rng.normal()) + shift).collect()
}

#[test]
fn rank_tests_keep_their_level_and_have_power() {
    let signed = |n, shift| move |rng: &mut Rng| SignedRanks::test(&normals(rng, n, shift)).unwrap().p;
    let sums =
        |n, shift| move |rng: &mut Rng| RankSums::test(&normals(rng, n, shift), &normals(rng, n, 0.0)).unwrap().p;
    // The exact levels that the discrete distributions allow: of 12 pairs 0.0425, of 8 and 8 values 0.0499.
    assert_rate(rejections(4000, signed(12, 0.0)), 4000, 0.0425, "12 pairs");
    assert_rate(rejections(4000, signed(100, 0.0)), 4000, 0.05, "100 pairs");
    assert_rate(rejections(4000, sums(8, 0.0)), 4000, 0.0499, "8 and 8");
    assert_rate(rejections(4000, sums(100, 0.0)), 4000, 0.0495, "100 and 100");
    // What a t test would have is 0.93 and 0.94; theirs is 3/π = 0.955 as efficient.
    assert!(rejections(1000, signed(50, 0.5)) > 880);
    assert!(rejections(1000, sums(100, 0.5)) > 900);
    // Three seeds of each arm can never be significant, however far apart.
    assert_eq!(rejections(100, signed(3, 9.0)) + rejections(100, sums(3, 9.0)), 0);
}

#[test]
fn delong_keeps_its_level_and_has_power() {
    // Two scores of the same cases that share half of their noise; the first is better by `gain`.
    let test = |gain: f64| {
        move |rng: &mut Rng| {
            let truth: Vec<bool> = (0..120).map(|i| i % 3 == 0).collect();
            let shared = normals(rng, 120, 0.0);
            let mut score = |effect: f64| -> Vec<f64> {
                let noise = normals(rng, 120, 0.0);
                truth
                    .iter()
                    .zip(&shared)
                    .zip(noise)
                    .map(|((&t, s), n)| f64::from(u8::from(t)) * effect + s + n)
                    .collect()
            };
            AucDifference::of(&score(1.2 + gain), &score(1.2), &truth).unwrap().p
        }
    };
    assert_rate(rejections(3000, test(0.0)), 3000, 0.05, "no difference");
    assert!(rejections(500, test(1.2)) > 440, "{}", rejections(500, test(1.2)));
}

/// Two arms on the same cases, two of each patient: their scores by seed and case.
struct Trial {
    groups: Groups,
    a: Vec<Vec<f64>>,
    b: Vec<Vec<f64>>,
}

impl Trial {
    /// The first arm is better by `effect`. Each training has its luck, of spread `of_seeds`; each patient has an own difference
    /// between the arms, of spread `of_patients`.
    fn draw(rng: &mut Rng, seeds: usize, effect: f64, of_seeds: f64, of_patients: f64) -> Trial {
        const PATIENTS: usize = 40;
        let gain = normals(rng, PATIENTS, 0.0);
        let mut arm = |effect: f64, of_patients: f64| -> Vec<Vec<f64>> {
            let mut run = || -> Vec<f64> {
                let luck = effect + of_seeds * f64::from(rng.normal());
                let mut case = |i: usize| luck + of_patients * gain[i / 2] + 0.2 * f64::from(rng.normal());
                (0..2 * PATIENTS).map(&mut case).collect()
            };
            (0..seeds).map(|_| run()).collect()
        };
        let (a, b) = (arm(effect, of_patients), arm(0.0, 0.0));
        Trial { groups: Groups::named(&(0..2 * PATIENTS).map(|i| i / 2).collect::<Vec<_>>()), a, b }
    }

    fn paired(&self) -> PairedDifference {
        paired_difference(&self.groups, self.a.len(), difference_of_means(&self.a, &self.b)).unwrap()
    }

    fn bootstrapped(&self) -> PairedDifference {
        paired_bootstrap(&self.groups, self.a.len(), 5, difference_of_means(&self.a, &self.b)).unwrap()
    }
}

#[test]
fn paired_differences_keep_their_level_and_have_power() {
    for (seeds, of_seeds, of_patients) in [(3, 0.05, 0.5), (3, 0.2, 0.2), (5, 0.1, 0.5), (1, 0.0, 0.5)] {
        let count = rejections(2000, |rng| Trial::draw(rng, seeds, 0.0, of_seeds, of_patients).paired().p);
        // Nominal up to two points where three seeds and the cases matter alike: the degrees of freedom are estimated.
        assert!((80..=150).contains(&count), "{seeds} seeds, {of_seeds} and {of_patients}: {count} of 2000");
    }
    let count = rejections(200, |rng| Trial::draw(rng, 5, 0.3, 0.1, 0.3).paired().p);
    assert!(count > 170, "{count}");
}

#[test]
fn the_paired_bootstrap_covers_unless_few_seeds_hide_their_spread() {
    let misses = |trials, seeds, of_seeds, of_patients| {
        let outside = |rng: &mut Rng| {
            let found = Trial::draw(rng, seeds, 0.1, of_seeds, of_patients).bootstrapped().interval;
            f64::from(u8::from(found.low <= 0.1 && 0.1 <= found.high))
        };
        rejections(trials, outside)
    };
    // Percentile intervals of 40 patients are a little short: √(39 / 40), and without Student's t.
    assert_rate(misses(400, 1, 0.0, 0.5), 400, 0.058, "patients alone");
    let hidden = misses(100, 3, 0.2, 0.2);
    assert!(hidden > 12, "three seeds miss the spread of training: {hidden}");
}

#[test]
fn the_bootstrap_and_its_p_value_agree() {
    for trial in 0..20 {
        let found = Trial::draw(&mut Rng::new(4, Purpose::Test, trial, 0), 4, 0.1, 0.05, 0.5).bootstrapped();
        let outside = found.interval.low > 0.0 || found.interval.high < 0.0;
        assert!((found.p < 0.05) == outside || (found.p - 0.05).abs() < 0.002, "{found:?}");
    }
}

#[test]
fn intervals_of_effects_cover() {
    let mut covered = [0; 5];
    for trial in 0..1000 {
        let mut rng = Rng::new(78, Purpose::Test, trial, 0);
        let mut note = |i: usize, interval: Option<Interval>, value: f64| {
            covered[i] += u32::from(interval.is_some_and(|i| i.low <= value && value <= i.high));
        };
        let (few, many, others) = (normals(&mut rng, 5, 0.7), normals(&mut rng, 20, 0.7), normals(&mut rng, 20, 0.0));
        note(0, Mean::of(&few).unwrap().interval, 0.7);
        note(1, cohens_dz(&few).unwrap().interval, 0.7);
        note(2, cohens_dz(&many).unwrap().interval, 0.7);
        // (20 · 2 P(x > 0) + 190 · 2 P(x + x' > 0)) / 210 − 1, and 2 P(x > y) − 1, of normal numbers.
        note(3, rank_biserial(&many).unwrap().interval, 0.6624);
        note(4, cliffs_delta(&many, &others).unwrap().interval, 0.3794);
    }
    assert!(covered.iter().all(|count| (925..=970).contains(count)), "{covered:?}");
}
