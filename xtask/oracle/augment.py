#!/usr/bin/env python3
"""torchvision's augmentations on Pillow pictures, as hashes, for crates/resnet-io/tests/it/operations.rs.

    python3 augment.py crates/resnet-io/tests/fixtures/augment.tsv      (Pillow 13, PyTorch, torchvision)

Byte i of a picture of the kind `noise` is the top byte of i * 2654435761 mod 2^32; of the kind `soft` it is 40 plus that modulo
100. Lines of pixels: operation, magnitude, kind, width, height, sha256 of the RGB bytes. Lines of magnitudes: `space`, its name,
operation, width, height, the magnitudes in order.
"""
import hashlib
import sys

import PIL
import torch
import torchvision
from PIL import Image
from torchvision.transforms import AugMix, AutoAugment, InterpolationMode, RandAugment, TrivialAugmentWide
from torchvision.transforms import functional as F
from torchvision.transforms.autoaugment import _apply_op

SIZES = [(32, 24), (17, 17), (5, 40), (2, 2)]
SIGNED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")


def picture(kind, w, h):
    data = [((i * 2654435761) & 0xFFFFFFFF) >> 24 for i in range(w * h * 3)]
    if kind == "soft":
        data = [40 + v % 100 for v in data]
    return Image.frombytes("RGB", (w, h), bytes(data))


def magnitudes():
    lean = [0.0, 0.17, 0.3, 0.99]
    yield from ((name, sign * m) for name in ("ShearX", "ShearY") for m in lean for sign in (1, -1))
    yield from ((name, sign * m) for name in ("TranslateX", "TranslateY") for m in (0.0, 1.9, 7.0, 31.5) for sign in (1, -1))
    yield from (("Rotate", float(m)) for m in (0, 1, -7.3, 30, 45, 90, 123.4, 135, 180, -90, 270, 359.999))
    yield from ((name, sign * m) for name in ("Brightness", "Color", "Contrast", "Sharpness")
                for m in (0.0, 0.09, 0.5, 0.9, 0.99) for sign in (1, -1))
    yield from (("Posterize", float(m)) for m in (1, 2, 4, 7, 8))
    yield from (("Solarize", m) for m in (255.0, 128.0, 76.5, 0.0))
    yield from ((name, 0.0) for name in ("AutoContrast", "Equalize", "Invert", "Identity", "Grayscale"))
    yield from (("Hue", m) for m in (0.0, 0.1, -0.1, 0.25, -0.5, 0.5))


def changed(image, name, magnitude):
    if name == "Hue":
        return F.adjust_hue(image, magnitude)
    if name == "Grayscale":
        return F.rgb_to_grayscale(image, num_output_channels=3)
    return _apply_op(image, name, magnitude, InterpolationMode.NEAREST, None)


def spaces(size):
    h, w = size[1], size[0]
    yield "rand", RandAugment()._augmentation_space(31, (h, w))
    yield "wide", TrivialAugmentWide()._augmentation_space(31)
    yield "auto", AutoAugment()._augmentation_space(10, (h, w))
    yield "mix", AugMix()._augmentation_space(10, (h, w))


def main():
    with open(sys.argv[1], "w") as out:
        out.write(f"# Pillow {PIL.__version__}, torchvision {torchvision.__version__}, by xtask/oracle/augment.py\n")
        for name, magnitude in magnitudes():
            for kind in ("noise", "soft"):
                for w, h in SIZES:
                    found = changed(picture(kind, w, h), name, magnitude)
                    digest = hashlib.sha256(found.tobytes()).hexdigest()[:16]
                    out.write(f"{name}\t{magnitude!r}\t{kind}\t{w}\t{h}\t{digest}\n")
        for size in ((32, 24),):
            for space, operations in spaces(size):
                for name, (values, signed) in operations.items():
                    assert signed == (name in SIGNED), name
                    if values.ndim:
                        text = " ".join(repr(float(v)) for v in values)
                        out.write(f"space\t{space}\t{name}\t{size[0]}\t{size[1]}\t{text}\n")


main()
