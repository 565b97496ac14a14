"""Lists hands, chests and lungs of public sets as one archive with pseudo-labels, to pretrain on.

    python scripts/list_archive.py DATA ARCHIVE.csv

DATA holds bone_age_rsna, nih_cxr, lidc_nodules and lung_ct_rider. The classes are what an archive's own records tell: region, view,
sex, age band, finding. Patients and splits are those of the sets.
"""

import csv
import os
import sys
from pathlib import Path


def rows(table):
    with open(table, newline="") as file:
        yield from csv.DictReader(file)


def hands(folder):
    for row in rows(folder / "labels.csv"):
        months = int(row["boneage_months"])
        age = "to-8" if months < 96 else "to-12" if months < 144 else "to-19"
        sex = "boy" if row["male"] == "1" else "girl"
        yield row["file"], f"hand-{age}-{sex}", "CR", f"hand-{row['id']}", row["split"]


def chests(folder):
    for row in rows(folder / "labels.csv"):
        finding = "pneumonia" if row["pneumonia"] == "1" else "clear"
        yield row["file"], f"chest-{row['view'].lower()}-{finding}", "CR", f"chest-{row['patient_id']}", row["split"]


def nodules(folder):
    for row in rows(folder / "index.csv"):
        area = int(row["area_majority"])
        size = "none" if area == 0 else "small" if area < 60 else "large"
        yield row["image"], f"nodule-{size}", "CT", row["patient"], row["split"]


def lungs(folder):
    header = dict(line.split(" = ") for line in (folder / "ct.mhd").read_text().splitlines())
    for slice in range(int(header["DimSize"].split()[2])):
        yield f"ct.mhd#{slice}", "lung", "CT", "rider", "train"


def main(data, archive):
    sets = {"bone_age_rsna": hands, "nih_cxr": chests, "lidc_nodules": nodules, "lung_ct_rider": lungs}
    with open(archive, "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["path", "label", "modality", "group", "split"])
        for name, read in sets.items():
            folder = Path(data, name)
            place = os.path.relpath(folder, Path(archive).parent)
            table.writerows([f"{place}/{path}", *rest] for path, *rest in read(folder))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
