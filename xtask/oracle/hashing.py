"""Weights, inputs and signs from an integer hash: the same bits here and in `resnet_core::oracle`.

Everything is a function of a name and an index. The name's FNV-1a hash (64 bits, UTF-8) starts a splitmix64
sequence; element `i` (row-major) takes its `i + 1`-th output `z`:

    u = (z >> 40) / 2**24    in [0, 1), exact in float32
    c = 2*u - 1              in [-1, 1)

Seed 0 hashes the name as it is; a seed s > 0 hashes `name#s` (s in decimal).

Parameters, one float32 multiplication, then one float32 addition:

    fc.weight            c * f32(sqrt(1/in))
    other 4-D weights    c * f32(sqrt(6/(in*kh*kw)))
    *.running_var        0.5 + u
    *.running_mean       0.2 * c
    *.bias               0.2 * c
    other 1-D weights    0.25 + 0.5 * u            (batch norm's gamma)

Pixels are floor(256*u) of the name `input` (NHWC order), labels floor(classes*u) of `labels`.

Large tensors are stored as a summary: L2 norm, dot products with sign vectors, and samples. Sign `k` of element
`i` is -1 where bit `k` of `z` of the name `sign/NAME` is set, else +1. Sample `j` is the element number
floor(n*u) of the name `sample/NAME`, index `j`. Neither depends on the seed.
"""

import math

import numpy as np

FNV_OFFSET = 0xCBF29CE484222325
FNV_PRIME = 0x100000001B3
MASK = (1 << 64) - 1
# Tensors up to this many elements are stored whole.
WHOLE = 64
PROJECTIONS = 16
SAMPLES = 8


def fnv1a(name):
    """FNV-1a, 64 bits, of the name's UTF-8 bytes."""
    h = FNV_OFFSET
    for byte in name.encode():
        h = ((h ^ byte) * FNV_PRIME) & MASK
    return h


def seeded(name, seed):
    """The name that is hashed for a seed."""
    return name if seed == 0 else f"{name}#{seed}"


def hashes(name, n):
    """The first `n` splitmix64 outputs of a name, uint64."""
    z = np.uint64(fnv1a(name)) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniform(name, n):
    """`u` of a name: float32 in [0, 1), multiples of 2**-24."""
    return (hashes(name, n) >> np.uint64(40)).astype(np.float32) / np.float32(2**24)


def centred(name, shape, scale=1.0):
    """`c` of a name times a float32 scale, in the given shape."""
    u = uniform(name, math.prod(shape))
    return ((np.float32(2) * u - np.float32(1)) * np.float32(scale)).reshape(shape)


def parameter(name, shape, seed=0):
    """The float32 values of a parameter or statistic, by the kind that its name and shape tell."""
    u = uniform(seeded(name, seed), math.prod(shape))
    c = np.float32(2) * u - np.float32(1)
    f32 = np.float32
    if name == "fc.weight":
        values = c * f32(math.sqrt(1 / shape[1]))
    elif len(shape) == 4:
        values = c * f32(math.sqrt(6 / math.prod(shape[1:])))
    elif name.endswith(".running_var"):
        values = f32(0.5) + u
    elif name.endswith((".running_mean", ".bias")):
        values = f32(0.2) * c
    elif name.endswith(".weight") and len(shape) == 1:
        values = f32(0.25) + f32(0.5) * u
    else:
        raise ValueError(f"{name}: no formula for shape {shape}")
    return values.reshape(shape)


def pixels(shape, seed=0):
    """A made u8 batch, [n, h, w, c]."""
    u = uniform(seeded("input", seed), math.prod(shape))
    return np.floor(u * np.float32(256)).astype(np.uint8).reshape(shape)


def labels(n, classes, seed=0):
    """Made class numbers, [n]."""
    u = uniform(seeded("labels", seed), n).astype(np.float64)
    return np.floor(u * classes).astype(np.int64)


def project(name, values, count=PROJECTIONS):
    """Dot products of a flat float64 array with the name's first `count` sign vectors."""
    z = hashes(f"sign/{name}", values.size)
    flat = values.reshape(-1)
    total = flat.sum()
    # sum(sign * v) = sum(v) - 2 * sum(v where the bit is set)
    return [float(total - 2 * flat[(z >> np.uint64(k)) & np.uint64(1) == 1].sum()) for k in range(count)]


def sample(name, values, count=SAMPLES):
    """`count` elements of a flat array, chosen by the hash."""
    u = uniform(f"sample/{name}", count).astype(np.float64)
    return [float(values.reshape(-1)[i]) for i in np.floor(u * values.size).astype(np.int64)]


def summary(name, values, projections=PROJECTIONS, samples=SAMPLES, whole=WHOLE):
    """What a fixture stores of a float64 tensor: all of a small one, else norm, projections, samples."""
    values = np.ascontiguousarray(values, dtype=np.float64)
    if values.size <= whole:
        return {"values": values.reshape(-1).tolist()}
    out = {"norm": float(np.linalg.norm(values)), "projections": project(name, values, projections)}
    if samples:
        out["samples"] = sample(name, values, samples)
    return out
