"""Time reading ResNet50's weights, by `torch.load` and by this program, both with the files in the page cache.

    python scripts/time_loading.py [cargo options, say --release]

Needs torch and torchvision. Prints the median and the best of 12 of each, in turns of three rounds.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torchvision

ROUNDS, TIMES = 3, 12


def torch_times(file):
    times = []
    for _ in range(TIMES):
        start = time.perf_counter()
        state = torch.load(file, weights_only=True)
        times.append((time.perf_counter() - start) * 1e3)
        del state
    print(f"torch.load {file.name}: {statistics.median(times):.1f} ms, best {min(times):.1f} ms", flush=True)


def main():
    root = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / "resnet50.pth", Path(folder) / "resnet50_legacy.pth"]
        state = torchvision.models.resnet50().state_dict()
        for file, new in zip(files, [True, False]):
            torch.save(state, file, _use_new_zipfile_serialization=new)
        command = ["cargo", "test", *sys.argv[1:], "--test", "weights", "--", "--ignored", "--nocapture", "times"]
        environment = os.environ | {"ROENTGEN_TIME_FILES": ":".join(map(str, files))}
        for _ in range(ROUNDS):
            for file in files:
                torch_times(file)
            output = subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True, text=True).stdout
            print("\n".join(line for line in output.splitlines() if " ms" in line), flush=True)


if __name__ == "__main__":
    main()
