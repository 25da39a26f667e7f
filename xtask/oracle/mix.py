#!/usr/bin/env python3
"""torchvision's MixUp and CutMix on a made batch, for crates/resnet-io/tests/it/mix.rs.

    python3 mix.py crates/resnet-io/tests/fixtures/mix.tsv      (PyTorch, torchvision)

Three pictures of 6x5 pixels, bytes by a hash of their place, of classes 2, 0 and 2 of four. Each line: the kind, its
parameters (mixup: the share in parts of 65536; CutMix: x1 x2 y1 y2), the pixels [n, h, w, 3] as hexadecimal text,
rounded to the nearest, halves up, and the targets [n, classes]. In double precision everything before the rounding is exact.
"""
import sys

import torch
import torchvision
from torchvision.transforms import v2

N, H, W, CLASSES = 3, 5, 6, 4


def main():
    count = N * H * W * 3
    data = [((i * 2654435761) & 0xFFFFFFFF) >> 24 for i in range(count)]
    pixels = torch.tensor(data, dtype=torch.float64).reshape(N, H, W, 3).permute(0, 3, 1, 2)
    labels = torch.tensor([2, 0, 2])
    cases = [("mixup", [share]) for share in (0, 1, 20000, 32768, 60001, 65536)]
    cases += [("cutmix", box) for box in ([0, 4, 1, 3], [2, 6, 0, 5], [3, 3, 2, 2], [0, 6, 0, 5])]
    with open(sys.argv[1], "w") as out:
        out.write(f"# torchvision {torchvision.__version__}, by xtask/oracle/mix.py\n")
        for kind, numbers in cases:
            if kind == "mixup":
                transform, params = v2.MixUp(num_classes=CLASSES), {"lam": numbers[0] / 65536}
            else:
                x1, x2, y1, y2 = numbers
                lam = float(1.0 - (x2 - x1) * (y2 - y1) / (W * H))
                transform, params = v2.CutMix(num_classes=CLASSES), {"box": (x1, y1, x2, y2), "lam_adjusted": lam}
            params |= {"labels": labels, "batch_size": N}
            mixed = transform.transform(pixels, params)
            targets = transform.transform(labels, params)
            rounded = torch.floor(mixed + 0.5).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
            text = bytes(rounded.flatten().tolist()).hex()
            values = " ".join(repr(v) for v in targets.flatten().tolist())
            out.write(f"{kind}\t{' '.join(map(str, numbers))}\t{text}\t{values}\n")


main()
