"""Makes tests/fixtures/archive: a small archive as a hospital might hand it over, with names and numbers of patients wherever
they tend to stand, and tests/fixtures/archive.json with what pydicom and Python's hmac say its manifest must hold. Run from the
repository root:

    pip install numpy pillow pydicom nibabel
    python scripts/make_archive_fixtures.py
"""

import hashlib
import hmac
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

OUT = Path("tests/fixtures/archive")
KEY = "0123456789abcdef0123456789abcdef"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
ROOT = "1.2.826.0.1.3680043.8.498."
# What must not be found anywhere in a store.
SECRETS = ["Rumpel", "Stilz", "Berta", "PAT-4711", "Aschenputtel", "ACC-0815", "Klinikum Nord", "Dr. Eisenbart", "STATION9", ROOT]

rng = np.random.default_rng(1)


def hashed(what, value):
    return hmac.new(KEY.encode(), what.encode() + b"\0" + value, hashlib.sha256).hexdigest()[:32]


def image(frames=1, **tags):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID
    ds.PatientName, ds.PatientID = "Rumpel^Berta", "PAT-4711"
    ds.OtherPatientNames, ds.PatientBirthDate = "Stilz^Berta", "19300101"
    ds.AccessionNumber, ds.InstitutionName = "ACC-0815", "Klinikum Nord"
    ds.ReferringPhysicianName, ds.StationName = "Dr. Eisenbart", "STATION9"
    ds.StudyDescription = "Thorax of Berta Rumpel"
    request = Dataset()
    request.RequestedProcedureDescription, request.PatientID = "Thorax, Rumpel", "PAT-4711"
    ds.RequestAttributesSequence = Sequence([request])
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = ROOT + "1", ROOT + "1.1", ROOT + "1.1.1"
    ds.Modality, ds.BodyPartExamined = "CT", "Chest"
    ds.Rows, ds.Columns = 6, 8
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    if frames > 1:
        ds.NumberOfFrames = frames
    for name, value in tags.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    ds.PixelData = rng.integers(0, 4096, (frames, 6, 8), dtype="<u2").tobytes()
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def save(name, ds, syntax=EXPLICIT):
    path = OUT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(path, enforce_file_format=True)
    ds = pydicom.dcmread(path)

    def text(tag):
        value = ds.get(tag, "")
        return "\\".join(map(str, value)) if isinstance(value, pydicom.multival.MultiValue) else str(value)

    def uid(what, tag):
        return hashed(what, text(tag).encode()) if text(tag) else ""

    spacing = ds.get("PixelSpacing", ["", ""])
    unit = {"Y": 1, "M": 1 / 12}
    age = text("PatientAge")
    expected[name] = {
        "patient": uid("patient", "PatientID") or uid("study", "StudyInstanceUID"),
        "study": uid("study", "StudyInstanceUID"),
        "series": uid("series", "SeriesInstanceUID"),
        "instance": uid("instance", "SOPInstanceUID"),
        "modality": text("Modality"),
        "body_part": text("BodyPartExamined").upper() or "UNKNOWN",
        "view": text("ViewPosition"),
        "laterality": text("ImageLaterality") or text("Laterality"),
        "sex": text("PatientSex"),
        "age": f"{min(90, int(age[:3]) * unit[age[3]]):g}" if age else "",
        "frames": text("NumberOfFrames") or "1",
        "rows": text("Rows"),
        "columns": text("Columns"),
        "row_spacing": f"{spacing[0]}",
        "column_spacing": f"{spacing[1]}",
        "slice_spacing": f"{ds.get('SpacingBetweenSlices', ds.get('SliceThickness', ''))}",
        "bits": text("BitsStored"),
        "channels": text("SamplesPerPixel"),
        "photometric": text("PhotometricInterpretation"),
        "image_type": text("ImageType"),
        "manufacturer": text("Manufacturer"),
        "model": text("ManufacturerModelName"),
        "slice_thickness": text("SliceThickness"),
        "kvp": text("KVP"),
        "exposure": text("Exposure"),
        "sequence": text("ScanningSequence"),
        "repetition_time": text("RepetitionTime"),
        "echo_time": text("EchoTime"),
        "flip_angle": text("FlipAngle"),
        "field_strength": text("MagneticFieldStrength"),
    }


shutil.rmtree(OUT, ignore_errors=True)
expected = {}
ct = dict(PixelSpacing=[0.5, 0.75], SliceThickness=2.5, KVP=120, ImageType=["ORIGINAL", "PRIMARY", "AXIAL"], PatientAge="093Y")
ct |= dict(PatientSex="F", Manufacturer="ACME, Inc.", ManufacturerModelName="Scan 3000", Exposure=12, RescaleIntercept=-1024, RescaleSlope=1)
save("Rumpel^Berta/study 1/IM0001", image(**ct))
save("Rumpel^Berta/study 1/IM0002", image(**ct, SOPInstanceUID=ROOT + "1.1.2"), IMPLICIT)
hand = dict(Modality="CR", BodyPartExamined="HAND", ViewPosition="PA", Laterality="L", PhotometricInterpretation="MONOCHROME1")
save("PAT-4711.dcm", image(**hand, StudyInstanceUID=ROOT + "2", SeriesInstanceUID=ROOT + "2.1", SOPInstanceUID=ROOT + "2.1.1", PatientAge="018M"))
mr = dict(Modality="MR", BodyPartExamined=None, ScanningSequence=["SE", "IR"], RepetitionTime=500, EchoTime=12.5, FlipAngle=90, MagneticFieldStrength=1.5)
nobody = dict(PatientID=None, StudyInstanceUID=ROOT + "3", SeriesInstanceUID=ROOT + "3.1", SOPInstanceUID=ROOT + "3.1.1")
save("deep/er/and deeper/frames", image(3, **mr, **nobody))

# The same bytes once more, what is no image, and what is broken.
shutil.copy(OUT / "PAT-4711.dcm", OUT / "copy of PAT-4711.dcm")
(OUT / "Rumpel.txt").write_text("Berta Rumpel was here\n")
whole = (OUT / "Rumpel^Berta/study 1/IM0001").read_bytes()
(OUT / "Rumpel cut.dcm").write_bytes(whole[:-10])
report = image(Modality="SR", SOPInstanceUID=ROOT + "4.1.1")
del report.PixelData
report.file_meta.TransferSyntaxUID = EXPLICIT
report.save_as(OUT / "report", enforce_file_format=True)
# A header whose pixels are named after the patient, and missing.
(OUT / "volume.mhd").write_text("NDims = 2\nDimSize = 2 2\nElementType = MET_UCHAR\nElementDataFile = Aschenputtel.raw\n")

volume = nibabel.Nifti1Image(rng.integers(0, 1000, (7, 5, 4)).astype("<i2"), np.diag([2.0, 3.0, 4.0, 1.0]))
volume.header["descrip"] = b"Aschenputtel"
nibabel.save(volume, OUT / "Aschenputtel.nii.gz")
Image.fromarray(rng.integers(0, 256, (4, 5), dtype=np.uint8)).save(OUT / "Aschenputtel.png")

facts = {"key": KEY, "secrets": SECRETS, "dicom": expected}
Path("tests/fixtures/archive.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
