#!/usr/bin/env python3
"""Reads a model file of ours with the safetensors library and torchvision, and theirs with `resnet`; compares.

    resnet train --model resnet18 --data generated:classes=4,images=32,size=224 --epochs 1 --run r
    python3 readback.py resnet r/checkpoints/last.safetensors photo.jpg

The file must be of a torchvision network. docs/formats.md has what it printed.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
import torchvision
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torchvision.transforms import functional


def probabilities(network, picture, prepare):
    picture = functional.center_crop(functional.resize(picture, prepare["resize"]), prepare["crop"])
    x = functional.to_tensor(picture).double()
    x = functional.normalize(x, prepare["mean"], prepare["std"])
    with torch.no_grad():
        return torch.softmax(network.double().eval()(x[None])[0], 0)


def difference(program, weights, photo, expected, more=()):
    command = [program, "classify", "--weights", weights, photo, "--json", *more]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    predictions = json.loads(printed)["predictions"]
    return max(abs(p["probability"] - expected[p["index"]].item()) for p in predictions)


def main():
    program, weights, photo = sys.argv[1:]
    with safe_open(weights, "pt") as file:
        meta = file.metadata()
    name, prepare = json.loads(meta["resnet.spec"])["name"], json.loads(meta["resnet.preprocess"])
    classes = len(json.loads(meta["resnet.classes"]))
    tensors = {key: value for key, value in load_file(weights).items() if "/" not in key}
    network = getattr(torchvision.models, name)(num_classes=classes)
    print(f"{name}, {len(tensors)} tensors, load_state_dict: {network.load_state_dict(tensors)}")
    picture = Image.open(photo).convert("RGB")
    expected = probabilities(network, picture, prepare)
    print(f"ours in PyTorch: probabilities differ by {difference(program, weights, photo, expected):.1e} at most")

    network = getattr(torchvision.models, name)(num_classes=classes)
    state = network.state_dict()
    expected = probabilities(network, picture, prepare)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        save_file(state, folder / "a.safetensors")
        torch.save(state, folder / "b.pth")
        wrapped = {"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}
        torch.save(wrapped, folder / "c.pth", _use_new_zipfile_serialization=False)
        for path in sorted(folder.iterdir()):
            found = difference(program, path, photo, expected, ["--model", name])
            print(f"theirs ({path.name}) here: probabilities differ by {found:.1e} at most")


main()
