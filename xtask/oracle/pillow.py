#!/usr/bin/env python3
"""Pillow's resized pixels, as hashes, for crates/resnet-io/tests/it/resize.rs.

    python3 pillow.py crates/resnet-io/tests/fixtures/resize.tsv      (Pillow 13)

Byte i of a picture is the top byte of i * 2654435761 mod 2^32. Columns: width, height, new width,
new height, filter, sha256 of the RGB bytes after resize(..., filter).
"""
import hashlib
import sys

import PIL
from PIL import Image

SIZES = [
    (500, 375, 341, 256), (375, 500, 256, 341), (106, 964, 256, 2328), (64, 48, 7, 5), (7, 5, 64, 48),
    (200, 600, 150, 100), (600, 200, 100, 150), (33, 33, 32, 32), (1, 50, 10, 10), (50, 1, 10, 10),
    (257, 300, 256, 299), (300, 257, 40, 256), (3, 2, 224, 224), (640, 427, 383, 256), (31, 400, 31, 20),
]

with open(sys.argv[1], "w") as out:
    out.write(f"# Pillow {PIL.__version__}, by xtask/oracle/pillow.py\n")
    for w, h, width, height in SIZES:
        data = bytes(((i * 2654435761) & 0xFFFFFFFF) >> 24 for i in range(w * h * 3))
        for name in ("nearest", "box", "bilinear", "bicubic", "lanczos"):
            image = Image.frombytes("RGB", (w, h), data).resize((width, height), Image.Resampling[name.upper()])
            out.write(f"{w}\t{h}\t{width}\t{height}\t{name}\t{hashlib.sha256(image.tobytes()).hexdigest()}\n")
