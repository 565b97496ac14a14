"""Make `tests/fixtures/golden/*.json`: what PyTorch and torchvision compute, in float64, for the nets and ops that we have.

    python scripts/make_golden.py              every net of NETS, ops.json and grad_cam.json
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
AUXILIARY_SIZE = 299  # least size at which inception_v3's auxiliary head has an image to look at
MASK = (1 << 64) - 1

# One row a net: constructor, the eight parameters whose gradients are stored, two batch norms whose statistics are.
# The learning rates keep the ten losses apart from zero and alike in float32 and float64 (`f32_gap`).
NETS = {
    "resnet18": dict(
        build=torchvision.models.resnet18,
        gradients=["conv1.weight", "bn1.weight", "layer1.0.conv2.weight", "layer2.0.downsample.0.weight",
                   "layer2.0.downsample.1.bias", "layer4.1.bn2.weight", "fc.weight", "fc.bias"],
        norms=["bn1", "layer3.0.downsample.1"],
        training_input="input.2", sgd_rate=3e-4, adamw_rate=3e-5,
    ),
    "mobilenet_v3_small": dict(
        build=torchvision.models.mobilenet_v3_small,
        gradients=["features.0.0.weight", "features.1.block.0.0.weight", "features.1.block.1.fc1.weight",
                   "features.4.block.1.0.weight", "features.4.block.2.fc2.bias", "features.8.block.0.1.weight",
                   "features.12.1.bias", "classifier.3.weight"],
        norms=["features.0.1", "features.9.block.1.1"],
        training_input="input.2", sgd_rate=1e-2, adamw_rate=3e-4,
    ),
    "resnet34": dict(
        build=torchvision.models.resnet34,
        gradients=["conv1.weight", "bn1.bias", "layer1.2.conv2.weight", "layer2.3.bn1.weight", "layer3.0.downsample.0.weight",
                   "layer3.5.conv1.weight", "layer4.2.bn2.bias", "fc.weight"],
        norms=["layer2.0.bn1", "layer4.2.bn2"],
    ),
    "resnet50": dict(
        build=torchvision.models.resnet50, norm_bias=1.0,
        gradients=["conv1.weight", "bn1.weight", "layer1.0.conv3.weight", "layer1.0.downsample.1.bias", "layer2.0.conv2.weight",
                   "layer3.5.bn3.weight", "layer4.0.downsample.0.weight", "fc.bias"],
        norms=["layer1.0.bn3", "layer4.0.downsample.1"],
    ),
    "vgg16": dict(
        build=torchvision.models.vgg16,
        gradients=["features.0.weight", "features.0.bias", "features.5.weight", "features.17.bias", "features.28.weight",
                   "classifier.0.weight", "classifier.3.bias", "classifier.6.weight"],
        norms=[], modes=["eval"],  # without dropout both are the same
    ),
    "efficientnet_b3": dict(
        build=torchvision.models.efficientnet_b3, sizes=[(128, 128), (160, 96)],
        gradients=["features.0.0.weight", "features.1.0.block.1.fc1.weight", "features.2.0.block.0.0.weight", "features.3.1.block.1.0.weight",
                   "features.4.2.block.2.fc2.bias", "features.6.0.block.3.1.weight", "features.8.1.bias", "classifier.1.weight"],
        norms=["features.1.1.block.2.1", "features.7.1.block.0.1"],
    ),
    "efficientnet_b4": dict(
        build=torchvision.models.efficientnet_b4, sizes=[(128, 128), (160, 96)],
        gradients=["features.0.1.weight", "features.1.0.block.0.0.weight", "features.2.0.block.2.fc1.bias", "features.3.3.block.3.0.weight",
                   "features.5.1.block.2.fc2.weight", "features.6.7.block.1.0.weight", "features.8.0.weight", "classifier.1.bias"],
        norms=["features.2.3.block.1.1", "features.7.1.block.3.1"],
    ),
    "inception_v3": dict(
        build=lambda **options: torchvision.models.inception_v3(init_weights=False, **options), norm_bias=1.0,
        gradients=["Conv2d_1a_3x3.conv.weight", "Mixed_5b.branch_pool.bn.weight", "Mixed_5d.branch5x5_2.conv.weight",
                   "Mixed_6a.branch3x3dbl_3.conv.weight", "Mixed_6c.branch7x7dbl_2.conv.weight", "Mixed_7a.branch7x7x3_3.bn.bias",
                   "Mixed_7c.branch3x3dbl_3b.conv.weight", "fc.weight"],
        norms=["Mixed_5b.branch1x1.bn", "Mixed_7b.branch3x3_2a.bn"],
        sizes=[(139, 155), (299, 299)],
    ),
    "densenet121": dict(
        build=torchvision.models.densenet121, norm_bias=0.3,
        gradients=["features.conv0.weight", "features.norm0.bias", "features.denseblock1.denselayer2.norm1.weight",
                   "features.denseblock2.denselayer12.conv1.weight", "features.transition2.conv.weight",
                   "features.denseblock3.denselayer20.conv2.weight", "features.norm5.weight", "classifier.weight"],
        norms=["features.denseblock1.denselayer3.norm1", "features.norm5"],
    ),
    "mobilenet_v3_large": dict(
        build=torchvision.models.mobilenet_v3_large,
        gradients=["features.0.0.weight", "features.1.block.0.0.weight", "features.4.block.2.fc1.weight", "features.7.block.1.0.weight",
                   "features.11.block.2.fc2.bias", "features.13.block.0.1.weight", "features.16.1.bias", "classifier.0.weight"],
        norms=["features.2.block.1.1", "features.15.block.3.1"],
    ),
    "unet_resnet18": dict(
        build=lambda **options: unet_resnet18(**options),
        gradients=["encoder.conv1.weight", "encoder.layer2.0.bn1.bias", "encoder.layer4.1.conv2.weight", "decoder.0.up.weight",
                   "decoder.0.conv1.weight", "decoder.2.bn2.weight", "decoder.4.conv2.weight", "head.bias"],
        norms=["encoder.bn1", "decoder.3.bn1"],
        sizes=[(64, 64), (75, 90)],
    ),
    "unet_mobilenet_v3_small_bilinear": dict(
        build=lambda **options: unet_mobilenet_v3_small_bilinear(**options),
        gradients=["encoder.features.0.0.weight", "encoder.features.3.block.1.1.bias", "encoder.features.12.0.weight", "decoder.0.conv1.weight",
                   "decoder.1.bn1.weight", "decoder.2.conv2.weight", "decoder.4.conv1.weight", "head.weight"],
        norms=["encoder.features.9.block.1.1", "decoder.4.bn2"],
        sizes=[(64, 64), (75, 90)],
    ),
    "unet_vgg16": dict(
        build=lambda **options: unet_vgg16(**options),
        gradients=["encoder.features.0.weight", "encoder.features.14.bias", "encoder.features.28.weight", "decoder.0.up.weight",
                   "decoder.1.conv1.weight", "decoder.2.bn1.weight", "decoder.4.up.weight", "head.weight"],
        norms=["decoder.0.bn1", "decoder.4.bn2"],
        sizes=[(64, 64), (75, 90)],
    ),
    "unet_reconstruction": dict(
        build=lambda **options: Reconstruction(**options),
        gradients=["down_path.0.block.0.weight", "down_path.0.block.2.bias", "down_path.2.block.3.bias", "up_path.0.up.weight",
                   "up_path.0.up.bias", "up_path.1.conv_block.block.0.weight", "up_path.1.conv_block.block.5.weight", "last.weight"],
        norms=["down_path.1.block.5", "up_path.0.conv_block.block.2"],
        sizes=[(64, 64), (37, 42)],
    ),
}



class UNet(nn.Module):
    """The U-Net of src/models/unet.rs over a torchvision backbone whose `maps` gives one map a resolution."""

    def __init__(self, encoder, maps, channels, bilinear, num_classes):
        super().__init__()
        self.encoder, self.maps = encoder, maps
        self.decoder = nn.ModuleList()
        c = channels[-1]
        for width, beside in zip([256, 128, 64, 32, 16], [*channels[-2::-1], 0]):
            step = nn.Module()
            if not bilinear:
                step.up = nn.ConvTranspose2d(c, width, 2, 2, bias=False)
                c = width
            step.conv1, step.bn1 = nn.Conv2d(c + beside, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
            step.conv2, step.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
            self.decoder.append(step)
            c = width
        self.head = nn.Conv2d(c, num_classes, 1)

    def forward(self, images):
        maps = self.maps(self.encoder, images)
        x = maps.pop()
        for step in self.decoder:
            beside = maps.pop() if maps else None
            height, width = (images if beside is None else beside).shape[2:]
            if hasattr(step, "up"):
                x = step.up(x)
                x = F.pad(x, (0, width - x.shape[3], 0, height - x.shape[2]))
            else:
                x = F.interpolate(x, (height, width), mode="bilinear", align_corners=False)
            x = x if beside is None else torch.cat([x, beside], 1)
            x = step.bn2(step.conv2(step.bn1(step.conv1(x)).relu())).relu()
        return self.head(x)


def resnet_maps(net, x):
    stem = net.relu(net.bn1(net.conv1(x)))
    maps, x = [stem], net.maxpool(stem)
    for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
        maps.append(x := layer(x))
    return maps


def features_maps(ends):
    """Maps of a net whose `features` are run one after another, after each of `ends`."""
    def maps(net, x):
        outputs = [x := layer(x) for layer in net.features]
        return [outputs[i] for i in ends]
    return maps


def unet_resnet18(weights, num_classes):
    encoder = torchvision.models.resnet18()
    del encoder.fc
    return UNet(encoder, resnet_maps, [64, 64, 128, 256, 512], False, num_classes)


def unet_mobilenet_v3_small_bilinear(weights, num_classes):
    encoder = torchvision.models.mobilenet_v3_small()
    del encoder.classifier
    return UNet(encoder, features_maps([0, 1, 3, 8, 12]), [16, 16, 24, 48, 576], True, num_classes)


def unet_vgg16(weights, num_classes):
    encoder = torchvision.models.vgg16()
    del encoder.classifier
    return UNet(encoder, features_maps([3, 8, 15, 22, 29, 30]), [64, 128, 256, 512, 512, 512], False, num_classes)


class Reconstruction(nn.Module):
    """The reconstruction U-Net of src/models/reconstruction.rs, from its published description."""

    def __init__(self, weights, num_classes):
        super().__init__()

        def block(c, k):
            return nn.Sequential(nn.Conv2d(c, k, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(k), nn.Conv2d(k, k, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(k))

        def module(**parts):
            out = nn.Module()
            for name, part in parts.items():
                out.add_module(name, part)
            return out

        self.down_path = nn.ModuleList(module(block=block(c, k)) for c, k in [(3, 16), (16, 32), (32, 64)])
        self.up_path = nn.ModuleList(module(up=nn.ConvTranspose2d(2 * k, k, 2, 2), conv_block=module(block=block(2 * k, k))) for k in (32, 16))
        self.last = nn.Conv2d(16, num_classes, 1)

    def forward(self, x):
        maps = []
        for i, down in enumerate(self.down_path):
            maps.append(x := down.block(F.avg_pool2d(x, 2) if i else x))
        x = maps.pop()
        for up in self.up_path:
            beside, x = maps.pop(), up.up(x)
            x = F.pad(x, (0, beside.shape[3] - x.shape[3], 0, beside.shape[2] - x.shape[2]))
            x = up.conv_block.block(torch.cat([x, beside], 1))
        return self.last(x).sigmoid()


FORMAT = [
    "hash: fnv1a64(s) over UTF-8; mix(z) = splitmix64 finaliser; hash(name,i) = mix(fnv1a64(name) + (i+1)*0x9E3779B97F4A7C15), wrapping;"
    " unit = (hash >> 40) / 2^24; v(name,i) = 2*unit - 1; i is the flat index in torch's order (OIHW, [out,in], NCHW).",
    "weights, in float32: 4-d: v*(1.4*sqrt(3/fan_in)); 2-d: v*sqrt(3/fan_in); fan_in = product of shape[1:]; 1-d weight and running_var: 1+0.1v;"
    " every bias and running_mean: 0.1v (plus `norm_bias` for the biases of batch norms, which keeps deep nets off the kinks of ReLU); num_batches_tracked: 0. Input: v(input_name,i). Labels: (7i+3) % 10.",
    "cases: one forward and backward of the mean cross-entropy `loss` from those weights, batch 2; mode train: batch statistics, dropout p = 0."
    " inception_v3 from 299 px in train mode: loss + 0.4 of the loss of `auxiliary`, its second logits; below, that head is left out."
    " loss_smoothed: the same logits, label_smoothing 0.1, class weights linspace(0.5, 1.5, 10), torch's weighted mean.",
    "gradients, by parameter name and `input`: l2, sum, `at` (flat torch-order indices) and `values` there. norms: after the step, train mode only.",
    "f32_gap: largest relative difference of the same case in torch's own float32, as it is and with weights moved by half a rounding (of logits and each gradient: |a-b|_2/|b|_2).",
    "U-Nets: a label for each pixel, `logits` a summary over NHWC.",
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


def weight_values(name, shape, norm_bias):
    """In float32 steps, so that both sides have the same bits."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    v = hash_values(name, shape).float()
    if len(shape) >= 2:
        spread = np.sqrt(np.float32(3) / np.float32(math.prod(shape[1:])))
        return v * float(np.float32(1.4) * spread if len(shape) == 4 else spread)
    tenth = v * float(np.float32(0.1))
    return 1 + tenth if name.endswith((".weight", ".running_var")) else norm_bias + tenth


def build(net, dtype):
    model = NETS[net]["build"](weights=None, num_classes=CLASSES).double()
    norms = {f"{name}.bias" for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    bias = {name: NETS[net].get("norm_bias", 0.0) for name in norms}
    model.load_state_dict({k: weight_values(k, tuple(v.shape), bias.get(k, 0.0)) for k, v in model.state_dict().items()})
    for module in model.modules():
        if isinstance(module, (nn.Dropout, torchvision.ops.StochasticDepth)):
            module.p = 0.0
    return model.to(dtype)


def batch(net, name, count, height, width, dtype):
    labels = torch.tensor([(7 * i + 3) % CLASSES for i in range(count * (height * width if net.startswith("unet") else 1))])
    return hash_values(name, (count, 3, height, width)).to(dtype), labels


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


def forward_backward(net, name, mode, height, width, dtype, jitter=0.0):
    """With `jitter` the weights are off by about so much, relatively: another rounding."""
    model = build(net, dtype).train(mode == "train")
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters() if jitter else ():
            parameter *= 1 + jitter * torch.randn_like(parameter)
    if min(height, width) < AUXILIARY_SIZE and hasattr(model, "AuxLogits"):
        model.AuxLogits, model.aux_logits = None, False
    x, labels = batch(net, name, 2, height, width, dtype)
    x.requires_grad_(True)
    logits = model(x)
    logits, auxiliary = logits if isinstance(logits, tuple) else (logits, None)
    if logits.dim() == 4:
        logits = logits.permute(0, 2, 3, 1).reshape(-1, CLASSES)
    loss = F.cross_entropy(logits, labels)
    if auxiliary is not None:
        loss = loss + 0.4 * F.cross_entropy(auxiliary, labels)
    loss.backward()
    gradients = {name: model.get_parameter(name).grad for name in NETS[net]["gradients"]}
    if auxiliary is not None:
        gradients["AuxLogits.conv1.conv.weight"] = model.AuxLogits.conv1.conv.weight.grad
    gradients["input"] = x.grad
    return model, (logits.detach(), auxiliary), loss.detach(), labels, gradients


def relative(a, b):
    return float((a.double() - b).norm() / b.norm())


def gap_to(exact, other):
    (_, (logits, _), loss, _, gradients), (_, (logits32, _), loss32, _, gradients32) = exact, other
    return max([relative(logits32, logits), relative(loss32, loss)] + [relative(gradients32[k], g) for k, g in gradients.items()])


def case(net, mode, height, width):
    """The case with the input, of twelve, that float32 computes best: one for which no unit sits within rounding of a kink, where
    a gradient jumps by percents."""
    best = None
    for i in range(12):
        name = f"input.{i}"
        found = forward_backward(net, name, mode, height, width, torch.float64)
        gap = max(gap_to(found, forward_backward(net, name, mode, height, width, torch.float32, jitter)) for jitter in (0, 2**-23))
        if best is None or gap < best[0]:
            best = gap, name, found
        if gap < 3e-5:
            break
    gap, name, (model, (logits, auxiliary), loss, labels, gradients) = best
    out = {"mode": mode, "height": height, "width": width, "batch": 2, "input_name": name, "f32_gap": float(f"{gap:.2g}"),
           "logits": digits(logits) if logits.numel() < 1000 else summary(logits), "loss": digits(loss), "loss_smoothed": digits(smoothed(logits, labels)),
           "gradients": {k: summary(g) for k, g in gradients.items()}}
    if auxiliary is not None:
        out["auxiliary"] = digits(auxiliary)
    if mode == "train":
        out["norms"] = {f"{n}.{s}": summary(model.get_buffer(f"{n}.{s}")) for n in NETS[net]["norms"] for s in ("running_mean", "running_var")}
    return out


def optimiser(kind, parameters, rate):
    if kind == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=1e-4)
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=1e-2)


def ten_losses(net, kind, rate, dtype):
    model = build(net, dtype).train()
    x, labels = batch(net, NETS[net]["training_input"], 4, 64, 64, dtype)
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
    return {"optimiser": kind, "rate": rate, **settings, "batch": 4, "input_name": NETS[net]["training_input"], "height": 64, "width": 64, "f32_gap": float(f"{gap:.2g}"),
            "losses": [digits(v) for v in losses]}


def hash_check():
    """A few values of the hash, so that a wrong copy of it is told apart from a wrong net."""
    name = "input"
    return {"name": name, "fnv1a64": f"{fnv1a64(name):016x}", "hash": [f"{int(h):016x}" for h in hashes(name, 4)],
            "values": hash_values(name, (4,)).tolist()}


def net_fixture(net):
    model = build(net, torch.float64)
    state = model.state_dict()
    return {
        "format": FORMAT, "made_by": MADE_BY, "net": net, "num_classes": CLASSES, "norm_bias": NETS[net].get("norm_bias", 0.0), "hash_check": hash_check(),
        "parameters": sum(p.numel() for p in model.parameters()), "entries": len(state),
        "state_dict": [f"{k} {'x'.join(map(str, v.shape)) or 'scalar'}" for k, v in state.items()],
        "cases": [case(net, mode, h, w) for h, w in NETS[net].get("sizes", SIZES) for mode in NETS[net].get("modes", ["eval", "train"])],
        "training": [training(net, kind) for kind in ("sgd", "adamw") if f"{kind}_rate" in NETS[net]],
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


def grad_cam(net):
    """Grad-CAM by torch's autograd, of output `outputs[i]` of image i: what the head reads, caught on its way there."""
    model = build(net, torch.float64).eval()
    caught = []
    model.avgpool.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    height, width = SIZES[1]
    x, _ = batch(net, "input", 2, height, width, torch.float64)
    logits = model(x)
    outputs = logits.detach().argmax(1)
    gradient, = torch.autograd.grad(logits[[0, 1], outputs].sum(), caught[0])
    coarse = (gradient.mean((2, 3), keepdim=True) * caught[0]).sum(1, keepdim=True).relu()
    cam = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    return {"net": net, "norm_bias": NETS[net].get("norm_bias", 0.0), "height": height, "width": width, "outputs": outputs.tolist(),
            "cam": summary(cam)}


def grad_cam_fixture():
    return {"format": ["Grad-CAM (Selvaraju et al. 2017) of the last feature map; weights and images as in NET.json."], "made_by": MADE_BY,
            "cases": [grad_cam(net) for net in ("resnet18", "mobilenet_v3_small", "vgg16")]}


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
    torch.set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    others = {"ops": ops_fixture, "grad_cam": grad_cam_fixture}
    for name in sys.argv[1:] or [*NETS, *others]:
        fixture = others[name]() if name in others else net_fixture(name)
        path = OUT / f"{name}.json"
        path.write_text(dump(fixture) + "\n")
        print(f"{path.name}: {path.stat().st_size} bytes")
        for c in fixture.get("cases", []) if name in NETS else []:
            print(f"  {c['mode']} {c['height']}x{c['width']}: loss {c['loss']}, float32 gap {c['f32_gap']}")
        for t in fixture.get("training", []):
            print(f"  {t['optimiser']}: float32 gap {t['f32_gap']}, losses {[round(v, 4) for v in t['losses']]}")


if __name__ == "__main__":
    main()
