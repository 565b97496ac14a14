"""Make `tests/fixtures/weights/`: files of weights as PyTorch writes them, and what is in them.

    python scripts/make_weight_fixtures.py

Needs torch, torchvision and safetensors (made with torch 2.15.0, torchvision 0.29.2). `expected.json` has dtype, shape and values
of every tensor, in torch's order; `radiologynet.json.gz` has the names and shapes of the ten networks as RadiologyNET's
files and models hold them, and which entry of the model the published transfer rules fill from which of the file.
"""

import gzip
import io
import json
import tarfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
import torchvision
from safetensors.torch import save_file

OUT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "weights"


def noise(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small_net():
    """Entries like those of a network: convolution, batch norm with a counter, linear layer."""
    return OrderedDict([
        ("conv1.weight", noise(4, 3, 3, 3, seed=1)),
        ("bn1.weight", noise(4, seed=2)),
        ("bn1.bias", noise(4, seed=3)),
        ("bn1.running_mean", noise(4, seed=4)),
        ("bn1.running_var", noise(4, seed=5).abs()),
        ("bn1.num_batches_tracked", torch.tensor(1234567890123)),
        ("fc.weight", noise(2, 4, seed=6)),
        ("fc.bias", noise(2, seed=7)),
    ])


def views():
    """Tensors over shared storages, strided, with offsets, expanded, empty and without axes."""
    base = torch.arange(24.0).reshape(2, 3, 4)
    wide = noise(2, 3, 5, 5, seed=8).to(memory_format=torch.channels_last)
    return OrderedDict([
        ("base", base),
        ("transposed", base.permute(2, 0, 1)),
        ("column", base[:, 1:, 2]),
        ("every_other", base.flatten()[1::2]),
        ("expanded", base[0, 0, 3:4].expand(6)),
        ("channels_last", wide),
        ("scalar", torch.tensor(-0.5)),
        ("empty", torch.zeros(0, 3)),
        ("tied", base),
    ])


def types():
    values = torch.tensor([0.0, -1.0, 0.1, 65504.0, 1e-7, float("inf")])
    return OrderedDict([
        ("f64", values.double() / 3),
        ("f32", values),
        ("f16", values.half()),
        ("bf16", values.bfloat16()),
        ("i64", torch.tensor([-(2**62), 3])),
        ("i32", torch.tensor([-(2**31), 3], dtype=torch.int32)),
        ("i16", torch.tensor([-32768, 3], dtype=torch.int16)),
        ("i8", torch.tensor([-128, 3], dtype=torch.int8)),
        ("u8", torch.tensor([255, 3], dtype=torch.uint8)),
        ("bool", torch.tensor([True, False])),
        ("f16_strided", values.half()[::2]),
    ])


def radiologynet():
    """A checkpoint as RadiologyNET's, with optimiser state and facts of other types beside the weights."""
    net = torch.nn.Sequential(OrderedDict(conv1=torch.nn.Conv2d(3, 4, 3, bias=False), fc=torch.nn.Linear(4, 2)))
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.copy_(noise(*p.shape, seed=20 + i))
    optimizer = torch.optim.AdamW(net.parameters())
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.copy_(noise(*p.shape, seed=20 + i))
    state = OrderedDict(("module.model." + name, tensor) for name, tensor in net.state_dict().items())
    return {"time": 1687.5, "model_state": state, "model_name": "Small", "optimizer_state": optimizer.state_dict(),
            "optimizer_name": "AdamW", "epoch": 7, "best": np.float64(0.75), "size": torch.Size([3, 4]), "many": 2**80}


def tar_gz(name, payload):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for member, data in [("README.txt", b"weights"), (name, payload)]:
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def saved(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def described(state):
    def values(tensor):
        # JSON has no infinity.
        numbers = tensor.double().flatten().tolist() if tensor.is_floating_point() else tensor.long().flatten().tolist()
        return [x if abs(x) != float("inf") else str(x) for x in numbers]
    return {name: {"dtype": str(t.dtype).removeprefix("torch."), "shape": list(t.shape),
                   "values": values(t.float() if t.is_floating_point() else t)} for name, t in state.items()}


def bare(state):
    """Plain tensors: what torch.load gives back for the `.detach()`ed parameters of a state dictionary."""
    return OrderedDict((name, tensor.detach().clone()) for name, tensor in state.items())


def files():
    legacy = dict(_use_new_zipfile_serialization=False)
    net, checkpoint = small_net(), radiologynet()
    parameters = OrderedDict((n, torch.nn.Parameter(t) if t.is_floating_point() else t) for n, t in net.items())
    yield "zip.pth", saved(net), net, ""
    yield "legacy.pth", saved(net, **legacy), net, ""
    yield "parameters.pth", saved({"state_dict": parameters}), net, "state_dict"
    yield "protocol4.pth", saved(dict(net), pickle_protocol=4), net, ""
    torch.serialization.set_crc32_options(False)
    yield "no_checksums.pth", saved(net), net, ""
    torch.serialization.set_crc32_options(True)
    yield "views.pth", saved(views()), views(), ""
    yield "views_legacy.pth", saved(views(), **legacy), views(), ""
    yield "types.pth", saved({"model": types()}), types(), "model"
    yield "types_legacy.pth", saved(types(), **legacy), types(), ""
    yield "checkpoint.pth", saved(checkpoint), checkpoint["model_state"], "model_state"
    yield "checkpoint_legacy.pth", saved(checkpoint, **legacy), checkpoint["model_state"], "model_state"
    yield "checkpoint.tar.gz", tar_gz("Small.pth", saved(checkpoint)), checkpoint["model_state"], "model_state"
    yield "legacy.pth.gz", gzip.compress(saved(net, **legacy), mtime=0), net, ""


# RadiologyNET's architectures: torchvision's constructor, and how their wrappers name the entries. `model.` is a wrapper that holds
# the network as `self.model`; `twice` is the one that holds its parts both ways; the others have torchvision's names.
ARCHITECTURES = dict(resnet18="model.", resnet34="model.", resnet50="model.", inception_v3="model.", densenet121="twice", vgg16="",
                     efficientnet_b3="", efficientnet_b4="", mobilenet_v3_small="", mobilenet_v3_large="")


def shapes(arch, classes):
    aux = dict(init_weights=False) if arch == "inception_v3" else {}
    with torch.device("meta"):
        state = getattr(torchvision.models, arch)(num_classes=classes, **aux).state_dict()
    return {name: list(tensor.shape) for name, tensor in state.items()}


def wrapped(state, how):
    if how == "twice":
        return state | {"model." + name: shape for name, shape in state.items()}
    return {how + name: shape for name, shape in state.items()}


def transfer(source, target):
    """The four rules, in order, of each entry of the source the first that names an entry of the same shape."""
    pairs = {}
    for name, shape in source.items():
        candidates = [name, "model." + name, name.replace("features", "model")]
        if "model." in name:
            candidates.append(name.split("model.")[1])
        found = next((c for c in candidates if target.get(c) == shape), None)
        if found is not None:
            pairs[name] = found
    return pairs


def networks():
    for arch, how in ARCHITECTURES.items():
        # The published files have 36 classes; the models to fill are torchvision's own, with 4.
        source, target = wrapped(shapes(arch, 36), how), shapes(arch, 4)
        yield arch, {"source": source, "target": target, "pairs": transfer(source, target)}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    expected = {}
    for name, data, state, container in files():
        (OUT / name).write_bytes(data)
        if name.endswith(".pth"):
            torch.load(io.BytesIO(data), weights_only=False)
        expected[name] = {"container": container, "tensors": described(state)}
    halves = {name: tensor for name, tensor in bare(types()).items()}
    save_file(halves, OUT / "types.safetensors")
    expected["types.safetensors"] = {"container": "", "tensors": described(halves)}
    (OUT / "expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")
    listed = json.dumps(dict(networks()), separators=(",", ":")).encode()
    (OUT / "radiologynet.json.gz").write_bytes(gzip.compress(listed, 9, mtime=0))


if __name__ == "__main__":
    main()
