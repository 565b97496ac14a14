"""Runs exported networks in onnxruntime, and torchvision's networks on their weights, and compares the scores with ours.

    cargo test --test onnx -- --ignored      # writes target/onnx
    python scripts/check_onnx.py             # compares, and renews tests/fixtures/onnx.json

Needs onnx, onnxruntime, numpy, torch and torchvision.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import torchvision

ROOT = Path(__file__).resolve().parent.parent
# Of the largest score.
TOLERANCE = 1e-4


def scores(session, images, inputs):
    given = {"inputs": inputs} if inputs.size else {}
    return session.run(["logits"], {"images": images, **given})[0]


def torch_scores(name, model, images):
    """What torchvision's network of that name makes of the weights in `model`."""
    extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    network = getattr(torchvision.models, name)(num_classes=1000, **extra)
    weights = {t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in model.graph.initializer}
    known = network.state_dict()
    missing = [key for key in known if key not in weights and "num_batches" not in key and not key.lower().startswith("aux")]
    assert not missing, missing
    network.load_state_dict({key: weights[key] for key in known if key in weights}, strict=False)
    with torch.no_grad():
        return network.eval()(torch.from_numpy(images)).numpy()


def main():
    worst = 0.0
    for path in sorted((ROOT / "target/onnx").glob("*.onnx")):
        facts = json.loads(path.with_suffix(".json").read_text())
        images = np.array(facts["images"], dtype=np.float32).reshape(facts["shape"]).transpose(0, 3, 1, 2).copy()
        inputs = np.array(facts.get("inputs", []), dtype=np.float32).reshape(len(images), -1)
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        theirs = scores(session, images, inputs)
        # Ours are NHWC where every pixel has scores.
        n, classes, *pixels = theirs.shape
        ours = np.moveaxis(np.array(facts["logits"]).reshape(n, *pixels, classes), -1, 1)
        largest = np.abs(theirs).max()
        differences = {
            "batch 3": np.abs(ours - theirs).max() / largest,
            "batch 1": np.abs(ours[1:2] - scores(session, images[1:2], inputs[1:2])).max() / largest,
        }
        if hasattr(torchvision.models, path.stem):
            differences["torchvision"] = np.abs(ours - torch_scores(path.stem, model, images)).max() / largest
        print(f"{path.stem:24}", "  ".join(f"{name} {error:.1e}" for name, error in differences.items()))
        worst = max(worst, *differences.values())
        if path.stem == "every":
            fixture = {"sha256": facts["sha256"], "logits": [round(float(x), 7) for x in theirs.ravel()]}
            (ROOT / "tests/fixtures/onnx.json").write_text(json.dumps(fixture, indent=1) + "\n")
    sys.exit(0 if worst < TOLERANCE else f"more than {TOLERANCE} of the largest score apart")


if __name__ == "__main__":
    main()
