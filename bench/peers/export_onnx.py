"""Writes networks as ONNX files: u8 NHWC in, logits out, any batch size.

    export_onnx.py FOLDER MODEL ...
"""

import os
import pathlib
import sys

import onnx
import torch

import clock
import networks


def export(model, path):
    size = clock.size(model)
    net = networks.settle(networks.build(model), size)
    net = networks.FromBytes(net, torch.float32, nhwc=False).eval()
    x = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    batch = torch.export.Dim("N", min=1, max=1024)
    unfinished = path.with_suffix(".unfinished")
    torch.onnx.export(
        net, (x,), unfinished, input_names=["input"], output_names=["logits"], dynamo=True,
        external_data=False, opset_version=18, dynamic_shapes=({0: batch},), verbose=False,
    )  # fmt: skip
    onnx.checker.check_model(unfinished)
    os.replace(unfinished, path)


for name in sys.argv[2:]:
    export(name, pathlib.Path(sys.argv[1]) / f"{name}.onnx")
