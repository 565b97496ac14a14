"""Writes tests/fixtures/statistics.json: samples with ties, zeros and few values, and what others make of them: SciPy (rank tests,
t interval, bootstrap), statsmodels (Holm), and what no library here has by the defining double sums (DeLong, Cliff, the
multi-reader multi-case analysis by its analysis of variance).

Run: python scripts/make_statistics_fixtures.py    (needs numpy, scipy, statsmodels)
"""

import json
import warnings
from pathlib import Path

import numpy as np
import scipy
import statsmodels
from scipy import stats
from statsmodels.stats.multitest import multipletests

warnings.simplefilter("ignore")
rng = np.random.default_rng(19450)
Z = stats.norm.ppf(0.975)

# Albumin, total protein and K-G score (points against surgery) of 43 patients, and whether the operation helped: the example
# of DeLong, DeLong and Clarke-Pearson (Biometrics 44, 1988) without the six patients that lack a value.
OVARIAN = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1  3.8 5.7 5 1
3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0
4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1
4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1
2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""


def finite(x):
    """JSON has no NaN."""
    return None if x is None or not np.isfinite(x) else float(x)


def signed_ranks(name, differences):
    d = np.asarray(differences, float)
    found = stats.wilcoxon(d)
    moved = d[d != 0]
    ranks = stats.rankdata(np.abs(moved))
    plus, minus = ranks[moved > 0].sum(), ranks[moved < 0].sum()
    assert found.statistic == min(plus, minus)
    case = {"name": name, "differences": d.tolist(), "plus": plus, "minus": minus, "p": finite(found.pvalue)}
    n, mean, sd = len(moved), d.mean(), d.std(ddof=1) if len(d) > 1 else np.nan
    if len(d) > 1 and sd > 0:
        dz = mean / sd
        reach = Z * np.sqrt(1 / len(d) + dz**2 / (2 * len(d)))
        case["dz"] = [dz, dz - reach, dz + reach]
    if n:
        r = (plus - minus) / (plus + minus)
        r_of = lambda d: (np.sign(d) * stats.rankdata(np.abs(d))).sum() / (len(d) * (len(d) + 1) / 2)
        ends = [None, None]
        if abs(r) < 1 and n > 2:
            left_out = np.array([r_of(np.delete(moved, i)) for i in range(n)])
            error = np.sqrt((n - 1) * left_out.var()) / (1 - r * r)
            ends = np.tanh(np.arctanh(r) + np.array([-1, 1]) * Z * error)
        case["rank_biserial"] = [r, *ends]
    if len(d) > 1:
        low, high = stats.t.interval(0.95, len(d) - 1, mean, sd / np.sqrt(len(d)))
        p = stats.ttest_1samp(d, 0).pvalue if sd else float(mean == 0)
        case["mean"] = [mean, sd, low if sd else mean, high if sd else mean, p]
    return case


def rank_sums(name, a, b):
    a, b = np.asarray(a, float), np.asarray(b, float)
    found = stats.mannwhitneyu(a, b)
    sign = np.sign(a[:, None] - b[None])
    delta, n, m = sign.mean(), len(a), len(b)
    case = {"name": name, "a": a.tolist(), "b": b.tolist(), "u": found.statistic, "p": finite(found.pvalue),
            "delta": [delta, None, None]}
    if n > 1 and m > 1 and abs(delta) < 1:
        rows, columns = sign.mean(1) - delta, sign.mean(0) - delta
        v = (m * m * (rows**2).sum() + n * n * (columns**2).sum() - ((sign - delta)**2).sum()) / (n * m * (n - 1) * (m - 1))
        v = max(v, (1 - delta**2) / (n * m - 1))
        middle, reach = delta - delta**3, Z * np.sqrt(v) * np.sqrt((1 - delta**2)**2 + Z**2 * v)
        ends = (middle + np.array([-reach, reach])) / (1 - delta**2 + Z**2 * v)
        case["delta"] = [delta, *np.clip(ends, -1, 1)]
    return case


def delong(name, a, b, truth):
    """The O(nm) definition: the kernel of every pair, its means by row and column, their covariances."""
    truth = np.asarray(truth, bool)
    scores = np.asarray([a, b], float)
    x, y = scores[:, truth, None], scores[:, None, ~truth]
    kernel = (x > y) + 0.5 * (x == y)
    auc = kernel.mean((1, 2))
    s = np.cov(kernel.mean(2)) / truth.sum() + np.cov(kernel.mean(1)) / (~truth).sum()
    difference, variance = auc[0] - auc[1], s[0, 0] + s[1, 1] - 2 * s[0, 1]
    assert variance > 1e-12
    return {"name": name, "a": scores[0].tolist(), "b": scores[1].tolist(), "truth": truth.tolist(), "auc": auc.tolist(),
            "variance": np.diag(s).tolist(), "difference": difference, "difference_variance": variance,
            "p": 2 * stats.norm.sf(abs(difference) / np.sqrt(variance))}


def ovarian():
    table = np.array(OVARIAN.split(), float).reshape(-1, 4)
    albumin, protein, score, helped = table.T
    cases = [delong("albumin and K-G", albumin, -score, helped == 1), delong("protein and K-G", protein, -score, helped == 1)]
    # As SAS/STAT's PROC LOGISTIC prints them (User's Guide, "Comparing Receiver Operating Characteristic Curves").
    published = [((0.7366, 0.7258), (0.0927, 0.1028), 0.0127), ((0.6478, 0.7258), (0.1000, 0.1028), 0.5554)]
    for case, (auc, error, chi2) in zip(cases, published):
        assert np.allclose(case["auc"], auc, atol=5e-5), case["auc"]
        assert np.allclose(np.sqrt(case["variance"]), error, atol=5e-5), case["variance"]
        assert np.isclose(case["difference"]**2 / case["difference_variance"], chi2, atol=5e-5)
        case["published"] = {"auc": auc, "standard_error": error, "chi2": chi2}
    return cases


def paired(name, a, b, groups):
    """Obuchowski and Rockette's analysis of variance of the mean per case, arm x seed, with jackknife covariances by group;
    `a` and `b` are [seed, case]."""
    scores, groups = np.array([a, b], float), np.asarray(groups)
    arms, k = 2, scores.shape[1]
    theta = scores.mean(2)
    names = np.unique(groups)
    left_out = np.array([scores[:, :, groups != g].mean(2) for g in names]).reshape(len(names), -1)
    cov = (len(names) - 1)**2 / len(names) * np.cov(left_out.T)
    cov = cov.reshape(arms, k, arms, k)
    grand, by_arm, by_seed = theta.mean(), theta.mean(1, keepdims=True), theta.mean(0, keepdims=True)
    ms_t = k * ((by_arm - grand)**2).sum() / (arms - 1)
    case = {"name": name, "a": scores[0].tolist(), "b": scores[1].tolist(), "groups": groups.tolist(),
            "difference": theta[0].mean() - theta[1].mean()}
    if k > 1:
        ms_tr = ((theta - by_arm - by_seed + grand)**2).sum() / ((arms - 1) * (k - 1))
        others = [(i, j) for i in range(k) for j in range(k) if i != j]
        cov2 = np.mean([cov[t, i, t, j] for t in range(arms) for i, j in others])
        cov3 = np.mean([cov[t, i, 1 - t, j] for t in range(arms) for i, j in others])
        error = ms_tr + max(k * (cov2 - cov3), 0)
        df = error**2 / (ms_tr**2 / ((arms - 1) * (k - 1)))
        p = stats.f.sf(ms_t / error, 1, df)
        variance = 2 / k * error
    else:
        variance, df = cov[0, 0, 0, 0] + cov[1, 0, 1, 0] - 2 * cov[0, 0, 1, 0], len(names) - 1
        p = stats.f.sf(case["difference"]**2 / variance, 1, df)
    reach = stats.t.ppf(0.975, df) * np.sqrt(variance)
    return case | {"p": p, "interval": [case["difference"] - reach, case["difference"] + reach]}


def seeds_and_cases(k, n, per_group, arm=0.0, seed=0.02, patient=0.3):
    """Scores of two arms: an effect of the arm, of each training, of each patient and of both."""
    groups = np.repeat(np.arange(-(-n // per_group)), per_group)[:n]
    shared = rng.normal(size=groups.max() + 1) * patient
    of_arm = rng.normal(size=(2, 1, groups.max() + 1)) * patient / 2
    scores = (shared + of_arm)[:, :, groups] + rng.normal(size=(2, k, 1)) * seed + rng.normal(size=(2, k, n)) * 0.1
    return scores[0] + arm, scores[1], rng.permutation(groups.max() + 1)[groups]


def resampled(name, values):
    values = np.asarray(values, float)
    ends = {}
    for method in ["percentile", "BCa"]:
        found = stats.bootstrap((values,), np.mean, n_resamples=40000, method=method, rng=np.random.default_rng(1))
        ends[method.lower()] = list(found.confidence_interval)
    return {"name": name, "values": values.tolist(), **ends}


def interval_of_draws(name, draws, estimate, left_out):
    """The BCa interval of given draws, by SciPy's own functions."""
    from scipy.stats._resampling import _percentile_of_score
    bias = stats.norm.ppf(_percentile_of_score(np.asarray(draws), np.asarray([estimate]), axis=-1, xp=np))
    deviation = np.mean(left_out) - left_out
    acceleration = (deviation**3).sum() / (6 * (deviation**2).sum()**1.5)
    z = bias + stats.norm.ppf([0.025, 0.975])
    shares = stats.norm.cdf(bias + z / (1 - acceleration * z))
    return {"name": name, "draws": draws.tolist(), "estimate": estimate, "left_out": left_out.tolist(),
            "bca": np.quantile(draws, shares).tolist(), "percentile": np.quantile(draws, [0.025, 0.975]).tolist()}


normal = rng.normal
ties = lambda n, shift=0.0: np.round(normal(size=n) * 2 + shift) / 2
skewed = rng.exponential(size=30)
draws = rng.choice(skewed, (400, 30)).mean(1)
truth = rng.random(60) < 0.4
fine = normal(size=60) + truth
a, b = rng.random(5), rng.random(5)

fixture = {
    "versions": {"scipy": scipy.__version__, "statsmodels": statsmodels.__version__},
    "signed_ranks": [
        signed_ranks("one", [0.3]),
        signed_ranks("two", [0.3, -0.1]),
        signed_ranks("three seeds, all up", [0.01, 0.02, 0.04]),
        signed_ranks("five seeds", normal(size=5) + 0.5),
        signed_ranks("ten", normal(size=10) + 0.3),
        signed_ranks("fifty, the last exact", normal(size=50) + 0.2),
        signed_ranks("fifty-one, normal", normal(size=51) + 0.2),
        signed_ranks("ties", [1, 1, 2, -2, 3, -1, 2]),
        signed_ranks("zeros and ties", [0, 0, 1, 1, 2, -2, 3, -1, 2]),
        signed_ranks("thirteen with a zero, the last exact", [0, *(normal(size=12) + 0.4)]),
        signed_ranks("fourteen with a zero, normal", [0, *(normal(size=13) + 0.4)]),
        signed_ranks("fourteen with ties, normal", ties(14, 0.8)),
        signed_ranks("many ties", ties(200, 0.2)),
        signed_ranks("far", normal(size=400) + 0.6),
        signed_ranks("all equal", [0.5] * 6),
        signed_ranks("all zero", [0.0] * 5),
    ],
    "rank_sums": [
        rank_sums("one and one", [1], [2]),
        rank_sums("three and three, apart", [1, 2, 3], [4, 5, 6]),
        rank_sums("five and five", a, b + 0.2),
        rank_sums("eight and thirty, exact", normal(size=8) + 1, normal(size=30)),
        rank_sums("nine and nine, normal", normal(size=9) + 1, normal(size=9)),
        rank_sums("five and five with a tie", [1, 2, 3, 4, 5], [5, 6, 7, 8, 3.5]),
        rank_sums("two values", [0, 0, 1, 1, 1, 0], [1, 1, 1, 1, 0]),
        rank_sums("all equal", [2, 2, 2], [2, 2]),
        rank_sums("many ties", ties(80, 0.3), ties(60)),
        rank_sums("far", normal(size=90) + 1, normal(size=120)),
    ],
    "holm": [{"p": p, "adjusted": multipletests(p, method="holm")[1].tolist()} for p in
             [[0.04], [0.01, 0.04, 0.03, 0.005], [0.02, 0.02, 0.02], [0.9, 0.8, 0.001, 1.0], rng.random(12).tolist()]],
    "delong": ovarian() + [
        delong("fine scores", fine, fine + normal(size=60), truth),
        delong("tied scores", np.round(fine), np.round(fine * 2) / 2, truth),
        delong("two and two", [0.9, 0.4, 0.5, 0.1], [0.9, 0.8, 0.2, 0.85], [1, 1, 0, 0]),
        delong("perfect and poor", truth.astype(float), normal(size=60), truth),
        delong("reversed", -fine, fine, truth),
    ],
    "paired": [
        paired("three seeds", *seeds_and_cases(3, 40, 1)),
        paired("five seeds, patients", *seeds_and_cases(5, 60, 3, arm=0.05)),
        paired("two seeds, no variance of cases", *seeds_and_cases(2, 30, 2, seed=0.5, patient=0.0)),
        paired("one seed, patients", *seeds_and_cases(1, 50, 4, arm=0.1)),
    ],
    "bootstrap": [resampled("skewed", skewed), resampled("normal", normal(size=40))],
    "draws": [interval_of_draws("skewed", draws, skewed.mean(), (skewed.sum() - skewed) / 29)],
}

path = Path(__file__).parent.parent / "tests/fixtures/statistics.json"
path.write_text(json.dumps(fixture, indent=None).replace('{"name"', '\n{"name"') + "\n")
print(f"{path}: {path.stat().st_size} bytes")
