"""The brain tumour recipe in PyTorch: ResNet18 from random weights, for accuracy and wall time beside ours.

    python benches/peer/brain_tumor.py --data FOLDER --manifest RUN/manifest.csv [--seed 0] [--epochs 12] [--steps 0]

The manifest is the one that a run of ours on FOLDER left: the same images for training, validation and test. As in ours, an epoch
ends with the validation images, and the weights of the best epoch are tested; without any, those of the last.
Images become gray, fit 112 x 112 with aspect kept (antialiased bilinear, centred zero padding), are repeated to three channels and
stay in [0, 1] (--imagenet: normalised with ImageNet's statistics). Training images are flipped (p 0.5), rotated by up to 15 degrees
(bilinear, black outside), brightened (0.8 to 1.2) and changed in contrast (0.8 to 1.3 about the mean), in this order, by Pillow on 8 bits,
which is faster than torchvision on tensors. Batch 32, the last partial batch included; AdamW 1e-3, weight decay 1e-2; one-cycle
over all steps without cycling of momentum; cross-entropy; channels_last.

Output: one JSON line an epoch (mean training loss, validation accuracy, seconds of training and of validation), then one with the test
accuracy and the total. The total starts after the imports and covers everything. --steps N stops after N training steps: a trial.
"""

import argparse
import copy
import csv
import json
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image, ImageEnhance
from torch.utils.data import DataLoader, Dataset

SIZE = 112
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def fit(image):
    """Gray, longer side SIZE, centred on black."""
    gray = image.convert("L")
    scale = SIZE / max(gray.size)
    gray = gray.resize((max(1, round(gray.width * scale)), max(1, round(gray.height * scale))), Image.Resampling.BILINEAR)
    square = Image.new("L", (SIZE, SIZE))
    square.paste(gray, ((SIZE - gray.width) // 2, (SIZE - gray.height) // 2))
    return square


def augment(image):
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = image.rotate(random.uniform(-15, 15), Image.Resampling.BILINEAR)
    image = ImageEnhance.Brightness(image).enhance(random.uniform(0.8, 1.2))
    return ImageEnhance.Contrast(image).enhance(random.uniform(0.8, 1.3))


class Images(Dataset):
    def __init__(self, root, rows, split, imagenet):
        classes = sorted({row["label"] for row in rows})
        self.files = [(root / row["path"], classes.index(row["label"])) for row in rows if row["split"] == split]
        self.classes, self.training, self.imagenet = classes, split == "train", imagenet

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        path, label = self.files[index]
        with Image.open(path) as file:
            image = fit(file)
        if self.training:
            image = augment(image)
        channels = torch.from_numpy(np.array(image, dtype=np.float32) / 255).repeat(3, 1, 1)
        return (channels - MEAN) / STD if self.imagenet else channels, label


def seed_worker(_):
    random.seed(torch.initial_seed() % 2**32)


def accuracy(model, loader):
    model.eval()
    with torch.inference_mode():
        right = sum((model(x.contiguous(memory_format=torch.channels_last)).argmax(1) == y).sum().item() for x, y in loader)
    return right / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser(description="The brain tumour recipe in PyTorch.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--imagenet", action="store_true", help="normalise with ImageNet's statistics")
    parser.add_argument("--steps", type=int, default=0, help="stop after so many steps (a trial)")
    options = parser.parse_args()
    begin = time.perf_counter()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    with open(options.manifest, newline="") as file:
        rows = list(csv.DictReader(file))
    training, validation, testing = (Images(options.data, rows, split, options.imagenet) for split in ("train", "validation", "test"))
    settings = dict(batch_size=32, num_workers=options.workers, worker_init_fn=seed_worker, persistent_workers=options.workers > 0)
    train_loader = DataLoader(training, shuffle=True, **settings)
    validation_loader, test_loader = (DataLoader(images, **settings) for images in (validation, testing))
    model = torchvision.models.resnet18(num_classes=len(training.classes)).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=1e-3, total_steps=options.epochs * len(train_loader), cycle_momentum=False)
    done, best, weights = 0, -1.0, None
    for epoch in range(options.epochs):
        start = time.perf_counter()
        model.train()
        total = 0.0
        for x, labels in train_loader:
            loss = F.cross_entropy(model(x.contiguous(memory_format=torch.channels_last)), labels)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item() * len(labels)
            done += 1
            if done == options.steps:
                print(json.dumps({"steps": done, "loss": round(loss.item(), 4), "seconds": round(time.perf_counter() - start, 2)}))
                return
        trained = time.perf_counter()
        right = accuracy(model, validation_loader) if len(validation) else epoch
        if right > best:
            best, weights = right, copy.deepcopy(model.state_dict())
        print(json.dumps({"epoch": epoch + 1, "loss": round(total / len(training), 4), "validation_accuracy": round(right, 4) if len(validation) else None,
                          "train_seconds": round(trained - start, 2), "validation_seconds": round(time.perf_counter() - trained, 2)}), flush=True)
    model.load_state_dict(weights)
    print(json.dumps({"seed": options.seed, "epochs": options.epochs, "test_accuracy": round(accuracy(model, test_loader), 4),
                      "wall_seconds": round(time.perf_counter() - begin, 1), "torch": torch.__version__}))


if __name__ == "__main__":
    main()
