"""Frames a second that pydicom and this program read, decode, rescale and window (or color by a palette) on one core, by transfer syntax:

    python scripts/time_pydicom.py FOLDER [rounds]

Processor time is what counts, so that other work on the machine does not; rounds alternate, and the table has their medians. A rate is that of
all files of a syntax one after the other.
"""

import os
import re
import statistics
import subprocess
import sys
import time
import warnings
from collections import defaultdict
from pathlib import Path

import pydicom
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array

warnings.simplefilter("ignore")
SECONDS = 0.5
ROOT = Path(__file__).resolve().parent.parent
# What the two programs call a syntax.
NAMES = {
    "Implicit VR Little Endian": "uncompressed",
    "Explicit VR Little Endian": "uncompressed",
    "Explicit VR Big Endian": "uncompressed",
    "Deflated Explicit VR Little Endian": "deflated",
    "RLE Lossless": "RLE",
    "JPEG Baseline": "JPEG baseline",
    "JPEG Extended": "JPEG extended",
    "JPEG Lossless": "JPEG lossless",
    "JPEG-LS Lossless Image Compression": "JPEG-LS lossless",
    "JPEG-LS Lossy": "JPEG-LS near-lossless",
    "JPEG 2000 Image Compression": "JPEG 2000",
}


def read(path):
    ds = pydicom.dcmread(path, force=True)
    frames = int(ds.get("NumberOfFrames") or 1)
    array = pixel_array(ds, raw=True, index=frames // 2 if frames > 1 else None)
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        return apply_color_lut(array, ds)
    return apply_voi_lut(apply_modality_lut(array, ds), ds)


def theirs(paths):
    times = {}
    for path in paths:
        try:
            read(path)
        except Exception:
            continue
        start, clock, runs = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - start < SECONDS:
            read(path)
            runs += 1
        times[path] = (time.process_time() - clock) / runs
    return times


def ours(folder):
    command = ["cargo", "test", "--release", "--test", "data", "--", "--ignored", "--nocapture", "dicom_files_per_second"]
    environment = os.environ | {"DICOM_FOLDER": str(folder)}
    output = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout
    return {Path(path): float(ms) / 1e3 for ms, path in re.findall(r"^([\d.]+) ms (.*)$", output, re.M)}


def syntax(path):
    ds = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    uid = getattr(ds.file_meta, "TransferSyntaxUID", None)
    name = uid.name if uid else "Implicit VR Little Endian"
    return next((ours for theirs, ours in NAMES.items() if name.startswith(theirs)), name)


def main():
    folder = Path(sys.argv[1]).resolve()
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    paths = sorted(folder.glob("**/*.dcm"))
    times = [(ours(folder), theirs(paths)) for _ in range(rounds)]
    # Files that both read.
    groups = defaultdict(list)
    for path in set.intersection(*(set(side) for round in times for side in round)):
        groups[syntax(path)].append(path)
        groups["all"].append(path)
    print(f"{'':24} files  ours, frames/s   pydicom   ratio")
    for name, group in sorted(groups.items()):
        rates = [[len(group) / sum(side[path] for path in group) for side in round] for round in times]
        us, them = (statistics.median(side) for side in zip(*rates))
        ratio = statistics.median(us / them for us, them in rates)
        print(f"{name:24} {len(group):5}  {us:14.1f}  {them:8.1f}  {ratio:6.1f}")


if __name__ == "__main__":
    main()
