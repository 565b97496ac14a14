"""Training images a second on one core, from JPEG files to augmented batches, with PyTorch's DataLoader and torchvision, and ours beside it.

    python benches/peer/loading.py FOLDER [--size 112] [--rounds 3]

FOLDER has one folder a class, or Training/ and Testing/ with them; the training images are read. Both decode to gray, scale to SIZE (antialiased
bilinear), flip (p 0.5), rotate by up to 15 degrees (bilinear, black outside), change brightness (0.8 to 1.2) and contrast (0.8 to 1.3), and end with
batches of 32 in [0, 1] of three channels. torchvision does so in two ways: on tensors (`decode_image`, which is libjpeg-turbo, and transforms v2), and on
Pillow's images. All run in the main thread, and processor time is what counts, so that other work on the machine does not; rounds alternate.
"""

import argparse
import os
import re
import statistics
import subprocess
import time
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import InterpolationMode, v2

BILINEAR = InterpolationMode.BILINEAR


class Images(Dataset):
    def __init__(self, files, size, tensors):
        self.files, self.tensors = files, tensors
        self.vary = v2.Compose([
            v2.Resize(size, BILINEAR, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomRotation(15, BILINEAR),
            v2.ColorJitter(brightness=(0.8, 1.2), contrast=(0.8, 1.3)),
        ])
        self.finish = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        if self.tensors:
            image = decode_image(str(self.files[index]), ImageReadMode.GRAY)
        else:
            with Image.open(self.files[index]) as file:
                image = file.convert("L")
        return self.finish(self.vary(image)).repeat(3, 1, 1)


def theirs(files, size, tensors):
    loader = DataLoader(Images(files, size, tensors), batch_size=32, shuffle=True)
    start = time.process_time()
    images = sum(len(batch) for batch in loader)
    return images / (time.process_time() - start)


def ours(folder, size):
    command = ["cargo", "test", "--release", "--test", "data", "--", "--ignored", "--nocapture", "augmented_images_per_second"]
    environment = os.environ | {"IMAGE_FOLDER": str(folder.resolve()), "SIZE": str(size), "RAYON_NUM_THREADS": "1"}
    root = Path(__file__).resolve().parents[2]
    output = subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True, text=True).stdout
    return float(re.search(r"(\d+) images/s of processor time", output)[1])


def main():
    parser = argparse.ArgumentParser(description="Training images a second on one core.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    training = args.folder / "Training"
    files = sorted((training if training.is_dir() else args.folder).glob("*/*.jp*g"))
    ways = {
        "ours": lambda: ours(args.folder, args.size),
        "torchvision, tensors": lambda: theirs(files, args.size, True),
        "torchvision, Pillow": lambda: theirs(files, args.size, False),
    }
    rates = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, measure in ways.items():
            rates[name].append(measure())
    print(f"{len(files)} images, {args.size} px, images/s of processor time: median (least to most)")
    for name, all_rates in rates.items():
        print(f"{name:22} {statistics.median(all_rates):7.0f}  ({min(all_rates):.0f} to {max(all_rates):.0f})")


if __name__ == "__main__":
    main()
