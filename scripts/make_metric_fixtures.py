"""Writes tests/fixtures/metrics.json: scores with ties and corner cases, and scikit-learn's metrics of them.

Run: python scripts/make_metric_fixtures.py    (needs numpy, scipy, scikit-learn)
"""

import json
import warnings
from pathlib import Path

import numpy as np
import scipy
import sklearn
from scipy.stats import bootstrap
from sklearn.metrics import (accuracy_score, confusion_matrix, f1_score, log_loss, precision_recall_fscore_support,
                             roc_auc_score)

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
origin = f"scripts/make_metric_fixtures.py; scikit-learn {sklearn.__version__}, SciPy {scipy.__version__}"


def plain(value):
    return value.item() if isinstance(value, np.generic) else value


path = Path(__file__).parent.parent / "tests/fixtures/metrics.json"
lines = ",\n".join(json.dumps(c, default=plain, separators=(",", ":")) for c in cases)
path.write_text(f'{{"origin":"{origin}",\n"cases":[\n{lines}\n]}}\n')
