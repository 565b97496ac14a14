"""Makes tests/fixtures/data: small image files of every flavour that `data::decode` reads, and expected.json with what Pillow
and torchvision make of them. Needs numpy, pillow, torch, torchvision. Run from the repository root:

    python scripts/make_data_fixtures.py

PNG flavours that Pillow cannot write (2 and 4 bit, 16-bit colour, interlaced) are written by `write_png` below.
"""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
import torchvision.transforms.functional as F
from PIL import Image
from torchvision.transforms import InterpolationMode

OUT = Path("tests/fixtures/data")
W, H = 21, 13


def pattern(width, height, levels):
    """The test picture, computed alike in tests/data.rs: slopes with some texture, `levels` values from 0."""
    y, x = np.mgrid[0:height, 0:width].astype(np.uint64)
    return ((x * 977 + y * 1531 + (x * y * 7919) // 64 + (x // 5) * (y // 3) * 4099) * levels // 65536 % levels).astype(np.int64)


def write_png(path, samples, depth, color, chunks=(), interlace=False):
    """`samples`: [h, w, channels] integers; `color`: PNG colour type; `chunks`: (tag, bytes) put before the pixels."""
    height, width, _ = samples.shape

    def rows(part):
        packed = b""
        for row in part.reshape(part.shape[0], -1):
            if depth == 16:
                line = row.astype(">u2").tobytes()
            elif depth == 8:
                line = row.astype(np.uint8).tobytes()
            else:
                bits = ((row[:, None] >> np.arange(depth - 1, -1, -1)) & 1).astype(np.uint8)
                line = np.packbits(bits.reshape(-1)).tobytes()
            packed += b"\0" + line
        return packed

    adam7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    passes = [samples[y0::dy, x0::dx] for x0, y0, dx, dy in adam7] if interlace else [samples]
    raw = b"".join(rows(p) for p in passes if p.size)

    def chunk(tag, data):
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, int(interlace))
    body = b"".join(chunk(tag, data) for tag, data in chunks)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")
    )


def luma16(rgb):
    return np.rint(rgb @ np.array([0.299, 0.587, 0.114])).astype(int)


def decode_cases():
    gray8, gray16 = pattern(W, H, 256), pattern(W, H, 65536)
    rgb8 = np.stack([gray8, gray8[::-1], gray8[:, ::-1]], -1)
    rgb16 = np.stack([gray16, gray16[::-1], gray16[:, ::-1]], -1)
    alpha8, alpha16 = (pattern(W, H, n).T.reshape(H, W, 1) for n in (256, 65536))
    palette = np.stack([pattern(256, 1, 256)[0], np.arange(256), 255 - np.arange(256)], -1).astype(np.uint8)
    cases = {}

    def png(name, samples, depth, color, chunks=(), interlace=False, expected=None):
        path = OUT / f"{name}.png"
        write_png(path, samples, depth, color, chunks, interlace)
        pixels = np.array(Image.open(path).convert("L")) if expected is None else expected
        cases[path.name] = {"bits": 8 if expected is None else 16, "tolerance": 0 if depth < 16 else 1, "pixels": pixels.tolist()}

    for bits in (1, 2, 4, 8):
        png(f"gray{bits}", pattern(W, H, 2**bits)[..., None], bits, 0)
        png(f"palette{bits}", pattern(W, H, 2**bits)[..., None], bits, 3, [(b"PLTE", palette[: 2**bits].tobytes())])
    png("gray8_interlaced", gray8[..., None], 8, 0, interlace=True)
    png("gray8_transparent_value", gray8[..., None], 8, 0, [(b"tRNS", b"\0\x40")])
    png("palette8_alpha", gray8[..., None], 8, 3, [(b"PLTE", palette.tobytes()), (b"tRNS", bytes(range(256)))])
    png("gray8_alpha", np.concatenate([gray8[..., None], alpha8], -1), 8, 4)
    png("rgb8", rgb8, 8, 2)
    png("rgba8", np.concatenate([rgb8, alpha8], -1), 8, 6)
    path = OUT / "gray16.png"
    write_png(path, gray16[..., None], 16, 0)
    opened = np.array(Image.open(path)).astype(int)
    cases[path.name] = {"bits": 16, "tolerance": 0, "pixels": opened.tolist()}
    # Pillow reads the others at 8 bit; the formula of ITU-R 601 stands in.
    png("gray16_alpha", np.concatenate([gray16[..., None], alpha16], -1), 16, 4, expected=gray16)
    png("rgb16", rgb16, 16, 2, expected=luma16(rgb16))
    png("rgba16", np.concatenate([rgb16, alpha16], -1), 16, 6, expected=luma16(rgb16))

    smooth = Image.fromarray(pattern(W, H, 256).astype(np.uint8)).resize((45, 35), Image.BICUBIC)
    x = np.array(smooth).astype(int)
    tinted = Image.fromarray(np.stack([x * 3 // 4 + 40, x * 3 // 4 + 20, x * 3 // 4 + 30], -1).astype(np.uint8))
    for name, image, options in [
        ("gray", smooth, {}),
        ("gray_progressive", smooth, {"progressive": True}),
        ("gray_restarts", smooth, {"restart_marker_rows": 1}),
        ("rgb_444", tinted, {"subsampling": 0}),
        ("rgb_420", tinted, {"subsampling": 2}),
        ("rgb_420_progressive", tinted, {"subsampling": 2, "progressive": True}),
        ("rgb_stored", tinted, {"keep_rgb": True}),
        ("cmyk", tinted.convert("CMYK"), {}),
    ]:
        path = OUT / f"{name}.jpg"
        image.save(path, quality=90, **options)
        # Decoders may differ by a level in each of three channels and in the upsampled chroma.
        tolerance = 1 if name.startswith("gray") else 2
        pixels = np.array(Image.open(path).convert("L"))
        cases[path.name] = {"bits": 8, "tolerance": tolerance, "pixels": pixels.tolist()}
    return cases


def mask_cases():
    """Masks as JPEG, and the pixels that were marked in them."""
    y, x = np.mgrid[0:40, 0:48]
    marked = (x - 21) ** 2 + (y - 17) ** 2 < 150
    cases = {}
    for name, color in [("gray", 255), ("red", (255, 0, 0)), ("blue", (0, 0, 255))]:
        drawn = marked[..., None] * np.array(color) if name != "gray" else marked * color
        path = OUT / f"mask_{name}.jpg"
        Image.fromarray(drawn.astype(np.uint8)).save(path, quality=85, subsampling=0)
        cases[path.name] = marked.astype(int).tolist()
    return cases


def resize_cases():
    """Pillow's BILINEAR; every `step`-th value of every `step`-th row of the scaled image is kept."""
    cases = []
    for width, height, size in [(512, 400, 224), (400, 512, 224), (300, 300, 224), (40, 30, 64), (7, 5, 64), (33, 100, 32),
                                (1000, 3, 100), (64, 64, 64), (1, 1, 8)]:
        to = (max(1, width * size // max(width, height)), max(1, height * size // max(width, height)))
        step = max(1, max(to) // 28)
        for bits in (8, 16):
            image = pattern(width, height, 2**bits)
            image = Image.fromarray(image.astype(np.uint8) if bits == 8 else image.astype(np.float32))
            scaled = np.rint(np.array(image.resize(to, Image.BILINEAR))).astype(int)
            cases.append({"from": [width, height], "size": size, "bits": bits, "to": to, "step": step,
                          "left_top": [(size - to[0]) // 2, (size - to[1]) // 2], "pixels": scaled[::step, ::step].tolist()})
    return cases


# what nothing is done by; the geometry's names are those of `Geometry` in src/data/augment.rs
PLAIN = {"size": 16, "flip": [False, False], "degrees": 0.0, "shift": [0.0, 0.0], "scale": 1.0, "shear": 0.0,
         "brightness": 1.0, "contrast": 1.0, "gamma": 1.0}


def augment_cases():
    """torchvision's functions, in the order flips, affine, brightness, contrast about the mean, gamma; masks by the nearest pixel."""
    cases = []
    for changed in [
        {"flip": [True, False]}, {"flip": [False, True]}, {"degrees": 13.0}, {"size": 15, "degrees": -7.5},
        {"shift": [2.0, -3.0]}, {"scale": 1.27}, {"size": 15, "scale": 0.7}, {"shear": 17.0}, {"shear": -9.0},
        {"brightness": 1.2}, {"brightness": 0.8}, {"contrast": 1.3}, {"contrast": 0.8}, {"gamma": 0.6}, {"gamma": 1.7},
        {"size": 15, "flip": [True, True], "degrees": 11.0, "shift": [1.5, 2.0], "scale": 1.1, "shear": 6.0,
         "brightness": 1.15, "contrast": 1.25, "gamma": 0.9},
    ]:
        case = PLAIN | changed
        size = case["size"]
        stored = torch.tensor(pattern(size, size, 256), dtype=torch.float64)[None]
        image, mask = stored / 255, (stored > 120).double()
        for on, flip in zip(case["flip"], (F.hflip, F.vflip)):
            image, mask = (flip(image), flip(mask)) if on else (image, mask)
        move = [-case["degrees"], case["shift"], case["scale"], [case["shear"], 0.0]]
        image = F.affine(image, *move, InterpolationMode.BILINEAR)
        mask = F.affine(mask, *move, InterpolationMode.NEAREST)
        image = F.adjust_brightness(image, case["brightness"])
        pivot = image.mean().item()
        image = F.adjust_gamma(F.adjust_contrast(image, case["contrast"]), case["gamma"])
        cases.append(case | {"pivot": pivot, "pixels": [round(v, 6) for v in image.flatten().tolist()],
                             "mask": [int(v) for v in mask.flatten().tolist()]})
    return cases


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    expected = {"decode": decode_cases(), "masks": mask_cases(), "resize": resize_cases(), "augment": augment_cases()}
    (OUT / "expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")
