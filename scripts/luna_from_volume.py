"""Lays out a CT volume and its mask as LUNA16: slabs of slices as series of their own, smaller in their planes, with masks/ and
annotations.csv (a sphere of the same volume for each connected part of a slab's mask). Slabs of one patient know each other, so
scores on them tell that the way works, not how well it does on patients.

    pip install numpy SimpleITK
    python scripts/luna_from_volume.py ct.mhd mask.mhd OUT [SLICES_A_SLAB [SHRINK]]
"""

import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

volume, mask, out = sys.argv[1], sys.argv[2], Path(sys.argv[3])
slab, shrink = (int(n) for n in (sys.argv[4:] + ["5", "3"][len(sys.argv) - 4 :]))
image = sitk.BinShrink(sitk.Cast(sitk.ReadImage(volume), sitk.sitkFloat32), [shrink, shrink, 1])
marked = sitk.BinShrink(sitk.Cast(sitk.ReadImage(mask) != 0, sitk.sitkFloat32), [shrink, shrink, 1]) >= 0.5
rows = ["seriesuid,coordX,coordY,coordZ,diameter_mm"]
for folder in ["subset0", "masks"]:
    (out / folder).mkdir(parents=True, exist_ok=True)
for i, start in enumerate(range(0, image.GetDepth(), slab)):
    name = f"slab{i:02}"
    part, drawn = image[:, :, start : start + slab], marked[:, :, start : start + slab]
    if not sitk.GetArrayFromImage(drawn).any():
        continue
    sitk.WriteImage(sitk.Cast(sitk.Round(part), sitk.sitkInt16), out / "subset0" / f"{name}.mhd", True)
    sitk.WriteImage(drawn, out / "masks" / f"{name}.mha", True)
    shapes = sitk.LabelShapeStatisticsImageFilter()
    shapes.Execute(sitk.ConnectedComponent(drawn))
    for label in shapes.GetLabels():
        diameter = 2 * (3 * shapes.GetPhysicalSize(label) / (4 * np.pi)) ** (1 / 3)
        rows.append(",".join([name, *(f"{x:.3f}" for x in (*shapes.GetCentroid(label), diameter))]))
(out / "annotations.csv").write_text("\n".join(rows) + "\n")
