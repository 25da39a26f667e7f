"""fixtures/ops/OP.json: each op alone in float64, forward and backward, on small and odd shapes.

    ops.py OUT_FOLDER

A case names its attributes, its inputs (made from the hash of `CASE/INPUT`) and what PyTorch computes from them.
Activations are NHWC, weights OIHW, in inputs and results alike. The gradients are those of sum(y * dy) with a made
`dy`. An input's `kind` says how it comes from the hash:

    centred   2u - 1
    positive  0.5 + u
    ties      floor(4u): few values, so that maxima tie and zeros occur
    labels    floor(classes * u)
    many      1 where u is above 0.6, else 0
    simplex   (0.05 + u), each row divided by its sum
"""

import math
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F
from timm.loss import BinaryCrossEntropy

import fixture
from hashing import summary, uniform


def made(case, name, kind, shape, classes=None):
    """The float64 values of an input (int64 for labels)."""
    u = uniform(f"{case}/{name}", math.prod(shape)).astype(np.float64).reshape(shape)
    if kind == "centred":
        return 2 * u - 1
    if kind == "positive":
        return 0.5 + u
    if kind == "ties":
        return np.floor(4 * u)
    if kind == "labels":
        return np.floor(classes * u).astype(np.int64)
    if kind == "many":
        return (u > 0.6).astype(np.float64)
    if kind == "simplex":
        return (0.05 + u) / (0.05 + u).sum(axis=1, keepdims=True)
    raise ValueError(kind)


class Case:
    """Collects one case: attributes, inputs, outputs."""

    def __init__(self, name, **attributes):
        self.name, self.attributes = name, attributes
        self.inputs, self.outputs = {}, {}

    def input(self, name, kind, shape, classes=None):
        """A made input as a tensor in PyTorch's order (NCHW for `x` and `dy` with four axes), gradients on."""
        self.inputs[name] = {"kind": kind, "shape": list(shape)}
        values = torch.from_numpy(made(self.name, name, kind, shape, classes))
        if len(shape) == 4 and not name.startswith("w"):
            values = values.permute(0, 3, 1, 2).contiguous()
        return values.requires_grad_() if values.dtype == torch.float64 else values

    def output(self, **tensors):
        """Results, turned into our order."""
        for name, value in tensors.items():
            value = value.detach()
            if value.ndim == 4 and not name.startswith("dw"):
                value = value.permute(0, 2, 3, 1).contiguous()
            entry = {"shape": list(value.shape), **summary(f"{self.name}/{name}", value.numpy())}
            self.outputs[name] = entry

    def backward(self, y, kind="centred"):
        """Stores `y` and back-propagates a made `dy` of its shape."""
        shape = y.shape if y.ndim != 4 else (y.shape[0], y.shape[2], y.shape[3], y.shape[1])
        dy = self.input("dy", kind, tuple(shape)).detach()
        self.output(y=y)
        (y * dy).sum().backward()

    def json(self):
        return {"name": self.name, **self.attributes, "inputs": self.inputs, "outputs": self.outputs}


# name, n, h, w, cin, cout, kernel, stride, pad, dilation, groups
CONVOLUTIONS = [
    ("conv-3x3", 2, 7, 5, 3, 4, 3, 1, 1, 1, 1),
    ("conv-3x3-stride-2", 2, 8, 8, 4, 6, 3, 2, 1, 1, 1),
    ("conv-3x3-stride-2-odd", 1, 7, 9, 5, 3, 3, 2, 1, 1, 1),
    ("conv-3x3-no-pad", 1, 5, 6, 2, 3, 3, 1, 0, 1, 1),
    ("conv-3x3-dilation-2", 2, 9, 8, 3, 5, 3, 1, 2, 2, 1),
    ("conv-3x3-dilation-4-small-map", 1, 4, 3, 2, 2, 3, 1, 4, 4, 1),
    ("conv-3x3-groups-2", 2, 6, 5, 8, 6, 3, 1, 1, 1, 2),
    ("conv-3x3-groups-4-stride-2", 2, 7, 7, 16, 16, 3, 2, 1, 1, 4),
    ("conv-3x3-depthwise", 2, 5, 5, 7, 7, 3, 1, 1, 1, 7),
    ("conv-1x1", 3, 4, 5, 6, 9, 1, 1, 0, 1, 1),
    ("conv-1x1-stride-2", 2, 5, 6, 9, 4, 1, 2, 0, 1, 1),
    ("conv-1x1-one-pixel", 1, 1, 1, 33, 17, 1, 1, 0, 1, 1),
    ("conv-7x7-stem", 2, 15, 17, 3, 8, 7, 2, 3, 1, 1),
    ("conv-7x7-stem-smaller-than-kernel", 1, 4, 3, 3, 4, 7, 2, 3, 1, 1),
    ("conv-5x5-stride-3", 1, 11, 10, 2, 3, 5, 3, 2, 1, 1),
    ("conv-3x3-wide", 1, 4, 4, 24, 40, 3, 1, 1, 1, 1),
    ("conv-3x3-one-channel", 2, 3, 1, 1, 1, 3, 1, 1, 1, 1),
]


def convolutions():
    for name, n, h, w, cin, cout, k, stride, pad, dilation, groups in CONVOLUTIONS:
        case = Case(name, kernel=k, stride=stride, pad=pad, dilation=dilation, groups=groups)
        x = case.input("x", "centred", (n, h, w, cin))
        weight = case.input("w", "centred", (cout, cin // groups, k, k))
        case.backward(F.conv2d(x, weight, None, stride, pad, dilation, groups))
        case.output(dx=x.grad, dw=weight.grad)
        yield case


def batch_norms():
    for name, n, h, w, c, mode in (
        ("batch-norm-training", 3, 4, 5, 6, "training"),
        ("batch-norm-training-two-values", 2, 1, 1, 3, "training"),
        ("batch-norm-training-many-channels", 2, 3, 3, 37, "training"),
        ("batch-norm-frozen", 2, 3, 4, 5, "frozen"),
    ):
        case = Case(name, mode=mode, eps=1e-5, momentum=0.1)
        x = case.input("x", "centred", (n, h, w, c))
        gamma, beta = case.input("gamma", "positive", (c,)), case.input("beta", "centred", (c,))
        mean, var = (case.input(k, kind, (c,)).detach() for k, kind in (("mean", "centred"), ("var", "positive")))
        case.backward(F.batch_norm(x, mean, var, gamma, beta, mode == "training", 0.1, 1e-5))
        case.output(dx=x.grad, dgamma=gamma.grad, dbeta=beta.grad)
        if mode == "training":
            case.output(running_mean=mean, running_var=var)
        yield case


def pools():
    for name, h, w, kernel, stride, pad, kind in (
        ("max-pool-3x3-stride-2-pad-1", 9, 8, 3, 2, 1, "centred"),
        ("max-pool-3x3-stride-2-pad-1-ties", 7, 6, 3, 2, 1, "ties"),
        ("max-pool-2x2", 6, 7, 2, 2, 0, "ties"),
        ("max-pool-3x3-stride-1", 4, 5, 3, 1, 1, "ties"),
        ("max-pool-one-pixel", 1, 1, 3, 2, 1, "centred"),
    ):
        case = Case(name, kernel=kernel, stride=stride, pad=pad)
        x = case.input("x", kind, (2, h, w, 5))
        case.backward(F.max_pool2d(x, kernel, stride, pad))
        case.output(dx=x.grad)
        yield case
    for name, h, w, kernel, stride, pad, ceil, counted in (
        ("avg-pool-2x2", 6, 8, 2, 2, 0, False, True),
        ("avg-pool-2x2-odd", 5, 7, 2, 2, 0, False, True),
        ("avg-pool-2x2-ceil-uncounted", 5, 7, 2, 2, 0, True, False),
        ("avg-pool-2x2-ceil-uncounted-one-pixel", 1, 1, 2, 2, 0, True, False),
        ("avg-pool-2x2-ceil-counted", 5, 3, 2, 2, 0, True, True),
        ("avg-pool-3x3-pad-counted", 7, 6, 3, 2, 1, False, True),
        ("avg-pool-3x3-pad-uncounted", 7, 6, 3, 2, 1, False, False),
        ("avg-pool-3x3-pad-ceil-uncounted", 6, 8, 3, 2, 1, True, False),
    ):
        case = Case(name, kernel=kernel, stride=stride, pad=pad, ceil_mode=ceil, count_include_pad=counted)
        x = case.input("x", "centred", (2, h, w, 3))
        case.backward(F.avg_pool2d(x, kernel, stride, pad, ceil, counted))
        case.output(dx=x.grad)
        yield case
    case = Case("global-pool")
    x = case.input("x", "centred", (3, 5, 4, 7))
    case.backward(x.mean((2, 3)))
    case.output(dx=x.grad)
    yield case


def elementwise():
    case = Case("relu-with-zeros", offset=-1.0)
    x = case.input("x", "ties", (2, 3, 3, 4))
    case.backward(F.relu(x - 1))
    case.output(dx=x.grad)
    yield case
    case = Case("sigmoid", factor=30.0)
    x = case.input("x", "centred", (4, 17))
    case.backward(torch.sigmoid(30 * x))
    case.output(dx=x.grad)
    yield case
    case = Case("channel-scale")
    x, s = case.input("x", "centred", (2, 3, 4, 5)), case.input("s", "centred", (2, 5))
    case.backward(x * s[:, :, None, None])
    case.output(dx=x.grad, ds=s.grad)
    yield case
    case = Case("pad-shortcut", stride=2, before=2, after=3)
    x = case.input("x", "centred", (2, 5, 4, 3))
    case.backward(F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 3)))
    case.output(dx=x.grad)
    yield case
    case = Case("linear")
    x, w, b = case.input("x", "centred", (5, 19)), case.input("w", "centred", (7, 19)), case.input("b", "centred", (7,))
    case.backward(F.linear(x, w, b))
    case.output(dx=x.grad, dw=w.grad, db=b.grad)
    yield case


def losses():
    for name, classes, smoothing, dense, weighted, factor in (
        ("cross-entropy", 7, 0.0, False, False, 3.0),
        ("cross-entropy-smoothed", 7, 0.1, False, False, 3.0),
        ("cross-entropy-weighted", 5, 0.0, False, True, 2.0),
        ("cross-entropy-weighted-smoothed", 5, 0.1, False, True, 2.0),
        ("cross-entropy-dense", 6, 0.0, True, False, 2.0),
        ("cross-entropy-dense-smoothed", 6, 0.2, True, False, 2.0),
        ("cross-entropy-dense-weighted", 6, 0.0, True, True, 2.0),
        ("cross-entropy-large-logits", 4, 0.0, False, False, 800.0),
        ("cross-entropy-two-classes", 2, 0.1, False, False, 1.0),
    ):
        n = 9
        case = Case(name, smoothing=smoothing, classes=classes, factor=factor)
        x = case.input("x", "centred", (n, classes))
        if dense:
            targets = case.input("targets", "simplex", (n, classes)).detach()
        else:
            targets = case.input("labels", "labels", (n,), classes)
        weights = case.input("class_weights", "positive", (classes,)).detach() if weighted else None
        loss = F.cross_entropy(factor * x, targets, weights, label_smoothing=smoothing)
        loss.backward()
        # `dx` by the logits, which are factor * x.
        case.output(loss=loss.reshape(1), dx=x.grad / factor)
        yield case


class Timm(torch.nn.Module):
    """What timm's BinaryCrossEntropy makes of the targets, then PyTorch's loss: of dense targets timm
    smooths in its mixup, `on = 1 - s + s / classes`, `off = s / classes`, which is the same line."""

    def __init__(self, smoothing, threshold, weight):
        super().__init__()
        self.smoothing, self.threshold, self.weight = smoothing, threshold, weight

    def forward(self, x, targets):
        weight = torch.tensor(self.weight, dtype=x.dtype)
        if targets.shape != x.shape:
            return BinaryCrossEntropy(self.smoothing, self.threshold, pos_weight=weight)(x, targets)
        targets = targets * (1 - self.smoothing) + self.smoothing / x.shape[1]
        return BinaryCrossEntropy(0.0, self.threshold, pos_weight=weight)(x, targets)


def binary_losses():
    for name, classes, smoothing, threshold, weight, kind, factor in (
        ("binary-labels", 7, 0.0, None, 1.0, "labels", 3.0),
        ("binary-labels-smoothed", 7, 0.1, None, 1.0, "labels", 3.0),
        ("binary-many", 5, 0.0, None, 1.0, "many", 2.0),
        ("binary-many-weighted", 5, 0.0, None, 2.5, "many", 2.0),
        ("binary-mixed", 6, 0.0, None, 1.0, "simplex", 2.0),
        ("binary-mixed-smoothed", 6, 0.1, None, 1.0, "simplex", 2.0),
        ("binary-mixed-threshold", 6, 0.1, 0.2, 1.0, "simplex", 2.0),
        ("binary-one-class", 1, 0.0, None, 1.0, "many", 2.0),
        ("binary-large-logits", 4, 0.0, None, 1.0, "labels", 800.0),
    ):
        n = 9
        case = Case(name, classes=classes, smoothing=smoothing, threshold=threshold, weight=weight, factor=factor)
        x = case.input("x", "centred", (n, classes))
        if kind == "labels":
            targets = case.input("labels", "labels", (n,), classes)
        else:
            targets = case.input("targets", kind, (n, classes)).detach()
        loss = Timm(smoothing, threshold, weight)(factor * x, targets)
        loss.backward()
        case.output(loss=loss.reshape(1), dx=x.grad / factor)
        yield case


def main():
    torch.set_num_threads(1)
    out = pathlib.Path(sys.argv[1]) / "ops"
    for family in (convolutions, batch_norms, pools, elementwise, losses, binary_losses):
        cases = [case.json() for case in family()]
        fixture.write(out / f"{family.__name__}.json", "ops.py", 0, {"cases": cases})


if __name__ == "__main__":
    main()
