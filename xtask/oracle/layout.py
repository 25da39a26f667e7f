"""fixtures/parity/layout.json: torchvision's deep networks at 224x224 with hashed weights, logits of one picture.

    layout.py OUT_FOLDER [REFERENCE_JSON]

The input is float, 4u - 2 of the name `input` in NCHW order, not pixels. The numbers are float64. With the reference
file (1,000 logits of eight digits, made by others with the same formulas) the new logits are compared first.
"""

import json
import pathlib
import sys

import numpy as np
import torch

import fixture
from hashing import summary, uniform
from models import build

NETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
CLASSES = 1000
SIZE = 224
# The reference file has eight significant digits: half a unit of the last one, by the largest logit.
AGREE = 5e-8


def main():
    torch.set_num_threads(1)
    u = torch.from_numpy(uniform("input", 3 * SIZE * SIZE)).double()
    x = (4 * u - 2).reshape(1, 3, SIZE, SIZE)
    reference = json.loads(pathlib.Path(sys.argv[2]).read_text())["nets"] if len(sys.argv) > 2 else {}
    nets = {}
    for model in NETS:
        net, _ = build(model, CLASSES, 0, torch.float64)
        with torch.no_grad():
            logits = net.eval()(x)[0].numpy()
        if model in reference:
            apart = float(np.max(np.abs(logits - reference[model]["logits"])) / np.max(np.abs(logits)))
            print(f"{model}: {apart:.1e} of the largest logit from {sys.argv[2]}", flush=True)
            if AGREE < apart:
                raise SystemExit(f"{model}: weights or network differ from the reference")
        nets[model] = {
            "largest": float(np.max(np.abs(logits))),
            "argmax": int(np.argmax(logits)),
            "logits": summary(f"layout/{model}", logits, samples=64),
        }
    fixture.write(
        pathlib.Path(sys.argv[1]) / "parity" / "layout.json",
        "layout.py",
        0,
        {"classes": CLASSES, "size": SIZE, "nets": nets},
    )


if __name__ == "__main__":
    main()
