"""Makes tests/fixtures/luna: two small volumes laid out as LUNA16, one of them oblique, with annotations.csv; and in
tests/fixtures/luna_masks the pixels that SimpleITK finds within the nodules. Run from the repository root:

    pip install numpy SimpleITK
    python scripts/make_luna_fixtures.py
"""

import shutil
from pathlib import Path

import numpy as np
import SimpleITK as sitk

OUT, MASKS = Path("tests/fixtures/luna"), Path("tests/fixtures/luna_masks")
# Column, row, slice and diameter in millimetres: two that overlap, one at the border, one that falls between the pixels.
NODULES = {
    "1.2.3": [(30.3, 41.2, 3.4, 9.3), (36.1, 44.7, 4.2, 7.1), (86.4, 2.3, 6.1, 11.7), (60.4, 20.6, 1.45, 0.3)],
    "4.5.6": [(40.2, 30.9, 3.3, 14.2)],
}


def volume(size, origin, spacing, direction):
    x, y, z = np.meshgrid(*map(np.arange, size), indexing="ij")
    image = sitk.GetImageFromArray((x * 3 + y * 5 + z * 70 - 1000).astype(np.int16).transpose())
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    return image


def rotation(degrees, axis):
    transform = sitk.VersorTransform(axis, np.deg2rad(degrees))
    return transform.GetMatrix()


def spheres(image, nodules):
    mask = np.zeros(image.GetSize()[::-1], np.uint8)
    for k, j, i in np.ndindex(mask.shape):
        point = np.array(image.TransformIndexToPhysicalPoint((i, j, k)))
        mask[k, j, i] = any(np.linalg.norm(point - n[:3]) <= n[3] / 2 for n in nodules)
    for *centre, _ in nodules:
        i, j, k = image.TransformPhysicalPointToIndex(centre)
        mask[k, j, i] = 1
    masks = sitk.GetImageFromArray(mask)
    masks.CopyInformation(image)
    return masks


for folder in [OUT, MASKS]:
    shutil.rmtree(folder, ignore_errors=True)
for folder in [OUT / "subset0", OUT / "subset1", OUT / "seg-lungs-LUNA16", MASKS]:
    folder.mkdir(parents=True)
images = {
    "1.2.3": volume((90, 80, 9), (-35.5, -28.25, 44.0), (0.75, 0.7, 2.5), rotation(12, (0.3, 0.5, 0.8))),
    # As LUNA16's that lie on their face: two axes run the other way.
    "4.5.6": volume((70, 66, 7), (-80.0, -60.0, 5.0), (0.6, 0.6, 2.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
}
sitk.WriteImage(images["1.2.3"], OUT / "subset0" / "1.2.3.mhd", True)
sitk.WriteImage(images["4.5.6"], OUT / "subset1" / "4.5.6.mha", True)
sitk.WriteImage(images["1.2.3"] * 0, OUT / "seg-lungs-LUNA16" / "1.2.3.mhd", True)
rows = ["seriesuid,coordX,coordY,coordZ,diameter_mm", "7.8.9,1,2,3,4"]
for series, nodules in NODULES.items():
    place = images[series].TransformContinuousIndexToPhysicalPoint
    nodules = [(*(round(x, 4) for x in place(nodule[:3])), nodule[3]) for nodule in nodules]
    rows += [",".join(map(str, (series, *nodule))) for nodule in nodules]
    masks = spheres(images[series], nodules)
    print(series, [int(slice.sum()) for slice in sitk.GetArrayFromImage(masks)])
    sitk.WriteImage(masks, MASKS / f"{series}.mha", True)
(OUT / "annotations.csv").write_text("\n".join(rows) + "\n")
