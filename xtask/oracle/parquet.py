#!/usr/bin/env python3
"""A tiny set as Hugging Face's datasets writes it, for crates/resnet-io/tests/it/parquet.rs.

    python3 parquet.py crates/resnet-io/tests/fixtures/parquet      (datasets 5)

Two parts of one set, of pictures whose red value is their number, in row groups of two; below codecs/, the first
file once for each way to compress that others write; labels.parquet has any number of classes a picture.
"""
import io
import pathlib
import sys

import pyarrow.parquet
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as Pillow

NAMES = ["cat", "dog", "newt"]
CODECS = ["brotli", "gzip", "lz4", "none", "snappy", "zstd"]
PARTS = {"train-00000-of-00002": [2, 0, 1], "train-00001-of-00002": [1, 2], "validation-00000-of-00001": [0]}


def png(number):
    data = io.BytesIO()
    Pillow.new("RGB", (4, 3), (number, 20, 30)).save(data, "PNG")
    return data.getvalue()


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    features = Features({"image": Image(), "note": Value("string"), "label": ClassLabel(names=NAMES)})
    number = 0
    for name, labels in PARTS.items():
        rows = {"image": [], "note": [], "label": labels}
        for _ in labels:
            rows["image"].append({"bytes": png(number), "path": f"{number}.png"})
            rows["note"].append("seen" if number % 2 else None)
            number += 1
        Dataset.from_dict(rows, features=features).to_parquet(folder / f"{name}.parquet", batch_size=2)


def several(folder):
    features = Features({"image": Image(), "labels": List(ClassLabel(names=NAMES))})
    rows = {"image": [{"bytes": png(n), "path": None} for n in range(4)], "labels": [[2, 0], [], [1], [2]]}
    Dataset.from_dict(rows, features=features).to_parquet(folder / "codecs" / "labels.parquet")


def recompress(folder):
    table = pyarrow.parquet.read_table(folder / f"{next(iter(PARTS))}.parquet")
    (folder / "codecs").mkdir(exist_ok=True)
    for codec in CODECS:
        pyarrow.parquet.write_table(table, folder / "codecs" / f"{codec}.parquet", compression=codec)


main(pathlib.Path(sys.argv[1]))
recompress(pathlib.Path(sys.argv[1]))
several(pathlib.Path(sys.argv[1]))
