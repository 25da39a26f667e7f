"""fixtures/training/*.json: optimiser steps, learning rates and clipping, by PyTorch in float64.

    training.py OUT_FOLDER
"""

import pathlib
import sys
import warnings

import numpy as np
import torch
from torch.optim import SGD, lr_scheduler

import fixture
from hashing import uniform

LENGTH = 13
STEPS = 5


def centred(name, n):
    """2u - 1 in float64."""
    return torch.from_numpy(2 * uniform(name, n).astype(np.float64) - 1)


def sgd_cases():
    """Five steps from the vector `sgd/start` on gradients `sgd/gradient/STEP`, the rate halved before step 3."""
    for options in (
        {"lr": 0.1},
        {"lr": 0.1, "weight_decay": 0.01},
        {"lr": 0.1, "momentum": 0.9},
        {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True},
        {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.02},
    ):
        parameter = centred("sgd/start", LENGTH).requires_grad_()
        optimizer = SGD([parameter], dampening=0, **options)
        steps = []
        for step in range(STEPS):
            if step == 3:
                optimizer.param_groups[0]["lr"] *= 0.5
            parameter.grad = centred(f"sgd/gradient/{step}", LENGTH)
            optimizer.step()
            momentum = optimizer.state[parameter].get("momentum_buffer")
            steps.append(
                {
                    "parameter": parameter.detach().tolist(),
                    "momentum_buffer": [] if momentum is None else momentum.tolist(),
                }
            )
        defaults = {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
        yield {**defaults, **options, "steps": steps}


def clipping_cases():
    """clip_grad_norm_ over the vectors `clip/0` (5 elements) and `clip/1` (8 elements)."""
    for max_norm in (0.1, 1.0, 100.0):
        parameters = []
        for index, n in enumerate((5, 8)):
            parameters.append(torch.zeros(n, dtype=torch.float64, requires_grad=True))
            parameters[-1].grad = centred(f"clip/{index}", n)
        norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
        yield {"max_norm": max_norm, "norm": float(norm), "clipped": [p.grad.tolist() for p in parameters]}


def rates(steps, lr, build, momentum=0.9):
    """Learning rate (and momentum) that each step uses."""
    parameter = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = SGD([parameter], lr=lr, momentum=momentum)
    scheduler = build(optimizer)
    used = []
    for _ in range(steps):
        used.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))
        optimizer.step()
        scheduler.step()
    return used


def warmed_up(start_factor, warmup, main):
    """Linear warm-up over the first steps, then `main` from its step 0, as torchvision's training script has it."""

    def build(optimizer):
        first = lr_scheduler.LinearLR(optimizer, start_factor=start_factor, total_iters=warmup)
        return lr_scheduler.SequentialLR(optimizer, [first, main(optimizer)], milestones=[warmup])

    return build


def schedule_cases():
    """name, attributes, PyTorch's scheduler, steps."""
    step = {"every": 4, "gamma": 0.1}
    multi = {"milestones": [3, 5, 11], "gamma": 0.2}
    for name, attributes, build, steps in (
        ("constant", {}, lambda o: lr_scheduler.ConstantLR(o, factor=1.0), 4),
        ("step", step, lambda o: lr_scheduler.StepLR(o, 4, 0.1), 14),
        ("multi-step", multi, lambda o: lr_scheduler.MultiStepLR(o, [3, 5, 11], 0.2), 14),
        ("cosine", {"total": 12, "min_lr": 0.0}, lambda o: lr_scheduler.CosineAnnealingLR(o, 12), 12),
        ("cosine", {"total": 9, "min_lr": 0.01}, lambda o: lr_scheduler.CosineAnnealingLR(o, 9, 0.01), 9),
        (
            "warm-up-cosine",
            {"warmup": 4, "start_factor": 0.1, "total": 10, "min_lr": 0.0},
            warmed_up(0.1, 4, lambda o: lr_scheduler.CosineAnnealingLR(o, 10)),
            14,
        ),
        (
            "warm-up-multi-step",
            {"warmup": 3, "start_factor": 0.01, "milestones": [4, 8], "gamma": 0.1},
            warmed_up(0.01, 3, lambda o: lr_scheduler.MultiStepLR(o, [4, 8], 0.1)),
            14,
        ),
        *(
            (
                "one-cycle",
                {"total": total, "warmup_fraction": fraction, "div": div, "final_div": final, "anneal": anneal},
                lambda o, a=(total, fraction, anneal, div, final): lr_scheduler.OneCycleLR(
                    o, 0.3, a[0], pct_start=a[1], anneal_strategy=a[2], div_factor=a[3], final_div_factor=a[4]
                ),
                total,
            )
            for total, fraction, anneal, div, final in (
                (20, 0.3, "cos", 25.0, 1e4),
                (17, 0.25, "linear", 10.0, 100.0),
            )
        ),
    ):
        used = rates(steps, 0.3, build)
        case = {"schedule": name, "lr": 0.3, **attributes, "rates": [lr for lr, _ in used]}
        if name == "one-cycle":
            case["momenta"] = [momentum for _, momentum in used]
        yield case


def main():
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="torch.optim.lr_scheduler")
    out = pathlib.Path(sys.argv[1]) / "training"
    for name, cases in (("sgd", sgd_cases), ("clipping", clipping_cases), ("schedules", schedule_cases)):
        fixture.write(out / f"{name}.json", "training.py", 0, {"cases": list(cases())})


if __name__ == "__main__":
    main()
