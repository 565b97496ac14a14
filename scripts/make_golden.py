"""Make `tests/fixtures/golden/*.json`: what PyTorch and torchvision compute, in float64, for the nets and ops that we have.

    python scripts/make_golden.py              every net of NETS, and ops.json
    python scripts/make_golden.py resnet18     only the named ones (`ops` for ops.json)

Needs torch and torchvision (made with torch 2.15.0, torchvision 0.29.2, CPU). Weights and inputs are no files: both sides
compute them with `hash_values` below, an integer hash of a tensor's name and a flat index in torch's order.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

OUT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "golden"
MADE_BY = f"scripts/make_golden.py, torch {torch.__version__.split('+')[0]}, torchvision {torchvision.__version__.split('+')[0]}, float64 on the CPU"
CLASSES = 10
SIZES = [(64, 64), (96, 80)]  # height, width
MASK = (1 << 64) - 1

# One row a net: constructor, the eight parameters whose gradients are stored, two batch norms whose statistics are. `input` is
# the hash name of the input: one for which no unit sits within float32 rounding of a kink, where a gradient jumps by percents.
# The learning rates keep the ten losses apart from zero and alike in float32 and float64 (`f32_gap`).
NETS = {
    "resnet18": dict(
        build=torchvision.models.resnet18,
        gradients=["conv1.weight", "bn1.weight", "layer1.0.conv2.weight", "layer2.0.downsample.0.weight",
                   "layer2.0.downsample.1.bias", "layer4.1.bn2.weight", "fc.weight", "fc.bias"],
        norms=["bn1", "layer3.0.downsample.1"],
        input="input.2", sgd_rate=3e-4, adamw_rate=3e-5,
    ),
    "mobilenet_v3_small": dict(
        build=torchvision.models.mobilenet_v3_small,
        gradients=["features.0.0.weight", "features.1.block.0.0.weight", "features.1.block.1.fc1.weight",
                   "features.4.block.1.0.weight", "features.4.block.2.fc2.bias", "features.8.block.0.1.weight",
                   "features.12.1.bias", "classifier.3.weight"],
        norms=["features.0.1", "features.9.block.1.1"],
        input="input.2", sgd_rate=1e-2, adamw_rate=3e-4,
    ),
}

FORMAT = [
    "hash: fnv1a64(s) over UTF-8; mix(z) = splitmix64 finaliser; hash(name,i) = mix(fnv1a64(name) + (i+1)*0x9E3779B97F4A7C15), wrapping;"
    " unit = (hash >> 40) / 2^24; v(name,i) = 2*unit - 1; i is the flat index in torch's order (OIHW, [out,in], NCHW).",
    "weights: 4-d: v*1.4*sqrt(3/fan_in); 2-d: v*sqrt(3/fan_in); fan_in = product of shape[1:]; 1-d weight and running_var: 1+0.1v;"
    " every bias and running_mean: 0.1v; num_batches_tracked: 0. Input: v(input_name,i). Labels: (7i+3) % 10.",
    "cases: one forward and backward of the mean cross-entropy `loss` from those weights, batch 2; mode train: batch statistics, dropout p = 0."
    " loss_smoothed: the same logits, label_smoothing 0.1, class weights linspace(0.5, 1.5, 10), torch's weighted mean.",
    "gradients, by parameter name and `input`: l2, sum, `at` (flat torch-order indices) and `values` there. norms: after the step, train mode only.",
    "f32_gap: largest relative difference of the same case in torch's own float32 (of logits and each gradient: |a-b|_2/|b|_2).",
    "training: ten steps on one batch of 4 at 64 px, train mode, dropout p = 0, `losses` before each step.",
]


def fnv1a64(text):
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return h


def hashes(name, count):
    """The 64-bit hashes of `name` at flat indices 0..count."""
    i = np.arange(1, count + 1, dtype=np.uint64)
    z = np.uint64(fnv1a64(name)) + i * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def hash_values(name, shape):
    """Values in [-1, 1) for the tensor `name` of `shape`, float64."""
    unit = (hashes(name, math.prod(shape)) >> np.uint64(40)).astype(np.float64) / 2.0**24
    return torch.from_numpy((2 * unit - 1).reshape(shape))


def weight_values(name, shape):
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    v = hash_values(name, shape)
    if len(shape) >= 2:
        return v * ((1.4 if len(shape) == 4 else 1.0) * math.sqrt(3 / math.prod(shape[1:])))
    return 1 + 0.1 * v if name.endswith((".weight", ".running_var")) else 0.1 * v


def build(net, dtype):
    model = NETS[net]["build"](weights=None, num_classes=CLASSES).double()
    model.load_state_dict({k: weight_values(k, tuple(v.shape)) for k, v in model.state_dict().items()})
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model.to(dtype)


def batch(net, count, height, width, dtype):
    labels = torch.tensor([(7 * i + 3) % CLASSES for i in range(count)])
    return hash_values(NETS[net]["input"], (count, 3, height, width)).to(dtype), labels


def digits(x):
    """12 significant digits of a number, or of every element."""
    if isinstance(x, torch.Tensor) and x.dim() > 0:
        return [digits(v) for v in x.detach().double().flatten().tolist()]
    return float(f"{x.item() if isinstance(x, torch.Tensor) else x:.12g}")


def summary(t):
    n = t.numel()
    at = sorted({k * (n - 1) // 7 for k in range(8)})
    flat = t.detach().flatten()
    return {"l2": digits(flat.norm()), "sum": digits(flat.sum()), "at": at, "values": digits(flat[at])}


def smoothed(logits, labels):
    weights = torch.linspace(0.5, 1.5, CLASSES, dtype=logits.dtype)
    return F.cross_entropy(logits, labels, weight=weights, label_smoothing=0.1)


def forward_backward(net, mode, height, width, dtype):
    model = build(net, dtype).train(mode == "train")
    x, labels = batch(net, 2, height, width, dtype)
    x.requires_grad_(True)
    logits = model(x)
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    gradients = {name: model.get_parameter(name).grad for name in NETS[net]["gradients"]}
    gradients["input"] = x.grad
    return model, logits.detach(), loss.detach(), labels, gradients


def relative(a, b):
    return float((a.double() - b).norm() / b.norm())


def case(net, mode, height, width):
    model, logits, loss, labels, gradients = forward_backward(net, mode, height, width, torch.float64)
    _, logits32, loss32, _, gradients32 = forward_backward(net, mode, height, width, torch.float32)
    gaps = [relative(logits32, logits), relative(loss32, loss)] + [relative(gradients32[k], g) for k, g in gradients.items()]
    out = {"mode": mode, "height": height, "width": width, "batch": 2, "f32_gap": float(f"{max(gaps):.2g}"),
           "logits": digits(logits), "loss": digits(loss), "loss_smoothed": digits(smoothed(logits, labels)),
           "gradients": {k: summary(g) for k, g in gradients.items()}}
    if mode == "train":
        out["norms"] = {f"{n}.{s}": summary(model.get_buffer(f"{n}.{s}")) for n in NETS[net]["norms"] for s in ("running_mean", "running_var")}
    return out


def optimiser(kind, parameters, rate):
    if kind == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=1e-4)
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=1e-2)


def ten_losses(net, kind, rate, dtype):
    model = build(net, dtype).train()
    x, labels = batch(net, 4, 64, 64, dtype)
    opt = optimiser(kind, model.parameters(), rate)
    losses = []
    for _ in range(10):
        opt.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return losses


def training(net, kind):
    rate = NETS[net][f"{kind}_rate"]
    losses, losses32 = (ten_losses(net, kind, rate, d) for d in (torch.float64, torch.float32))
    gap = max(abs(a - b) / abs(a) for a, b in zip(losses, losses32))
    settings = {"momentum": 0.9, "weight_decay": 1e-4} if kind == "sgd" else {"betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 1e-2}
    return {"optimiser": kind, "rate": rate, **settings, "batch": 4, "height": 64, "width": 64, "f32_gap": float(f"{gap:.2g}"),
            "losses": [digits(v) for v in losses]}


def hash_check():
    """A few values of the hash, so that a wrong copy of it is told apart from a wrong net."""
    name = "input"
    return {"name": name, "fnv1a64": f"{fnv1a64(name):016x}", "hash": [f"{int(h):016x}" for h in hashes(name, 4)],
            "values": hash_values(name, (4,)).tolist()}


def net_fixture(net):
    model = build(net, torch.float64)
    norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    state = model.state_dict()
    return {
        "format": FORMAT, "made_by": MADE_BY, "net": net, "num_classes": CLASSES, "input_name": NETS[net]["input"], "hash_check": hash_check(),
        "batch_norm": {"eps": norm.eps, "momentum": norm.momentum},
        "parameters": sum(p.numel() for p in model.parameters()), "entries": len(state),
        "state_dict": [f"{k} {'x'.join(map(str, v.shape)) or 'scalar'}" for k, v in state.items()],
        "cases": [case(net, mode, h, w) for h, w in SIZES for mode in ("eval", "train")],
        "training": [training(net, kind) for kind in ("sgd", "adamw")],
    }


def f64(values):
    return torch.tensor(values, dtype=torch.float64)


def pointwise(function, points):
    x = f64(points).requires_grad_(True)
    y = function(x)
    y.sum().backward()
    return {"x": points, "y": digits(y), "gradient": digits(x.grad)}


def window_op(function, x, note):
    """A pooling op on an image, and its gradient for an output gradient of 1, 2, 3, ..."""
    x = f64(x)[None, None].requires_grad_(True)
    y = function(x)
    g = torch.arange(1.0, y.numel() + 1, dtype=torch.float64).reshape(y.shape)
    y.backward(g)
    return {"note": note, "x": [[digits(v) for v in row] for row in x.detach()[0, 0].tolist()], "y_shape": list(y.shape[2:]), "y": digits(y),
            "output_gradient": "1, 2, 3, ... in row order", "gradient": digits(x.grad)}


def loss_op(smoothing, weights):
    logits = f64([[2.0, -1.0, 0.5, 0.0], [0.1, 0.2, 0.3, 0.4], [-3.0, 4.0, 1.0, -1.0]]).requires_grad_(True)
    labels = [0, 2, 3]
    loss = F.cross_entropy(logits, torch.tensor(labels), weight=None if weights is None else f64(weights), label_smoothing=smoothing)
    loss.backward()
    return {"logits": logits.detach().tolist(), "labels": labels, "label_smoothing": smoothing, "class_weights": weights,
            "loss": digits(loss), "gradient": digits(logits.grad)}


def optimiser_op(kind, rate, weight_decay, **options):
    """Five steps from fixed gradients: parameter values after each."""
    p = nn.Parameter(f64([1.0, -2.0, 0.5, 0.0, 3.0]))
    make = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[kind]
    opt = make([p], lr=rate, weight_decay=weight_decay, **options)
    gradients, after = [], []
    for step in range(5):
        g = [round(0.1 * (k + 1) * (-1) ** (k + step) + 0.05 * step, 12) for k in range(5)]
        p.grad = f64(g)
        opt.step()
        gradients.append(g)
        after.append(digits(p))
    return {"optimiser": kind, "rate": rate, "weight_decay": weight_decay, **options, "start": [1.0, -2.0, 0.5, 0.0, 3.0],
            "gradients": gradients, "after": after}


def rates(make, steps, base):
    opt = torch.optim.SGD([nn.Parameter(f64([0.0]))], lr=base)
    schedule = make(opt)
    out = []
    for _ in range(steps):
        out.append(digits(opt.param_groups[0]["lr"]))
        opt.step()
        schedule.step() if len(out) < steps else None
    return out


def schedules():
    from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, OneCycleLR, SequentialLR
    base, steps, warmup = 1e-3, 20, 5

    def warm_cosine(opt):
        rise = LinearLR(opt, start_factor=1 / warmup, total_iters=warmup - 1)
        return SequentialLR(opt, [rise, CosineAnnealingLR(opt, T_max=steps - warmup, eta_min=0.0)], milestones=[warmup])

    return {
        "one_cycle": {
            "formula": "torch OneCycleLR, cosine, two phases: peak = pct_start*total - 1; a(x,y,f) = y + (x-y)/2*(1+cos(pi f));"
                       " t <= peak: a(max/div, max, t/peak); else a(max, max/div/final_div, (t-peak)/(total-1-peak)); momentum is not cycled",
            "max": base, "total": steps, "pct_start": 0.3, "div": 25, "final_div": 1e4,
            "rates": rates(lambda o: OneCycleLR(o, max_lr=base, total_steps=steps, pct_start=0.3, div_factor=25, final_div_factor=1e4,
                                                anneal_strategy="cos", cycle_momentum=False), steps, base)},
        "cosine_warmup": {
            "formula": "t < warmup: base*(t+1)/warmup; else min + (base-min)/2*(1+cos(pi (t-warmup)/(total-warmup)))",
            "base": base, "total": steps, "warmup": warmup, "min": 0.0, "rates": rates(warm_cosine, steps, base)},
        "cosine": {
            "formula": "the same with warmup = 0", "base": base, "total": steps, "warmup": 0, "min": 1e-5,
            "rates": rates(lambda o: CosineAnnealingLR(o, T_max=steps, eta_min=1e-5), steps, base)},
    }


def ops_fixture():
    ties = [[1, 1, 0, 2], [1, 1, 2, 2], [0, 3, 3, 3], [3, 3, 3, -1]]
    ramp = [[float(5 * r + c * c) for c in range(5)] for r in range(4)]
    return {
        "format": ["Conventions of single ops at kinks, ties and borders, float64; images are one channel, row order."],
        "made_by": MADE_BY,
        "relu": pointwise(F.relu, [-1.0, -1e-9, 0.0, 1e-9, 1.0]),
        "hardswish": pointwise(F.hardswish, [-4.0, -3.0, -2.999, -1.5, 0.0, 1.0, 2.999, 3.0, 4.0]),
        "hardsigmoid": pointwise(F.hardsigmoid, [-4.0, -3.0, -2.999, 0.0, 1.0, 2.999, 3.0, 4.0]),
        "max_pool": [
            window_op(lambda x: F.max_pool2d(x, 2), ties, "kernel 2, stride 2; a tie goes to the first in row order"),
            window_op(lambda x: F.max_pool2d(x, 3, 2, 1), ties, "kernel 3, stride 2, padding 1; overlapping windows, ties")],
        "avg_pool": [
            window_op(lambda x: F.avg_pool2d(x, 3, 2, 1), ramp, "kernel 3, stride 2, padding 1, count_include_pad true (torch's default)"),
            window_op(lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), ramp, "kernel 3, stride 2, padding 1, count_include_pad false")],
        "cross_entropy": [loss_op(s, w) for s in (0.0, 0.1) for w in (None, [0.5, 1.0, 2.0, 0.25])],
        "optimisers": [
            optimiser_op("sgd", 0.1, 0.01, momentum=0.0), optimiser_op("sgd", 0.1, 0.01, momentum=0.9),
            optimiser_op("adamw", 0.1, 0.01), optimiser_op("adamw", 0.01, 0.0)],
        "schedules": schedules(),
    }


def dump(value, depth=0):
    """JSON with one line for each leaf list and one for each scalar field: small, and a diff shows what moved."""
    flat = json.dumps(value, separators=(",", ":"))
    if not isinstance(value, (dict, list)) or (len(flat) <= 100 and depth):
        return flat
    if isinstance(value, list) and all(isinstance(v, (int, float)) for v in value):
        return flat
    pad = " " * (depth + 1)
    rows = [f"{json.dumps(k)}:{dump(v, depth + 1)}" for k, v in value.items()] if isinstance(value, dict) else [dump(v, depth + 1) for v in value]
    left, right = "{}" if isinstance(value, dict) else "[]"
    return left + "\n" + ",\n".join(pad + r for r in rows) + "\n" + " " * depth + right


def main():
    torch.set_num_threads(2)
    OUT.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or [*NETS, "ops"]:
        fixture = ops_fixture() if name == "ops" else net_fixture(name)
        path = OUT / f"{name}.json"
        path.write_text(dump(fixture) + "\n")
        print(f"{path.name}: {path.stat().st_size} bytes")
        for c in fixture.get("cases", []):
            print(f"  {c['mode']} {c['height']}x{c['width']}: loss {c['loss']}, float32 gap {c['f32_gap']}, logits {min(c['logits']):.3g}..{max(c['logits']):.3g}")
        for t in fixture.get("training", []):
            print(f"  {t['optimiser']}: float32 gap {t['f32_gap']}, losses {[round(v, 4) for v in t['losses']]}")


if __name__ == "__main__":
    main()
