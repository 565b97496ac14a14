"""Dice of whole nodules, their slices taken together, from the predictions of a run on scripts/lidc_patches.py's patches.

    python scripts/dice_by_nodule.py RUN/predictions.csv

Prints the mean over the nodules of each split with a 95 % interval (bootstrap over patients). Needs numpy.
"""

import csv
import sys
from collections import defaultdict

import numpy as np

nodules = defaultdict(lambda: [0.0, 0.0])
with open(sys.argv[1]) as table:
    for row in csv.DictReader(table):
        both = float(row["pixels_nodule"]) + float(row["predicted_nodule"])
        sums = nodules[row["split"], row["group"], row["path"].split("/")[1]]
        sums[0] += float(row["dice_nodule"]) * both
        sums[1] += both
splits = defaultdict(lambda: defaultdict(list))
for (split, patient, _), (overlap, both) in nodules.items():
    splits[split][patient].append(overlap / both)
for split, patients in splits.items():
    patients = list(patients.values())
    random = np.random.default_rng(1)
    draws = random.integers(len(patients), size=(10_000, len(patients)))
    means = [np.concatenate([patients[i] for i in draw]).mean() for draw in draws]
    low, high = np.percentile(means, [2.5, 97.5])
    dice = np.concatenate(patients)
    print(f"{split}: {dice.mean():.3f} ({low:.3f} to {high:.3f}) over {len(dice)} nodules of {len(patients)} patients")
