"""Cuts the middle out of LIDC-IDRI nodule patches, and leaves out slices that hardly anybody marked.

    python scripts/lidc_patches.py LIDC OUT [--side 64] [--raters 2]

LIDC is a folder with index.csv (split, patient, image, mask0 … mask3, paths relative to it), whose images show a nodule in their middle. OUT
gets the middle squares of --side pixels in the same folders, and an index.csv of the slices where at least --raters masks share a pixel;
with --raters 0 of all slices. Needs numpy and Pillow.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image

MASKS = ["mask0", "mask1", "mask2", "mask3"]

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("lidc", type=Path)
parser.add_argument("out", type=Path)
parser.add_argument("--side", type=int, default=64)
parser.add_argument("--raters", type=int, default=2)
options = parser.parse_args()


def middle(path):
    image = Image.open(options.lidc / path)
    left, top = ((length - options.side) // 2 for length in image.size)
    return image.crop((left, top, left + options.side, top + options.side))


with (options.lidc / "index.csv").open() as table:
    rows = list(csv.DictReader(table))
kept = []
for row in rows:
    squares = {row[column]: middle(row[column]) for column in ["image", *MASKS]}
    votes = sum(np.asarray(squares[row[mask]]) > 0 for mask in MASKS)
    if votes.max() < options.raters:
        continue
    kept.append(row)
    for path, square in squares.items():
        (options.out / path).parent.mkdir(parents=True, exist_ok=True)
        square.save(options.out / path)
with (options.out / "index.csv").open("w", newline="") as table:
    writer = csv.DictWriter(table, rows[0])
    writer.writeheader()
    writer.writerows(kept)
print(f"{len(kept)} of {len(rows)} slices in {options.out / 'index.csv'}")
