"""How a fixture file is written: JSON, one tensor a line, with what made it."""

import hashlib
import json
import pathlib

import numpy
import timm
import torch
import torchvision

HERE = pathlib.Path(__file__).parent


def made_by(script, seed):
    """Script, versions, seed, and a hash over every script that may have had a part in it."""
    digest = hashlib.sha256()
    for source in ("fixture.py", "hashing.py", "models.py", script):
        digest.update((HERE / source).read_bytes())
    return {
        "script": f"xtask/oracle/{script}",
        "sources_sha256": digest.hexdigest(),
        "seed": seed,
        "torch": torch.__version__.split("+")[0],
        "torchvision": torchvision.__version__.split("+")[0],
        "timm": timm.__version__,
        "numpy": numpy.__version__,
    }


def _lines(value, indent, depth):
    """JSON text of a value: containers of containers on lines of their own, down to `depth`."""
    deep = isinstance(value, (dict, list)) and any(
        isinstance(v, (dict, list)) for v in (value.values() if isinstance(value, dict) else value)
    )
    if not deep or depth == 0:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    pad = " " * (indent + 1)
    if isinstance(value, dict):
        items = [f"{pad}{json.dumps(k)}: {_lines(v, indent + 1, depth - 1)}" for k, v in value.items()]
        opening, closing = "{", "}"
    else:
        items = [pad + _lines(v, indent + 1, depth - 1) for v in value]
        opening, closing = "[", "]"
    return opening + "\n" + ",\n".join(items) + "\n" + " " * indent + closing


def write(path, script, seed, content):
    """Writes one fixture. Floats keep every bit (Python's shortest representation)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_lines({"made_by": made_by(script, seed), **content}, 0, 4) + "\n")
    print(f"{path}: {path.stat().st_size} bytes", flush=True)


def rounded(value, digits):
    """The same numbers with fewer digits, where a fixture needs no more."""
    if isinstance(value, dict):
        return {k: rounded(v, digits) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v, digits) for v in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value
