"""Frames a second that pydicom reads, decodes, rescales and windows on one core, by transfer syntax. Beside it:

    python scripts/time_pydicom.py FOLDER
    DICOM_FOLDER=FOLDER cargo test --release --test data -- --ignored --nocapture dicom_files_per_second
"""

import sys
import time
import warnings
from collections import defaultdict
from pathlib import Path

import pydicom
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array

warnings.simplefilter("ignore")
SECONDS = 0.25


def read(path):
    ds = pydicom.dcmread(path, force=True)
    frames = int(ds.get("NumberOfFrames") or 1)
    array = pixel_array(ds, raw=True, index=frames // 2 if frames > 1 else None)
    return ds, apply_voi_lut(apply_modality_lut(array, ds), ds)


times = defaultdict(list)
for path in sorted(Path(sys.argv[1]).glob("**/*.dcm")):
    try:
        ds, _ = read(path)
        name = ds.file_meta.TransferSyntaxUID.name.split(" (")[0].split(",")[0]
    except Exception:
        continue
    start, runs = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        read(path)
        runs += 1
    times[name].append((time.perf_counter() - start) / runs)
for name, seconds in sorted(times.items()):
    print(f"{name:32} {len(seconds):3} files  {len(seconds) / sum(seconds):8.1f} frames/s")
every = [s for seconds in times.values() for s in seconds]
print(f"{'all':32} {len(every):3} files  {len(every) / sum(every):8.1f} frames/s")
