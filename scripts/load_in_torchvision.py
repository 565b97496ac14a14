"""Load a safetensors file into torchvision's network of that name, strictly, and run it once.

    python scripts/load_in_torchvision.py FILE resnet18
"""

import sys

import torch
import torchvision
from safetensors.torch import load_file

file, name = sys.argv[1:]
state = load_file(file)
head = [key for key in state if key.split(".")[0] in ("fc", "classifier") and key.endswith(".bias")]
classes = state[max(head)].shape[0]
model = torchvision.models.get_model(name, num_classes=classes)
model.load_state_dict(state, strict=True)
scores = model.eval()(torch.zeros(1, 3, 224, 224))
assert scores.isfinite().all()
print(f"{name}: {len(state)} tensors, {classes} classes, scores of a black image {scores.flatten()[:4].tolist()}")
