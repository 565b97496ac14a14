"""Makes tests/fixtures/scans: tiny DICOM, MetaImage and NIfTI files of every kind that `data::scan` reads, broken ones, and
reference.json with what pydicom, SimpleITK and nibabel make of them. Given a folder of DICOM files, describes those too, in
tests/fixtures/scans/real.json. Run from the repository root:

    pip install numpy pillow torch imagecodecs pydicom pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg pyjpegls SimpleITK nibabel
    python scripts/make_dicom_fixtures.py [FOLDER]
"""

import copy
import hashlib
import io
import json
import struct
import sys
import warnings
import zlib
from pathlib import Path

import imagecodecs
import nibabel
import numpy as np
import pydicom
import SimpleITK
import torch
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.uid import UID

warnings.simplefilter("ignore")
OUT = Path("tests/fixtures/scans")
H, W = 11, 9
EXPLICIT, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
JPEG = "1.2.840.10008.1.2.4."
LOSSY = {JPEG + "50", JPEG + "51", JPEG + "81", JPEG + "91"}


# What the references say


def samples(array):
    """About fifty values, spread evenly."""
    flat = np.asarray(array).reshape(-1)
    step = max(1, flat.size // 47)
    return {"step": step, "values": [int(v) for v in flat[::step]]}


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array, "<f8").tobytes()).hexdigest()


def described(stored, physical, exact, shown=None, color="Gray"):
    """Of lossless data the digests of all values, of others some of them."""
    check = {"shape": list(stored.shape), "color": color}
    if not exact:
        check["about"] = samples(stored)
    else:
        check["stored"] = digest(stored)
        if physical is not None:
            check["physical"] = digest(physical)
    if shown is not None:
        check["shown"] = samples(shown)
    return check


def window(ds, stored, physical):
    """The share of white of the default VOI, 0 to 65535, as pydicom computes it; None without one."""
    usable = ds.get("WindowWidth") is not None and ds.get("WindowCenter") is not None
    width = np.atleast_1d(ds.WindowWidth)[0] if usable else 0
    if not ds.get("VOILUTSequence") and (not usable or float(width) < 1):
        return None
    out = apply_voi_lut(physical, ds).astype(float)
    if ds.get("VOILUTSequence"):
        low, high = 0, 2 ** ds.VOILUTSequence[0].LUTDescriptor[2] - 1
    else:
        # The range that apply_windowing maps to.
        if ds.get("ModalityLUTSequence"):
            low, high = 0, 2 ** ds.ModalityLUTSequence[0].LUTDescriptor[2] - 1
        elif ds.PixelRepresentation == 0:
            low, high = 0, 2**ds.BitsStored - 1
        else:
            low, high = -(2 ** (ds.BitsStored - 1)), 2 ** (ds.BitsStored - 1) - 1
        if ds.get("RescaleSlope") is not None and ds.get("RescaleIntercept") is not None:
            low, high = (v * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for v in (low, high))
    share = (out - low) / (high - low)
    return np.rint((1 - share if ds.PhotometricInterpretation == "MONOCHROME1" else share) * 65535)


def frame_set(ds, index):
    """The data set with the attributes that its functional groups give to a frame."""
    one = Dataset()
    one.file_meta = ds.file_meta
    for key in ("PhotometricInterpretation", "BitsStored", "PixelRepresentation", "WindowCenter", "WindowWidth", "RescaleSlope",
                "RescaleIntercept", "VOILUTFunction", "VOILUTSequence", "ModalityLUTSequence", "BitsAllocated"):
        if key in ds:
            one[key] = copy.deepcopy(ds[key])
    for groups in (ds.get("SharedFunctionalGroupsSequence"), ds.get("PerFrameFunctionalGroupsSequence")):
        if groups:
            item = groups[index] if len(groups) > index else groups[0]
            for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
                if item.get(name):
                    one.update(item[name].value[0])
    return one


def describe_dicom(path):
    ds = pydicom.dcmread(path, force=True)
    if path.stem == "no_preamble":
        ds.file_meta.TransferSyntaxUID = UID(IMPLICIT)
    frames = int(ds.get("NumberOfFrames") or 1)
    checks = {}
    # All at once: a single frame of an odd number of bits is beyond pydicom.
    every = pixel_array(ds, raw=True) if "PixelData" in ds else ds.pixel_array
    for index in sorted({0, frames // 2, frames - 1}):
        stored = every[index] if frames > 1 else every
        syntax = ds.file_meta.get("TransferSyntaxUID", "")
        exact = syntax not in LOSSY
        photometric = ds.PhotometricInterpretation
        if photometric == "PALETTE COLOR":
            checks[index] = described(apply_color_lut(stored, ds), None, exact, color="Rgb")
        elif ds.SamplesPerPixel > 1:
            ybr = photometric.startswith("YBR_FULL")
            checks[index] = described(stored, None, exact, color="Ybr" if ybr else "Rgb")
        else:
            one = frame_set(ds, index)
            physical = apply_modality_lut(stored, one) if "PixelData" in ds else stored
            checks[index] = described(stored, physical, exact, window(one, stored, physical))
    return {"frames": frames, "frame": checks}


def describe_volume(array, spacing, affine):
    """`array`: [frame, row, column] or [frame, row, column, channel], in physical values."""
    checks = {}
    for index in sorted({0, len(array) // 2, len(array) - 1}):
        color = "Rgb" if array.ndim == 4 else "Gray"
        frame = array[index].astype(float)
        checks[index] = described(frame, None, True, color=color)
    return {"frames": len(array), "frame": checks, "spacing": [float(v) for v in spacing], "affine": affine}


# DICOM


def pattern(levels, channels=1, shift=0):
    y, x = np.mgrid[0:H, 0:W]
    planes = [((x * (7 + c) + y * 13 + x * y * 5 + shift + (x // 4) * (y // 3) * 37) * levels // 256) % levels for c in range(channels)]
    return np.stack(planes, -1).squeeze()


def smooth(levels, channels=1):
    y, x = np.mgrid[0:H, 0:W]
    planes = [(x / W * 0.6 + y / H * 0.3 + 0.02 * c) * levels for c in range(channels)]
    return np.stack(planes, -1).squeeze().astype(int)


def data_set(array, syntax=EXPLICIT, bits=8, stored=None, signed=False, photometric="MONOCHROME2", frames=1, **more):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7")
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = UID("1.2.3.4")
    ds.Modality, ds.PatientID = "OT", "Nobody"
    ds.Rows, ds.Columns = H, W
    ds.SamplesPerPixel = 1 if photometric[0] in "MP" else 3
    ds.PhotometricInterpretation = photometric
    if ds.SamplesPerPixel == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, stored or bits, (stored or bits) - 1
    ds.PixelRepresentation = int(signed)
    if frames > 1:
        ds.NumberOfFrames = frames
    for key, value in more.items():
        setattr(ds, key, value)
    if array is not None:
        if isinstance(array, np.ndarray):
            kind = {1: "u1", 8: "u1", 16: "u2", 32: "u4"}[bits]
            order = ">" if syntax == BIG else "<"
            array = array.astype(order + (kind.replace("u", "i") if signed else kind)).tobytes()
        ds.PixelData = array + b"\0" * (len(array) % 2)
        ds["PixelData"].VR = "OW" if bits > 8 or syntax == IMPLICIT else "OB"
    return ds


def save(name, ds):
    ds.save_as(OUT / f"{name}.dcm", enforce_file_format=True)


def save_fragments(name, ds, frames, table=True, per_frame=1):
    ds.PixelData = encapsulate(frames, has_bot=table, fragments_per_frame=per_frame)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    save(name, ds)


def sequence(**values):
    item = Dataset()
    for key, value in values.items():
        setattr(item, key, value)
    return [item]


def words(values):
    return np.asarray(values).astype("<u2").tobytes()


def lossless_jpeg(array, precision, predictor=1, restart=0, shift=0):
    """ITU-T T.81 annex H, with one Huffman table of 17 codes of 5 bits. `array`: [h, w] or [h, w, channels]."""
    planes = np.atleast_3d(array).astype(int) >> shift
    height, width, count = planes.shape
    segment = lambda marker, body: struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
    parts = b"".join(bytes([c + 1, 0x11, 0]) for c in range(count))
    out = b"\xff\xd8" + segment(0xC4, bytes([0] + [0] * 4 + [17] + [0] * 11) + bytes(range(17)))
    out += segment(0xC3, struct.pack(">BHHB", precision, height, width, count) + parts)
    if restart:
        out += segment(0xDD, struct.pack(">H", restart * width))
    out += segment(0xDA, bytes([count]) + b"".join(bytes([c + 1, 0]) for c in range(count)) + bytes([predictor, 0, shift]))
    bits, scan = "", b""

    def flush(bits):
        bits += "1" * (-len(bits) % 8)
        raw = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
        return raw.replace(b"\xff", b"\xff\x00")

    for y in range(height):
        if restart and y and y % restart == 0:
            scan, bits = scan + flush(bits) + bytes([0xFF, 0xD0 + (y // restart - 1) % 8]), ""
        first = y == 0 or (restart and y % restart == 0)
        for x in range(width):
            for c in range(count):
                a = planes[y, x - 1, c] if x else 0
                b = planes[y - 1, x, c] if y else 0
                d = planes[y - 1, x - 1, c] if x and y else 0
                if first:
                    guess = 1 << (precision - shift - 1) if x == 0 else a
                elif x == 0:
                    guess = b
                else:
                    guess = [a, b, d, a + b - d, a + ((b - d) >> 1), b + ((a - d) >> 1), (a + b) >> 1][predictor - 1]
                value = (planes[y, x, c] - guess) & 0xFFFF
                value = value - 65536 if value > 32768 else value
                size = int(abs(value)).bit_length() if value != 32768 else 16
                bits += f"{size:05b}"
                if 0 < size < 16:
                    bits += f"{value if value > 0 else value + (1 << size) - 1:0{size}b}"
    return out + scan + flush(bits) + b"\xff\xd9"


def plain_files():
    save("u8", data_set(pattern(256)))
    save("u12", data_set(pattern(4096), bits=16, stored=12, WindowCenter="2000", WindowWidth="3000"))
    save("u16_mono1", data_set(pattern(65536), bits=16, photometric="MONOCHROME1", WindowCenter=[30000, 5], WindowWidth=[50000, 2]))
    ct = dict(Modality="CT", RescaleSlope="1", RescaleIntercept="-1024", WindowCenter="40", WindowWidth="400")
    save("s16_ct", data_set(pattern(4096) - 1000, bits=16, signed=True, **ct))
    save("s12_ct", data_set((pattern(4096) - 2048) & 0xFFFF, bits=16, stored=12, signed=False, PixelRepresentation=1, **ct))
    save("u10_high12", data_set(pattern(1024) << 3, bits=16, stored=10, HighBit=12))
    save("u32", data_set(pattern(2**20) * 4000, bits=32, RescaleSlope="0.001", RescaleIntercept="0"))
    for name, function in [("linear", "LINEAR"), ("exact", "LINEAR_EXACT"), ("sigmoid", "SIGMOID")]:
        more = dict(WindowCenter="100.5", WindowWidth="77", VOILUTFunction=function, RescaleSlope="1.5", RescaleIntercept="-20")
        save(f"window_{name}", data_set(pattern(256), **more))
    save("window_one", data_set(pattern(256), WindowCenter="100", WindowWidth="1"))
    save("window_none", data_set(pattern(256), WindowCenter="0", WindowWidth="0"))
    lut = dict(LUTDescriptor=[200, 20, 12], LUTData=words((np.arange(200) ** 2 // 10) % 4096))
    save("voi_lut", data_set(pattern(256), VOILUTSequence=sequence(**lut), WindowCenter="5", WindowWidth="6"))
    lut8 = dict(LUTDescriptor=[256, 0, 8], LUTData=words(255 - np.arange(256)))
    save("voi_lut8", data_set(pattern(256), VOILUTSequence=sequence(**lut8)))
    lut = dict(LUTDescriptor=[100, -50, 16], LUTData=words(np.arange(100) * 600), ModalityLUTType="US")
    ds = data_set(pattern(200) - 100, bits=16, signed=True, ModalityLUTSequence=sequence(**lut), WindowCenter="30000", WindowWidth="40000")
    ds.ModalityLUTSequence[0]["LUTDescriptor"].VR = "SS"
    save("modality_lut", ds)
    save("padding", data_set(np.where(pattern(256) > 200, -2000, pattern(256)), bits=16, signed=True, PixelPaddingValue=-2000))

    rgb = pattern(256, 3)
    save("rgb", data_set(rgb, photometric="RGB"))
    save("rgb_planar", data_set(rgb.transpose(2, 0, 1), photometric="RGB", PlanarConfiguration=1))
    save("rgb16", data_set(pattern(65536, 3), bits=16, photometric="RGB"))
    save("ybr", data_set(rgb, photometric="YBR_FULL"))
    half = pattern(256, 3)[:, :8]
    packed = np.stack([half[:, ::2, 0], half[:, 1::2, 0], half[:, ::2, 1], half[:, ::2, 2]], -1)
    save("ybr_422", data_set(packed.astype("u1").tobytes(), photometric="YBR_FULL_422", Columns=8))
    tables = {}
    for c, color in enumerate(("Red", "Green", "Blue")):
        tables[f"{color}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tables[f"{color}PaletteColorLookupTableData"] = words((np.arange(256) * (251 + c) * 7) % 65536)
    save("palette", data_set(pattern(256), photometric="PALETTE COLOR", **tables))
    for c, color in enumerate(("Red", "Green", "Blue")):
        tables[f"{color}PaletteColorLookupTableDescriptor"] = [100, 10, 8]
        tables[f"{color}PaletteColorLookupTableData"] = bytes((np.arange(100) * (3 + c) % 256).astype("u1"))
    save("palette8", data_set(pattern(128), photometric="PALETTE COLOR", **tables))
    for c, color in enumerate(("Red", "Green", "Blue")):
        tables[f"{color}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        del tables[f"{color}PaletteColorLookupTableData"]
        tables[f"Segmented{color}PaletteColorLookupTableData"] = words([0, 3, 5, 900 * c, 77, 1, 200, 60000, 1, 53, 7])
    save("palette_segmented", data_set(pattern(256), photometric="PALETTE COLOR", **tables))

    bits = np.stack([pattern(2, shift=s) for s in range(3)])
    save("bits", data_set(np.packbits(bits.reshape(-1).astype("u1"), bitorder="little").tobytes(), bits=1, frames=3))
    ds = data_set(None, bits=32)
    ds.FloatPixelData = (pattern(256) * 0.37 - 20).astype("<f4").tobytes()
    save("float", ds)
    ds = data_set(None, bits=64)
    ds.DoubleFloatPixelData = (pattern(256) * 0.37 - 20).astype("<f8").tobytes()
    save("double", ds)

    group = lambda c, w, s, i: sequence(
        FrameVOILUTSequence=sequence(WindowCenter=c, WindowWidth=w),
        PixelValueTransformationSequence=sequence(RescaleSlope=s, RescaleIntercept=i, RescaleType="US"))[0]
    ds = data_set(np.stack([pattern(4096, shift=s) for s in range(3)]), bits=16, stored=12, frames=3)
    ds.PerFrameFunctionalGroupsSequence = [group("500", "900", "1", "0"), group("900", "700", "2", "-5"), group("100", "50", "0.5", "3")]
    ds.SharedFunctionalGroupsSequence = sequence(PixelMeasuresSequence=sequence(PixelSpacing=[0.5, 0.25], SliceThickness="3"))
    save("per_frame", ds)

    save("implicit", data_set(pattern(4096) - 1000, IMPLICIT, bits=16, signed=True, **ct))
    save("implicit_voi_lut", data_set(pattern(256), IMPLICIT, VOILUTSequence=sequence(**lut8)))
    save("big", data_set(pattern(4096) - 1000, BIG, bits=16, signed=True, **ct))
    save("big_rgb", data_set(rgb, BIG, photometric="RGB"))
    save("deflated", data_set(pattern(4096), EXPLICIT + ".99", bits=16, stored=12))
    whole = (OUT / "implicit.dcm").read_bytes()
    start = whole.index(b"\x08\x00\x16\x00")
    (OUT / "no_preamble.dcm").write_bytes(whole[start:])


def coded_files():
    def compress(name, syntax, ds, **options):
        ds.compress(UID(syntax), generate_instance_uid=False, **options)
        save(name, ds)

    rgb = pattern(256, 3)
    compress("rle_u8", EXPLICIT[:-2] + ".5", data_set(pattern(256)))
    compress("rle_s16", EXPLICIT[:-2] + ".5", data_set(pattern(4096) - 2000, bits=16, signed=True))
    compress("rle_rgb", EXPLICIT[:-2] + ".5", data_set(rgb, photometric="RGB"))
    compress("rle_flat_rgb16", EXPLICIT[:-2] + ".5", data_set(pattern(65536, 3) // 9000 * 9000, bits=16, photometric="RGB"))
    frames = np.stack([pattern(65536, shift=s) for s in range(3)])
    compress("rle_frames", EXPLICIT[:-2] + ".5", data_set(frames, bits=16, frames=3))
    compress("jpegls_u8", JPEG + "80", data_set(pattern(256)))
    compress("jpegls_flat", JPEG + "80", data_set(pattern(256) // 60 * 60))
    compress("jpegls_u12", JPEG + "80", data_set(smooth(4096), bits=16, stored=12))
    compress("jpegls_u16", JPEG + "80", data_set(pattern(65536), bits=16))
    compress("jpegls_s16", JPEG + "80", data_set(pattern(4096) - 2000, bits=16, signed=True))
    compress("jpegls_rgb", JPEG + "80", data_set(rgb // 40 * 40, photometric="RGB"))
    compress("jpegls_near", JPEG + "81", data_set(smooth(256)), jls_error=3)
    compress("jpegls_near_u12", JPEG + "81", data_set(pattern(4096), bits=16, stored=12), jls_error=9)
    # The encoder wants at least 32 pixels a side.
    tiled = lambda array: np.tile(array, (4, 4, 1)[: array.ndim])
    large = dict(Rows=4 * H, Columns=4 * W)
    compress("j2k_u8", JPEG + "90", data_set(tiled(pattern(256)), **large))
    compress("j2k_u16", JPEG + "90", data_set(tiled(pattern(65536)), bits=16, **large))
    compress("j2k_u12", JPEG + "90", data_set(tiled(pattern(4096)), bits=16, stored=12, **large))
    compress("j2k_s16", JPEG + "90", data_set(tiled(pattern(65536) - 32768), bits=16, signed=True, **large))
    compress("j2k_rgb", JPEG + "90", data_set(tiled(rgb // 40 * 40), photometric="RGB", **large))
    compress("j2k_lossy", JPEG + "91", data_set(tiled(smooth(4096)), bits=16, stored=12, **large), j2k_cr=[4])

    for predictor in range(1, 8):
        code = lossless_jpeg(pattern(65536), 16, predictor)
        save_fragments(f"lossless_{predictor}", data_set(None, JPEG + "57", bits=16), [code])
    save_fragments("lossless_u8", data_set(None, JPEG + "70"), [lossless_jpeg(pattern(256), 8)])
    save_fragments("lossless_s16", data_set(None, JPEG + "70", bits=16, signed=True), [lossless_jpeg(pattern(65536), 16)])
    save_fragments("lossless_restart", data_set(None, JPEG + "57", bits=16, stored=12), [lossless_jpeg(pattern(4096), 12, 4, restart=2)])
    save_fragments("lossless_shift", data_set(None, JPEG + "57", bits=16, stored=12), [lossless_jpeg(pattern(4096) & ~3, 12, 6, shift=2)])
    save_fragments("lossless_rgb", data_set(None, JPEG + "57", photometric="RGB"), [lossless_jpeg(rgb, 8, 5)])
    codes = [lossless_jpeg(pattern(256, shift=s), 8) for s in range(3)]
    codes = [code + b"\0" * (len(code) % 2) for code in codes]
    save_fragments("fragments", data_set(None, JPEG + "70", frames=3), codes, per_frame=2)
    save_fragments("fragments_no_table", data_set(None, JPEG + "70", frames=3), codes, table=False, per_frame=2)

    def pillow(array, **options):
        stream = io.BytesIO()
        Image.fromarray(array.astype("u1")).save(stream, "jpeg", quality=95, **options)
        return stream.getvalue()

    save_fragments("jpeg_gray", data_set(None, JPEG + "50"), [pillow(smooth(256))])
    save_fragments("jpeg_ybr", data_set(None, JPEG + "50", photometric="YBR_FULL"), [pillow(smooth(256, 3), subsampling=0)])
    save_fragments("jpeg_rgb", data_set(None, JPEG + "50", photometric="RGB"), [pillow(smooth(256, 3), subsampling=0, keep_rgb=True)])
    extended = imagecodecs.jpeg8_encode(smooth(4096).astype("u2"), level=90, bitspersample=12)
    save_fragments("jpeg_12bit", data_set(None, JPEG + "51", bits=16, stored=12), [extended])

    raw = [pattern(4096, shift=s).astype("<u2").tobytes() for s in range(2)]
    save_fragments("encapsulated", data_set(None, EXPLICIT + ".98", bits=16, stored=12, frames=2), raw)
    deflate = lambda data: (lambda z: z.compress(data) + z.flush())(zlib.compressobj(9, zlib.DEFLATED, -15))
    packed = [deflate(data) for data in raw]
    save_fragments("deflated_frames", data_set(None, EXPLICIT + ".98", bits=16, stored=12, frames=2), packed)
    # Newer than pydicom's list of transfer syntaxes.
    path = OUT / "deflated_frames.dcm"
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1.98", b"1.2.840.10008.1.2.8.1\0"))
    frames = [np.frombuffer(data, "<u2").reshape(H, W) for data in raw]
    return {"encapsulated": frames, "deflated_frames": frames}


def broken_files():
    """Name and a part of the error."""
    whole = lambda name: (OUT / f"{name}.dcm").read_bytes()
    broken = {}

    def put(name, data, error):
        (OUT / name).write_bytes(data)
        broken[name] = error

    put("bad_short.dcm", whole("u12")[:-40], "bytes of pixels")
    put("bad_cut.dcm", whole("per_frame")[:700], "it ends in the middle of an element, in element (5200,9230)")
    for name in ("rle_s16", "jpegls_u16", "j2k_u16", "lossless_1", "jpeg_gray", "deflated_frames"):
        data = whole(name)
        at = data.index(b"\xfe\xff\x00\xe0", data.index(b"\xe0\x7f\x10\x00") + 20)
        put(f"bad_{name}.dcm", data[: at + 8 + (len(data) - at - 8) // 2], "cannot be read")
    save("bad_rows", data_set(pattern(256), Rows=0))
    broken["bad_rows.dcm"] = "no pixels (9 x 0)"
    ds = data_set(pattern(256))
    del ds.Columns
    save("bad_columns", ds)
    broken["bad_columns.dcm"] = "no Columns"
    ds = data_set(None)
    save("bad_empty", ds)
    broken["bad_empty.dcm"] = "it holds no pixels (its modality is OT)"
    save("bad_huge", data_set(pattern(256), Rows=65000, Columns=65000))
    broken["bad_huge.dcm"] = "65000 x 65000"
    save_fragments("bad_size", data_set(None, JPEG + "70", Columns=8), [lossless_jpeg(pattern(256), 8)])
    broken["bad_size.dcm"] = "its compressed image is 9 x 11"
    save_fragments("bad_syntax", data_set(None, "1.2.840.10008.1.2.4.100"), [b"\0\0"])
    broken["bad_syntax.dcm"] = "1.2.840.10008.1.2.4.100 is not read"
    save("bad_channels", data_set(pattern(256), SamplesPerPixel=4))
    broken["bad_channels.dcm"] = "4 channels"
    return broken


# MetaImage and NIfTI


def volume_files():
    files = {}
    rng = np.random.default_rng(5)
    volume = rng.integers(0, 120, (3, 5, 7))
    signed = volume - 60

    def itk(name, array, compress=False):
        image = SimpleITK.GetImageFromArray(array, isVector=array.ndim == 4)
        image.SetSpacing((0.5, 0.75, 2.0))
        image.SetOrigin((-10.0, 20.0, 5.5))
        image.SetDirection((0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
        SimpleITK.WriteImage(image, str(OUT / name), useCompression=compress)
        back = SimpleITK.ReadImage(str(OUT / name))
        steps = np.array(back.GetDirection()).reshape(3, 3) * np.array(back.GetSpacing())
        affine = np.column_stack([steps, back.GetOrigin()]).tolist()
        files[name] = describe_volume(SimpleITK.GetArrayFromImage(back), back.GetSpacing(), affine)

    for kind in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"):
        values = signed * 1.25 if kind[0] == "f" else volume if kind[0] == "u" else signed
        itk(f"meta_{kind}.mha", values.astype(kind))
    itk("meta_packed.mha", signed.astype("i2"), compress=True)
    itk("meta_beside.mhd", signed.astype("i2"))
    itk("meta_packed_beside.mhd", signed.astype("i2"), compress=True)
    itk("meta_rgb.mha", np.stack([volume, volume + 5, volume * 2], -1).astype("u1"))
    text = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = True\nDimSize = 7 5 3\n"
    text += "ElementSpacing = 1 1 1\nHeaderSize = -1\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    (OUT / "meta_big.mha").write_bytes(text.encode() + b"gap" + signed.astype(">i2").tobytes())
    files["meta_big.mha"] = describe_volume(signed, (1, 1, 1), None)

    def nifti(name, array, make=lambda array, affine: nibabel.Nifti1Image(array, affine, dtype=array.dtype), change=None):
        matrix = np.array([[0.0, -0.5, 0.1, 4.0], [0.75, 0.0, 0.0, -3.0], [0.0, 0.1, 2.0, 8.0], [0, 0, 0, 1]])
        image = make(array, matrix)
        if change:
            change(image)
        nibabel.save(image, OUT / name)
        back = nibabel.load(OUT / name)
        data = np.asanyarray(back.dataobj)
        if data.dtype.names:
            data = np.stack([data[c] for c in data.dtype.names], -1).transpose(2, 1, 0, 3)
        else:
            data = data.reshape(*data.shape[:2], -1, order="F").transpose(2, 1, 0)
        files[name] = describe_volume(data, back.header.get_zooms()[:3], back.affine[:3].tolist())

    across = volume.transpose(2, 1, 0)
    for kind in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"):
        nifti(f"nifti_{kind}.nii", (across - (0 if kind[0] == "u" else 60)).astype(kind))
    nifti("nifti_packed.nii.gz", (across - 60).astype("i2"))
    nifti("nifti_two.nii", (across - 60).astype("i2"), nibabel.Nifti2Image)
    nifti("nifti_two_packed.nii.gz", (across * 1.5).astype("f8"), nibabel.Nifti2Image)
    nifti("nifti_scaled.nii", (across - 60).astype("i2"), change=lambda image: image.header.set_slope_inter(0.25, -3.5))
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nifti("nifti_big.nii", (across - 60).astype(">i2"), lambda array, affine: nibabel.Nifti1Image(array, affine, header))
    header2 = nibabel.Nifti2Header(endianness=">")
    header2.set_data_dtype(">f4")
    nifti("nifti_two_big.nii", (across / 4).astype(">f4"), lambda array, affine: nibabel.Nifti2Image(array, affine, header2))
    nifti("nifti_time.nii", np.stack([across, across[::-1]], -1).astype("u1"))
    color = np.zeros(across.shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    color["R"], color["G"], color["B"] = across, across + 7, across * 2
    nifti("nifti_rgb.nii", color)

    def quaternion(image):
        turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, -1]]) * np.array([0.5, 0.75, 2.0])
        image.set_qform(np.vstack([np.column_stack([turn, [1, 2, 3]]), [0, 0, 0, 1]]), 1)
        image.set_sform(None, 0)

    nifti("nifti_qform.nii", across.astype("u1"), change=quaternion)

    broken = {}

    def put(name, data, error):
        (OUT / name).write_bytes(data)
        broken[name] = error

    plain, packed = (OUT / "nifti_i2.nii").read_bytes(), (OUT / "nifti_packed.nii.gz").read_bytes()
    put("bad_short.nii", plain[:-9], "too few for its size")
    put("bad_header.nii", plain[:347], "its header is cut off")
    put("bad_packed.nii.gz", packed[: len(packed) // 2], "compressed data")
    put("bad_type.nii", plain[:70] + struct.pack("<h", 32) + plain[72:], "elements of type 32")
    put("bad_sizes.nii", plain[:42] + struct.pack("<hhh", -4, 5, 3) + plain[48:], "a size of [-4, 5, 3]")
    put("bad_huge.nii", plain[:42] + struct.pack("<hhh", 32000, 32000, 9) + plain[48:], "32000 x 32000")
    meta, zipped = (OUT / "meta_i2.mha").read_bytes(), (OUT / "meta_packed.mha").read_bytes()
    put("bad_short.mha", meta[:-9], "too few for its size")
    put("bad_packed.mha", zipped[:-20], "compressed data")
    put("bad_type.mha", meta.replace(b"MET_SHORT", b"MET_OTHER"), "MET_OTHER")
    put("bad_sizes.mha", meta.replace(b"DimSize = 7 5 3", b"DimSize = 7 5"), "3 dimensions and 2 sizes")
    put("bad_alone.mhd", (OUT / "meta_beside.mhd").read_bytes().replace(b"meta_beside.raw", b"../elsewhere.raw"), "beside it")
    return files, broken


# Intensity


def recipe_cases():
    """What the recipes make of some files, by numpy: levels of 16 bit, of 8 for the study's."""
    cases = []
    for name in ("s16_ct", "u12", "padding", "u16_mono1", "window_none"):
        ds = pydicom.dcmread(OUT / f"{name}.dcm")
        stored = pixel_array(ds, raw=True)
        physical = np.asarray(apply_modality_lut(stored, ds), float)
        valid = stored != ds.get("PixelPaddingValue", 10**9)
        inside = physical[valid]
        mean, deviation = inside.mean(), inside.std()
        depth, signed = ds.BitsStored, ds.PixelRepresentation
        stored_range = (-(2 ** (depth - 1)), 2 ** (depth - 1) - 1) if signed else (0, 2**depth - 1)
        slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
        ranges = {
            "range:-900,350.5": (-900, 350.5),
            "percentile:2,97.5": np.percentile(inside, [2, 97.5]),
            "percentile:0.5,99.5": np.percentile(inside, [0.5, 99.5]),
            "min-max": (inside.min(), inside.max()),
            "z-score": (mean - 3 * deviation, mean + 3 * deviation),
            "stored": [v * slope + intercept for v in stored_range],
        }
        inverted = ds.PhotometricInterpretation == "MONOCHROME1"
        for recipe, (low, high) in ranges.items():
            share = np.clip((physical - low) / (high - low), 0, 1)
            levels = np.rint((1 - share if inverted else share) * 65535)
            if recipe[0] in "pmz":
                levels[~valid] = 0
            cases.append({"file": f"{name}.dcm", "recipe": recipe, "levels": levels.astype(int).reshape(-1).tolist()})
        given = frame_set(ds, 0)
        given.WindowCenter, given.WindowWidth = "55.5", "333"
        levels = window(given, stored, physical).astype(int).reshape(-1).tolist()
        cases.append({"file": f"{name}.dcm", "recipe": "window:55.5,333", "levels": levels})
        if ds.get("WindowWidth") and float(np.atleast_1d(ds.WindowWidth)[0]) >= 1:
            center, width = (float(np.atleast_1d(v)[0]) for v in (ds.WindowCenter, ds.WindowWidth))
            ramp = (physical - center + width / 2) / width * 255
            ramp[physical <= center - width / 2], ramp[physical > center + width / 2] = 0, 255
            cases.append({"file": f"{name}.dcm", "recipe": "study", "levels": ramp.astype("u1").reshape(-1).tolist()})
    return cases


def plain_resize_cases():
    """torch's bilinear interpolation without antialiasing, which is that of OpenCV, of the picture of make_data_fixtures.py."""
    cases = []
    for width, height, size in [(60, 45, 16), (45, 60, 16), (20, 14, 33)]:
        y, x = np.mgrid[0:height, 0:width].astype(np.uint64)
        value = (x * 977 + y * 1531 + (x * y * 7919) // 64 + (x // 5) * (y // 3) * 4099) * 256 // 65536 % 256
        to = (max(1, width * size // max(width, height)), max(1, height * size // max(width, height)))
        scaled = torch.nn.functional.interpolate(torch.tensor(value.astype(float))[None, None], to[::-1], mode="bilinear")
        left_top = [(size - to[0]) // 2, (size - to[1]) // 2]
        levels = np.rint(scaled[0, 0].numpy()).astype(int)
        cases.append({"from": [width, height], "size": size, "left_top": left_top, "levels": levels.tolist()})
    return cases


def write(name, content):
    (OUT / name).write_text(json.dumps(content, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()
    plain_files()
    # What pydicom does not read (the newest transfer syntaxes), or not as PS3.5 8.1.1 has it (a shifted high bit).
    known = coded_files() | {"u10_high12": [pattern(1024)]}
    files = {}
    for path in sorted(OUT.glob("*.dcm")):
        if path.stem in known:
            frames = known[path.stem]
            files[path.name] = {"frames": len(frames), "frame": {i: described(f, f, True) for i, f in enumerate(frames)}}
        elif path.stem in ("jpeg_12bit", "lossless_shift"):
            # libjpeg-turbo reads what pylibjpeg-libjpeg does not, or not right.
            code = next(pydicom.encaps.generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1))
            stored = imagecodecs.jpeg8_decode(code)
            files[path.name] = {"frames": 1, "frame": {0: described(stored, stored, path.stem == "lossless_shift")}}
        else:
            files[path.name] = describe_dicom(path)
    volumes, broken = volume_files()
    broken |= broken_files()
    recipes = {"recipes": recipe_cases(), "plain": plain_resize_cases()}
    write("reference.json", {"files": files | volumes, "broken": broken} | recipes)
    if len(sys.argv) > 1:
        root = Path(sys.argv[1])
        real, unread = {}, {}
        for path in sorted(root.glob("**/*.dcm")):
            name = path.relative_to(root).as_posix()
            try:
                real[name] = describe_dicom(path)
            except Exception as e:
                unread[name] = type(e).__name__
        write("real.json", {"files": real, "unread": unread})
