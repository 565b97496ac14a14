"""Compares the geometry of predicted masks with that of their sources, by nibabel or SimpleITK. Ends with 1 if one differs:

    pip install numpy nibabel SimpleITK
    python scripts/check_masks.py SOURCE MASK [SOURCE MASK ...]
"""

import sys

import nibabel
import numpy as np
import SimpleITK as sitk


def of_nifti(path):
    image = nibabel.load(path)
    return image.shape, [image.affine, image.get_sform(), image.get_qform(), image.header.get_zooms()], np.unique(image.dataobj)


def of_any(path):
    image = sitk.ReadImage(path)
    return image.GetSize(), [image.GetOrigin(), image.GetSpacing(), image.GetDirection()], np.unique(sitk.GetArrayFromImage(image))


bad = False
for source, mask in zip(sys.argv[1::2], sys.argv[2::2]):
    read = of_nifti if ".nii" in source else of_any
    (shape, places, _), (mask_shape, mask_places, values) = read(source), read(mask)
    same = shape == mask_shape and all(np.array_equal(a, b) for a, b in zip(places, mask_places))
    same &= set(values.tolist()) <= {0, 1}
    print("same" if same else "OTHER", mask, mask_shape, values)
    bad |= not same
sys.exit(bad)
