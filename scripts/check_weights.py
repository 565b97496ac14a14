"""Take weights of all ten networks from torchvision to the program and back.

    python scripts/check_weights.py target/release/roentgen [NETWORK...]

For each network a random state dict is saved by torch in the zip and in the legacy format. The program must find both equal,
start training from the first with `--strict --copy-head`, and leave weights that torchvision loads with `strict=True` and
that give the scores which `roentgen predict` writes. Needs torch, torchvision, safetensors, numpy and pillow.
"""

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file

NETWORKS = (
    "resnet18 resnet34 resnet50 vgg16 densenet121 inception_v3 efficientnet_b3 efficientnet_b4 mobilenet_v3_small mobilenet_v3_large"
).split()
CLASSES = ["left", "right"]
TOLERANCE = 1e-4


def run(*args):
    done = subprocess.run([str(arg) for arg in args], capture_output=True, text=True)
    assert done.returncode == 0, f"{args}\n{done.stdout}{done.stderr}"
    return done.stdout


def network(name):
    extra = {"init_weights": True} if name == "inception_v3" else {}
    return torchvision.models.get_model(name, weights=None, num_classes=len(CLASSES), **extra)


def check(program, name, folder):
    size = 96
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    for c in CLASSES:
        (folder / "data" / c).mkdir(parents=True)
        for i in range(8):
            Image.fromarray(rng.integers(0, 256, (size, size), dtype=np.uint8)).save(folder / "data" / c / f"{i}.png")
    start = network(name).eval()
    norms = [module for module in start.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        # Statistics that fit the weights: else scores are 0 and 1, which agree whatever the weights.
        for norm in norms:
            norm.train()
        for _ in range(30):
            start(torch.rand(8, 1, size, size).expand(-1, 3, -1, -1))
    state = start.state_dict()
    files = [folder / "zip.pth", folder / "legacy.pth"]
    for file, new in zip(files, [True, False]):
        torch.save(state, file, _use_new_zipfile_serialization=new)
    said = run(program, "weights", "diff", *files)
    assert "equal" in said or "same" in said, said
    out = folder / "run"
    recipe = f"--model {name} --size {size} --batch 4 --epochs 1 --lr 1e-6 --strict --copy-head".split()
    run(program, "finetune", "--data", folder / "data", "--weights", files[1], "--out", out, *recipe)
    image = folder / "data" / CLASSES[0] / "0.png"
    ours = next(csv.DictReader(run(program, "predict", out, image).splitlines()))
    ours = np.array([float(ours[f"score_{c}"]) for c in CLASSES])
    model = network(name)
    model.load_state_dict(load_file(out / "best.safetensors"), strict=True)
    gray = torch.from_numpy(np.array(Image.open(image), dtype=np.float32) / 255)
    with torch.no_grad():
        theirs = model.eval()(gray.expand(1, 3, size, size)).softmax(1)[0].numpy()
    # Of the logarithms, so that scores near 0 and 1 still say what the weights are.
    ours, theirs = np.log(ours), np.log(theirs)
    error = np.abs(ours - theirs).max() / max(1.0, np.abs(theirs).max())
    print(f"{name:20} {len(state):4} tensors  logarithms of scores {ours}  largest difference {error:.1e}", flush=True)
    assert error < TOLERANCE


def main():
    torch.set_num_threads(2)
    for name in sys.argv[2:] or NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            check(Path(sys.argv[1]).resolve(), name, Path(folder))


if __name__ == "__main__":
    main()
