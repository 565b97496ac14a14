"""Make `tests/fixtures/ops/*.safetensors`: what PyTorch computes, in float64, for the operations that no golden network covers.

    python scripts/make_ops.py

Needs torch and torchvision (made with torch 2.15.0, CPU). A file for each operation; in it, for each case, the inputs
`CASE.0`, `CASE.1`, …, the result `CASE.y`, the gradient that it receives `CASE.g`, and the gradients that it passes on,
`CASE.g0`, …. Images are NHWC and convolution weights [c, r, s, k], as the engine has them.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

OUT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "ops"


torch.manual_seed(1)


def images(f):
    """f of NCHW as a function of NHWC; 4-d weights come as [c, r, s, k] and go in as [c, k, r, s]."""
    return lambda *tensors: f(*(t.permute(0, 3, 1, 2) for t in tensors)).permute(0, 2, 3, 1)


def noise(*shape):
    return torch.empty(shape, dtype=torch.float64).uniform_(-2, 2)


# Without the generator, whose later numbers are the gradients of the other operations.
LARGELY_HIDDEN = (37 * torch.arange(60) % 61).double().reshape(1, 6, 5, 2)
LARGELY_HIDDEN[:, :4] = -torch.inf


def dice(logits, masks, smoothing, missed):
    p, y = torch.sigmoid(logits).flatten(1), masks.flatten(1)

    def loss(a, b):
        return 1 - (2 * (a * b).sum(1) + smoothing) / (a.sum(1) + b.sum(1) + smoothing)

    return (loss(p, y) + missed * loss(p * y, y)).mean()


def bilinear(size, corners):
    return images(lambda x: F.interpolate(x, size=size, mode="bilinear", align_corners=corners))


LABELS = torch.tensor([1, 0, 0.25, 1, 0, 0, 1, 0, 1, 1, 0, 0.5], dtype=torch.float64)

# operation -> case -> (function, differentiable inputs, other inputs)
OPS = {
    "activations": {
        "silu": (F.silu, [torch.linspace(-30, 30, 61, dtype=torch.float64)], []),
        "sigmoid": (torch.sigmoid, [torch.linspace(-30, 30, 61, dtype=torch.float64)], []),
    },
    "bilinear": {
        "up": (bilinear((7, 9), False), [noise(2, 3, 4, 3)], []),
        "up_aligned": (bilinear((7, 9), True), [noise(2, 3, 4, 3)], []),
        "down": (bilinear((3, 4), False), [noise(1, 11, 9, 2)], []),
        "down_aligned": (bilinear((3, 4), True), [noise(1, 11, 9, 2)], []),
        "both": (bilinear((2, 11), False), [noise(1, 5, 5, 2)], []),
        "doubled": (bilinear((8, 6), False), [noise(1, 4, 3, 2)], []),
        "one": (bilinear((1, 5), True), [noise(1, 4, 1, 2)], []),
    },
    "nearest": {"doubled": (images(lambda x: F.interpolate(x, scale_factor=2, mode="nearest")), [noise(2, 3, 2, 3)], [])},
    "adaptive_avg_pool": {
        "down": (images(lambda x: F.adaptive_avg_pool2d(x, (7, 7))), [noise(1, 10, 15, 2)], []),
        "up": (images(lambda x: F.adaptive_avg_pool2d(x, (7, 7))), [noise(2, 3, 2, 2)], []),
        "odd": (images(lambda x: F.adaptive_avg_pool2d(x, (3, 4))), [noise(1, 5, 7, 3)], []),
    },
    "crop_or_pad": {
        "pad": (images(lambda x: F.pad(x, (2, 1, 1, 3))), [noise(2, 3, 4, 2)], []),
        "both": (images(lambda x: F.pad(x, (-2, 1, 1, -1))), [noise(1, 4, 5, 2)], []),
    },
    "concat": {"three": (lambda *x: torch.cat(x, 3), [noise(2, 2, 3, c) for c in (3, 8, 5)], [])},
    "conv_transpose2d": {
        "2x2_s2": (images(lambda x, w: F.conv_transpose2d(x, w, stride=2)), [noise(2, 3, 4, 5), noise(5, 2, 2, 3)], []),
        "4x4_s2_p1": (images(lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1)), [noise(1, 3, 2, 2), noise(2, 4, 4, 3)], []),
    },
    "losses": {
        "bce": (
            lambda x, y, w, v: F.binary_cross_entropy_with_logits(x, y, weight=w, pos_weight=v),
            [20 * noise(4, 3)],
            [LABELS.reshape(4, 3), torch.tensor([0.5, 1, 2.5], dtype=torch.float64), torch.tensor([3, 1, 0.2], dtype=torch.float64)],
        ),
        "mse": (F.mse_loss, [noise(6, 2)], [noise(6, 2)]),
        "l1": (F.l1_loss, [noise(6, 2)], [noise(6, 2)]),
        "huber": (lambda x, y: F.huber_loss(x, y, delta=0.75), [noise(6, 2)], [noise(6, 2)]),
        "dice": (lambda x, y: dice(x, y, 1.0, 0.0), [noise(3, 2, 2, 1)], [LABELS.reshape(3, 2, 2, 1)]),
        "dice_missed": (lambda x, y: dice(x, y, 1.0, 8.0), [noise(3, 2, 2, 1)], [LABELS.reshape(3, 2, 2, 1)]),
        # Weights 1 - alpha, and alpha / (1 - alpha) of the positive part.
        "focal": (
            lambda x, y, w, v: sigmoid_focal_loss(x, y, alpha=0.25, gamma=2, reduction="mean"),
            [torch.linspace(-9, 9, 12, dtype=torch.float64).reshape(4, 3)],
            [(LABELS > 0.3).double().reshape(4, 3), torch.full((3,), 0.75, dtype=torch.float64), torch.full((3,), 1 / 3, dtype=torch.float64)],
        ),
    },
    "max_pool": {
        "minus_infinity": (images(lambda x: F.max_pool2d(x, 3, 2, 1)), [LARGELY_HIDDEN], []),
    },
}


def tensors(function, inputs, others):
    leaves = [x.clone().requires_grad_(True) for x in inputs]
    y = function(*leaves, *others)
    g = noise(*y.shape)
    y.backward(g)
    named = {str(i): x for i, x in enumerate(inputs + others)} | {"y": y.detach(), "g": g}
    return named | {f"g{i}": x.grad for i, x in enumerate(leaves)}


def save(path, named):
    """The safetensors format: the length of a JSON header, the header, the elements."""
    header, end = {}, 0
    for name, t in named.items():
        header[name] = {"dtype": "F64", "shape": list(t.shape), "data_offsets": [end, end := end + 8 * t.numel()]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(t.numpy().tobytes() for t in named.values()))


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for op, cases in OPS.items():
        named = {f"{case}.{k}": t.contiguous() for case, how in cases.items() for k, t in tensors(*how).items()}
        # A number has one element in the engine.
        save(OUT / f"{op}.safetensors", {k: t.reshape(1) if t.dim() == 0 else t for k, t in named.items()})


if __name__ == "__main__":
    main()
