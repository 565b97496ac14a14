"""The brain tumour recipe in PyTorch: ResNet18 from random weights, for accuracy and wall time beside ours.

    python benches/peer/brain_tumor.py --data FOLDER [--seed 0] [--epochs 12] [--steps 0]

FOLDER has `Training/<class>/*` and `Testing/<class>/*`; without --data ../shared/data/brain_tumor_mri is taken if it is there.
Images become gray, fit 112 x 112 with aspect kept (antialiased bilinear, centred zero padding), are repeated to three channels and
stay in [0, 1] (--imagenet: normalised with ImageNet's statistics). Training images are flipped (p 0.5), rotated by up to 15 degrees
(bilinear, black outside), brightened (0.8 to 1.2) and changed in contrast (0.8 to 1.3 about the mean), in this order, by Pillow on 8 bits,
which is faster than torchvision on tensors. Batch 32, the last partial batch included; AdamW 1e-3, weight decay 1e-2; one-cycle
over all steps without cycling of momentum; cross-entropy; channels_last.

Output: one JSON line an epoch (mean training loss, test accuracy, seconds of training and of testing), then one with the total. The total starts after
the imports and covers reading, training and testing. --steps N stops after N training steps and tests nothing: a trial.
"""

import argparse
import json
import random
import sys
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
ENDINGS = {".png", ".jpg", ".jpeg"}


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


class Folder(Dataset):
    def __init__(self, root, training, imagenet):
        classes = sorted(d.name for d in root.iterdir() if d.is_dir())
        self.files = [(f, i) for i, c in enumerate(classes) for f in sorted((root / c).iterdir()) if f.suffix.lower() in ENDINGS]
        self.classes, self.training, self.imagenet = classes, training, imagenet

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
    here = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "brain_tumor_mri"
    parser = argparse.ArgumentParser(description="The brain tumour recipe in PyTorch.")
    parser.add_argument("--data", type=Path, default=here if here.is_dir() else None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--imagenet", action="store_true", help="normalise with ImageNet's statistics")
    parser.add_argument("--steps", type=int, default=0, help="stop after so many steps (a trial)")
    options = parser.parse_args()
    if options.data is None or not (options.data / "Training").is_dir():
        sys.exit("no data: give --data FOLDER with Training/<class> and Testing/<class>")

    begin = time.perf_counter()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    training, testing = (Folder(options.data / part, part == "Training", options.imagenet) for part in ("Training", "Testing"))
    settings = dict(batch_size=32, num_workers=options.workers, worker_init_fn=seed_worker, persistent_workers=options.workers > 0)
    train_loader, test_loader = DataLoader(training, shuffle=True, **settings), DataLoader(testing, **settings)
    model = torchvision.models.resnet18(num_classes=len(training.classes)).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=1e-3, total_steps=options.epochs * len(train_loader), cycle_momentum=False)
    done = 0
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
        right = accuracy(model, test_loader)
        print(json.dumps({"epoch": epoch + 1, "loss": round(total / len(training), 4), "test_accuracy": round(right, 4),
                          "train_seconds": round(trained - start, 2), "test_seconds": round(time.perf_counter() - trained, 2)}), flush=True)
    print(json.dumps({"seed": options.seed, "epochs": options.epochs, "test_accuracy": round(right, 4),
                      "wall_seconds": round(time.perf_counter() - begin, 1), "torch": torch.__version__}))


if __name__ == "__main__":
    main()
