"""fixtures/parity/resnet20-curve.json: losses of resnet20 on real CIFAR-10, by PyTorch.

    curve.py OUT_FOLDER DATA_FOLDER      (DATA_FOLDER holds cifar10.py and its sheets, or data_batch_1.bin)

Batches of 16 in file order from data_batch_1.bin, no augmentation, ImageNet's mean and std, weights from the hash,
SGD with momentum 0.9 and weight decay 1e-4 on every parameter; rate and momentum are rounded to float32, as which
our update step takes them. Pictures are not stored: CIFAR-10 stays outside.
"""

import pathlib
import statistics
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torch.nn.functional as F

import fixture
from models import build, normalise

BATCH = 16
RECORD = 1 + 3 * 32 * 32
RATE, MOMENTUM, WEIGHT_DECAY = float(np.float32(0.01)), float(np.float32(0.9)), 1e-4
F64_STEPS = 20
F32_STEPS, F32_SEEDS = 200, 3


def records(folder):
    """Pictures [n, 32, 32, 3] and labels [n] of the first batch file."""
    path = folder / "data_batch_1.bin"
    if path.exists():
        raw = path.read_bytes()
    else:
        with tempfile.TemporaryDirectory() as scratch:
            subprocess.run([sys.executable, folder / "cifar10.py", scratch], check=True, stdout=subprocess.DEVNULL)
            raw = (pathlib.Path(scratch) / "data_batch_1.bin").read_bytes()
    rows = np.frombuffer(raw, np.uint8).reshape(-1, RECORD)
    pictures = rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(pictures), rows[:, 0].astype(np.int64)


def losses(data, seed, steps, dtype, layout=torch.contiguous_format, nudge=0.0):
    """The training loss of each step. `nudge` moves each start weight by that share, to see how errors grow."""
    pictures, labels = data
    net, _ = build("resnet20", 10, seed, dtype)
    net = net.train().to(memory_format=layout)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1 + nudge)
    optimizer = torch.optim.SGD(net.parameters(), RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    out = []
    for step in range(steps):
        at = slice(step * BATCH, (step + 1) * BATCH)
        x = normalise(pictures[at], dtype).contiguous(memory_format=layout)
        loss = F.cross_entropy(net(x), torch.from_numpy(labels[at]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        out.append(loss.detach().double().item())
    return out


def main():
    torch.set_num_threads(1)
    data = records(pathlib.Path(sys.argv[2]))
    exact = losses(data, 0, F64_STEPS, torch.float64)
    nudged = losses(data, 0, F64_STEPS, torch.float64, nudge=1e-15)
    runs = []
    for seed in range(F32_SEEDS):
        run = {"seed": seed}
        for name, layout in (("nchw", torch.contiguous_format), ("channels_last", torch.channels_last)):
            curve = losses(data, seed, F32_STEPS, torch.float32, layout)
            run[name] = {"first_steps": curve[:5], "mean_100_200": statistics.mean(curve[100:])}
        run["f64_first_steps"] = losses(data, seed, 5, torch.float64)
        runs.append(run)
    content = {
        "model": "resnet20",
        "batch": BATCH,
        "lr": RATE,
        "momentum": MOMENTUM,
        "weight_decay": WEIGHT_DECAY,
        "f64": {
            "losses": exact,
            "moved_by_a_last_bit": max(abs(a - b) for a, b in zip(exact, nudged)),
        },
        "f32": {"steps": F32_STEPS, "runs": runs},
    }
    fixture.write(pathlib.Path(sys.argv[1]) / "parity" / "resnet20-curve.json", "curve.py", 0, content)


if __name__ == "__main__":
    main()
