"""Writes tests/fixtures/metrics.json: scores with ties and corner cases, and the metrics that others compute of them: classes,
labels and numbers by scikit-learn, masks by SciPy and MONAI.

Run: python scripts/make_metric_fixtures.py    (needs numpy, scipy, scikit-learn, torch, monai)
"""

import json
import warnings
from pathlib import Path

import monai
import numpy as np
import scipy
import sklearn
import torch
from scipy.ndimage import binary_erosion, distance_transform_edt
from scipy.stats import bootstrap
from sklearn.calibration import calibration_curve
from sklearn.metrics import (accuracy_score, average_precision_score, confusion_matrix, f1_score, log_loss,
                             mean_absolute_error, mean_squared_error, precision_recall_fscore_support, r2_score,
                             roc_auc_score, roc_curve)

warnings.simplefilter("ignore")
rng = np.random.default_rng(20261)


def noisy(labels, classes, skill):
    """Softmax scores that favour the truth, rounded to 1/16 so that many of them are tied."""
    logits = rng.normal(size=(len(labels), classes)) + skill * np.eye(classes)[labels]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    p = np.maximum(np.round(p * 16), 0) / 16
    p[:, 0] += 1 - p.sum(1)
    return np.clip(p, 0, 1)


def intervals(labels, predicted, classes):
    """SciPy's percentile intervals of accuracy and macro F1."""

    def macro_f1(t, p):
        return f1_score(t, p, labels=range(classes), average="macro", zero_division=0)

    found = {}
    for name, metric in {"accuracy": accuracy_score, "macro_f1": macro_f1}.items():
        ci = bootstrap((labels, predicted), metric, paired=True, vectorized=False, n_resamples=4000, method="percentile",
                       rng=np.random.default_rng(1)).confidence_interval
        found[name] = [ci.low, ci.high]
    return found


def case(name, labels, probabilities, with_intervals=False):
    labels, p = np.asarray(labels), np.asarray(probabilities, dtype=np.float32)
    classes = p.shape[1]
    predicted = p.argmax(1)
    precision, recall, f1, support = precision_recall_fscore_support(labels, predicted, labels=range(classes),
                                                                     zero_division=0)
    auc = [roc_auc_score(labels == c, p[:, c]) if 0 < (labels == c).sum() < len(labels) else None for c in range(classes)]
    present = [a for a in auc if a is not None]
    # scikit-learn clips to the epsilon of the scores' type; done here, so that the rest is computed in f64.
    epsilon = float(np.finfo(np.float32).eps)
    truth = np.clip(p.astype(np.float64)[np.arange(len(labels)), labels], epsilon, 1 - epsilon)
    return {
        "name": name,
        "labels": labels.tolist(),
        "probabilities": p.flatten().tolist(),
        "classes": classes,
        "accuracy": accuracy_score(labels, predicted),
        "chance": max(support) / len(labels),
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "f1": f1.tolist(),
        "support": [int(s) for s in support],
        "macro": [precision.mean(), recall.mean(), f1_score(labels, predicted, labels=range(classes), average="macro",
                                                            zero_division=0)],
        "auc": auc,
        "macro_auc": float(np.mean(present)) if present else None,
        "log_loss": log_loss(np.ones(len(labels)), np.stack([1 - truth, truth], 1), labels=[0, 1]),
        "confusion": confusion_matrix(labels, predicted, labels=range(classes)).tolist(),
        "intervals": intervals(labels, predicted, classes) if with_intervals else None,
    }


two = rng.integers(0, 2, 60)
four = rng.choice(4, 160, p=[0.45, 0.3, 0.2, 0.05])
absent = rng.choice([0, 1, 3], 40)
cases = [
    case("two classes", two, noisy(two, 2, 1.0)),
    case("four classes", four, noisy(four, 4, 1.5), with_intervals=True),
    case("an absent class", absent, noisy(absent, 4, 1.0)),
    case("a constant predictor", four[:50], np.tile([0.25, 0.5, 0.125, 0.125], (50, 1))),
    case("one sample", [1], [[0.25, 0.5, 0.25]]),
    case("sure and right", [0, 1, 1], [[1, 0], [0, 1], [0, 1]]),
    case("sure and wrong", [1, 0], [[1, 0], [0, 1]]),
]


def label_case(name, truth, p, threshold, with_interval=False):
    """One label: ranking, calibration over ten bins, and what a threshold separates."""
    truth, p = np.asarray(truth, bool), np.asarray(p, np.float32)
    both = 0 < truth.sum() < len(truth)
    predicted = p >= np.float32(threshold)
    precision, sensitivity, f1, _ = precision_recall_fscore_support(truth, predicted, average="binary", zero_division=0)
    fpr, tpr, thresholds = roc_curve(truth, p, drop_intermediate=False) if both else ([], [], [])
    bins = np.linspace(0, 1, 11)
    member = np.searchsorted(bins[1:-1], p.astype(np.float64))
    counts = np.bincount(member, minlength=10)
    observed, predicted_mean = calibration_curve(truth, p.astype(np.float64), n_bins=10)
    epsilon = float(np.finfo(np.float32).eps)
    clipped = np.clip(p.astype(np.float64), epsilon, 1 - epsilon)
    interval = None
    if with_interval:
        ci = bootstrap((truth, p), roc_auc_score, paired=True, vectorized=False, n_resamples=4000, method="percentile",
                       rng=np.random.default_rng(1)).confidence_interval
        interval = [ci.low, ci.high]
    return {
        "name": name,
        "truth": truth.tolist(),
        "probabilities": p.tolist(),
        "threshold": threshold,
        "auc": roc_auc_score(truth, p) if both else None,
        "auc_interval": interval,
        "average_precision": average_precision_score(truth, p) if truth.any() else None,
        # The first point stands for a threshold above all scores.
        "roc": [[float(f), float(t)] for f, t in zip(fpr, tpr)][1:],
        "youden": float(thresholds[1:][np.argmax((tpr - fpr)[1:])]) if both else 0.5,
        "sensitivity": sensitivity,
        "specificity": float((~truth & ~predicted).sum() / (~truth).sum()) if (~truth).any() else 0.0,
        "precision": precision,
        "f1": f1,
        "observed": observed.tolist(),
        "predicted": predicted_mean.tolist(),
        "ece": float((counts[counts > 0] * np.abs(observed - predicted_mean)).sum() / len(p)),
        "log_loss": log_loss(truth, clipped, labels=[False, True]),
    }


def number_case(name, truth, predicted, with_intervals=False):
    """Errors of one number, and their limits of agreement."""
    truth, predicted = np.asarray(truth, float), np.asarray(predicted, float)
    errors = predicted - truth
    metrics = {
        "mae": mean_absolute_error,
        "rmse": lambda t, p: mean_squared_error(t, p) ** 0.5,
        "r2": r2_score,
    }
    found = {key: float(metric(truth, predicted)) for key, metric in metrics.items()}
    if with_intervals:
        for key, metric in metrics.items():
            ci = bootstrap((truth, predicted), metric, paired=True, vectorized=False, n_resamples=4000,
                           method="percentile", rng=np.random.default_rng(1)).confidence_interval
            found[f"{key}_interval"] = [ci.low, ci.high]
    sd = float(errors.std(ddof=1))
    bias = float(errors.mean())
    limits = [bias - 1.96 * sd, bias + 1.96 * sd]
    return {"name": name, "truth": truth.tolist(), "predictions": predicted.tolist(), **found, "bias": bias, "sd": sd,
            "limits": limits, "chance": mean_absolute_error(truth, np.full_like(truth, truth.mean()))}


def scipy_hd95(a, b):
    """95th percentile of the Hausdorff distance between the edges that a cross erodes."""
    if not a.any() and not b.any():
        return 0.0
    if not a.any() or not b.any():
        return None
    edges = [m ^ binary_erosion(m) for m in (a, b)]
    to = [distance_transform_edt(~edge) for edge in edges]
    return float(max(np.percentile(to[1][edges[0]], 95), np.percentile(to[0][edges[1]], 95)))


def mask_case(name, a, b):
    """Overlap and distance of two masks; where MONAI has a value it must be SciPy's."""
    hd95 = scipy_hd95(a, b)
    overlap, size = int((a & b).sum()), int(a.sum() + b.sum())
    if a.any() and b.any():
        theirs = monai.metrics.compute_hausdorff_distance(torch.tensor(b)[None, None], torch.tensor(a)[None, None],
                                                          include_background=True, percentile=95)
        assert abs(float(theirs) - hd95) < 1e-5, (name, float(theirs), hd95)
        dice = monai.metrics.compute_dice(torch.tensor(b)[None, None], torch.tensor(a)[None, None])
        assert abs(float(dice) - 2 * overlap / size) < 1e-6, name
    return {
        "name": name,
        "width": a.shape[1],
        "truth": "".join("01"[int(v)] for v in a.flatten()),
        "predicted": "".join("01"[int(v)] for v in b.flatten()),
        "dice": 2 * overlap / size if size else 1.0,
        "iou": overlap / (size - overlap) if size else 1.0,
        "hd95": hd95,
    }


def disc(y, x, radius, shape=(24, 30)):
    yy, xx = np.mgrid[:shape[0], :shape[1]]
    return (yy - y) ** 2 + (xx - x) ** 2 <= radius ** 2


truth = rng.random(80) < 0.3
scores = np.clip(np.round((0.25 + 0.3 * truth + 0.2 * rng.normal(size=80)) * 16) / 16, 0, 1)
fine = np.clip(0.3 + 0.25 * truth + 0.2 * rng.normal(size=80), 0, 1)
labels = [
    label_case("tied scores", truth, scores, 0.5, with_interval=True),
    label_case("no ties", truth, fine, 0.3141),
    label_case("no positives", np.zeros(9), fine[:9], 0.5),
    label_case("no negatives", np.ones(9), fine[:9], 0.5),
    label_case("one score for all", truth, np.full(80, 0.25), 0.25),
    label_case("sure and right", [0, 1, 1, 0], [0, 1, 1, 0], 0.5),
    label_case("sure and wrong", [0, 1, 1, 0], [1, 0, 0, 1], 0.5),
]
months = rng.uniform(10, 220, 60)
numbers = [
    number_case("months", months, 0.8 * months + 20 + 12 * rng.normal(size=60), with_intervals=True),
    number_case("exact", months[:5], months[:5]),
    number_case("a constant", months[:7], np.full(7, 100.0)),
]
empty = np.zeros((24, 30), bool)
speckled = disc(12, 15, 6) ^ (rng.random((24, 30)) < 0.03)
masks = [
    mask_case("two discs", disc(10, 12, 6), disc(12, 15, 5)),
    mask_case("the same", disc(10, 12, 6), disc(10, 12, 6)),
    mask_case("speckled", disc(12, 15, 6), speckled),
    mask_case("apart", disc(3, 3, 2), disc(20, 26, 3)),
    mask_case("at the border", disc(0, 0, 7), disc(1, 2, 7)),
    mask_case("everything", ~empty, disc(12, 15, 6)),
    mask_case("single pixels", disc(5, 5, 0), disc(8, 9, 0)),
    mask_case("both empty", empty, empty),
    mask_case("nothing found", disc(10, 12, 6), empty),
    mask_case("found where nothing is", empty, disc(10, 12, 6)),
]
origin = (f"scripts/make_metric_fixtures.py; scikit-learn {sklearn.__version__}, SciPy {scipy.__version__}, "
          f"MONAI {monai.__version__}")


def plain(value):
    return value.item() if isinstance(value, np.generic) else value


def lines(cases):
    return ",\n".join(json.dumps(c, default=plain, separators=(",", ":"), allow_nan=False) for c in cases)


path = Path(__file__).parent.parent / "tests/fixtures/metrics.json"
parts = {"cases": cases, "labels": labels, "numbers": numbers, "masks": masks}
body = ",\n".join(f'"{key}":[\n{lines(part)}\n]' for key, part in parts.items())
path.write_text(f'{{"origin":"{origin}",\n{body}}}\n')
