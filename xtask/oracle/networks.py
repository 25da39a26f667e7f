"""fixtures/parity/NET.json: one network in evaluation and in one training step, in float64, and how far float32 strays.

    networks.py OUT_FOLDER [NET ...]
"""

import pathlib
import statistics
import sys

import numpy as np
import torch
import torch.nn.functional as F

import fixture
from hashing import labels, pixels, summary
from models import build, normalise

SEEDS = 5
# Projections a parameter for the seeds after the first, which only gauge float32.
FEWER_PROJECTIONS = 8
FEWER_DIGITS = 9

# Network -> classes, (batch, size) in evaluation, (batch, size) in training.
# Training keeps 32 values a channel or more in the last stage, and few values in all: float32 rounds about one ReLU
# input in a million to the other side of zero, and one such flip moves a gradient by a thousandth. The small cases
# have no flips in most seeds, so that their bound is tight. 33 pixels make every map odd on the way (17, 9, 5, 3, 2).
CASES = {
    "resnet18": (20, (4, 64), (8, 33)),
    "resnet50": (20, (2, 64), (8, 48)),
    "resnext50_32x4d": (20, (2, 64), (8, 40)),
    "resnet50-v1": (20, (2, 65), (8, 33)),
    "resnet18-d": (20, (4, 45), (8, 33)),
    "seresnet50": (20, (2, 64), (8, 33)),
    "resnet50-v2": (20, (2, 64), (8, 33)),
    "resnet20": (10, (8, 32), (8, 8)),
    "resnet20-b": (10, (8, 32), (8, 8)),
    "resnet20-c": (10, (8, 27), (8, 9)),
    "plain20": (10, (8, 32), (8, 8)),
}


def evaluate(model, classes, batch, size, dtype, layout=torch.contiguous_format):
    """Logits of a made batch in evaluation mode, as float64."""
    net, _ = build(model, classes, 0, dtype)
    x = normalise(pixels((batch, size, size, 3)), dtype)
    with torch.no_grad():
        logits = net.eval().to(memory_format=layout)(x.contiguous(memory_format=layout))
    return logits.double().numpy()


def train(model, classes, batch, size, seed, dtype, layout=torch.contiguous_format):
    """One forward and backward pass in training mode: loss, logits, statistics, gradients (float64 arrays)."""
    net, rename = build(model, classes, seed, dtype)
    net = net.train().to(memory_format=layout)
    x = normalise(pixels((batch, size, size, 3), seed), dtype).contiguous(memory_format=layout)
    logits = net(x)
    loss = F.cross_entropy(logits, torch.from_numpy(labels(batch, classes, seed)))
    loss.backward()
    numpy = lambda t: t.detach().double().contiguous().numpy()
    return {
        "loss": loss.detach().double().item(),
        "logits": numpy(logits),
        "running": {rename(k): numpy(t) for k, t in net.state_dict().items() if ".running_" in k},
        "gradients": {rename(k): numpy(p.grad) for k, p in net.named_parameters()},
    }


def deviation(ours, reference):
    """Relative L2 distance of each gradient."""
    return {
        name: float(np.linalg.norm(ours[name] - g) / np.linalg.norm(g)) for name, g in reference.items()
    }


def gauge(model, classes, batch, size, seed, reference):
    """How far float32 strays from float64 in one training step, in both memory layouts."""
    out = {}
    for name, layout in (("nchw", torch.contiguous_format), ("channels_last", torch.channels_last)):
        step = train(model, classes, batch, size, seed, torch.float32, layout)
        each = deviation(step["gradients"], reference["gradients"])
        worst = max(each, key=each.get)
        running = max(
            float(np.max(np.abs(step["running"][k] - v) / np.maximum(1, np.abs(v))))
            for k, v in reference["running"].items()
        )
        logits = np.max(np.abs(step["logits"] - reference["logits"])) / np.max(np.abs(reference["logits"]))
        out[name] = fixture.rounded(
            {
                "median": statistics.median(each.values()),
                "largest": each[worst],
                "largest_of": worst,
                "loss": abs(step["loss"] - reference["loss"]),
                "logits": float(logits),
                "running": running,
            },
            3,
        )
    return out


def case(model):
    """Everything that is stored about one network."""
    classes, (eval_batch, eval_size), (batch, size) = CASES[model]
    logits = evaluate(model, classes, eval_batch, eval_size, torch.float64)
    largest = np.max(np.abs(logits))
    strays = lambda layout: float(
        np.max(np.abs(evaluate(model, classes, eval_batch, eval_size, torch.float32, layout) - logits)) / largest
    )
    content = {
        "model": model,
        "classes": classes,
        "evaluation": {
            "batch": eval_batch,
            "size": eval_size,
            "logits": logits.tolist(),
            "f32": {"nchw": strays(torch.contiguous_format), "channels_last": strays(torch.channels_last)},
        },
    }
    seeds = []
    for seed in range(SEEDS):
        step = train(model, classes, batch, size, seed, torch.float64)
        if seed == 0:
            content["training"] = {
                "batch": batch,
                "size": size,
                "loss": step["loss"],
                "logits": step["logits"].tolist(),
                "running": {k: summary(k, v) for k, v in step["running"].items()},
                "gradients": {k: summary(k, v, samples=0) for k, v in step["gradients"].items()},
            }
        few = {k: summary(k, v, FEWER_PROJECTIONS, 0, FEWER_PROJECTIONS) for k, v in step["gradients"].items()}
        seeds.append(
            {
                "seed": seed,
                "loss": step["loss"],
                # The first seed's gradients are stored above, in full.
                "gradients": fixture.rounded(few, FEWER_DIGITS) if seed else {},
                "f32": gauge(model, classes, batch, size, seed, step),
            }
        )
    content["seeds"] = seeds
    return content


def main():
    torch.set_num_threads(1)
    out = pathlib.Path(sys.argv[1]) / "parity"
    for model in sys.argv[2:] or CASES:
        fixture.write(out / f"{model}.json", "networks.py", list(range(SEEDS)), case(model))


if __name__ == "__main__":
    main()
