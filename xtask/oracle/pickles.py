"""Makes the small PyTorch and safetensors files that the tests of `resnet-io`'s weights read.

    python xtask/oracle/pickles.py crates/resnet-io/tests/fixtures/weights

Made with torch 2.15.0 and safetensors 0.8.0. Honest files and hostile ones; together some tens of kilobytes.
Nothing here is dangerous to make: the pickles that call `os.system` are only written, and would only touch a file.
"""

import collections
import io
import os
import pickle
import sys
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save_file

COMMAND = "touch executed-by-pickle"


class Call:
    """Pickles as a call of os.system."""

    def __reduce__(self):
        return (os.system, (COMMAND,))


class Storage:
    """Stands for a storage of any claimed size."""

    def __init__(self, key, elements):
        self.key, self.elements = key, elements


class Claim:
    """Pickles as a tensor over a Storage, as torch.save would write it."""

    def __init__(self, storage, shape):
        self.storage, self.shape = storage, shape

    def __reduce__(self):
        strides, n = [], 1
        for extent in reversed(self.shape):
            strides.insert(0, n)
            n *= extent
        args = (self.storage, 0, self.shape, tuple(strides), False, collections.OrderedDict())
        return (torch._utils._rebuild_tensor_v2, args)


class TorchPickler(pickle.Pickler):
    def persistent_id(self, obj):
        if isinstance(obj, Storage):
            return ("storage", torch.FloatStorage, obj.key, "cpu", obj.elements)
        return None


def torch_zip(path, root, storages):
    """What torch.save writes, for a root object that it would refuse."""
    buffer = io.BytesIO()
    TorchPickler(buffer, protocol=2).dump(root)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        entries = [("data.pkl", buffer.getvalue()), ("byteorder", b"little"), ("version", b"3\n")]
        for name, data in entries + [(f"data/{k}", v) for k, v in storages.items()]:
            archive.writestr(zipfile.ZipInfo(f"archive/{name}", (1980, 1, 1, 0, 0, 0)), data)


def honest(folder):
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    views = {
        "whole": base,
        "transposed": base.t(),
        "every_second_column": base[:, ::2],
        "tail": base.reshape(-1)[7:],
        "expanded": base[:1, :1].expand(2, 3),
        "scalar": torch.tensor(5.0),
        "none_left": torch.zeros(0, 3),
    }
    torch.save(views, folder / "views.pth")
    torch.save(views, folder / "views_legacy.pth", _use_new_zipfile_serialization=False)

    values = torch.tensor([0.0, 1.0, 2.0, 3.0])
    types = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
    torch.save({t: values.to(getattr(torch, t)) for t in types}, folder / "types.pth")
    save_file(
        {t: values.to(getattr(torch, t)) for t in types},
        folder / "types.safetensors",
        metadata={"format": "pt", "note": "ü"},
    )

    weights = collections.OrderedDict(
        [
            ("module.conv1.weight", torch.arange(8.0).reshape(2, 1, 2, 2)),
            ("module.bn1.num_batches_tracked", torch.tensor(7)),
            ("module.linear.weight", torch.ones(3, 2)),
            ("module.linear.bias", torch.zeros(3)),
        ]
    )
    checkpoint = {
        "epoch": 3,
        "arch": "toy",
        "state_dict": weights,
        "optimizer": {
            "state": {0: {"momentum_buffer": torch.ones(2, 1, 2, 2)}},
            "param_groups": [{"lr": 0.1, "nesterov": False}],
        },
    }
    torch.save(checkpoint, folder / "wrapped.pth")
    torch.save(checkpoint, folder / "wrapped_legacy.pth", _use_new_zipfile_serialization=False)
    torch.save({"a": {"b": torch.ones(1)}, "model": {"model.fc.weight": torch.ones(1)}}, folder / "twice.pth")
    torch.save({"fc.bias": torch.ones(1), "linear.bias": torch.ones(1)}, folder / "same_name.pth")


def hostile(folder):
    one = torch.ones(1).numpy().tobytes()
    (folder / "call.pkl").write_bytes(pickle.dumps(Call(), protocol=2))
    (folder / "call_in_dict.pkl").write_bytes(pickle.dumps({"fc.bias": Call()}, protocol=2))
    weight = Claim(Storage("0", 1), (1,))
    torch_zip(folder / "call_beside_tensor.pth", {"fc.bias": weight, "extra": Call()}, {"0": one})
    huge = Claim(Storage("0", 1 << 40), (1 << 40,))
    torch_zip(folder / "huge_storage.pth", {"fc.weight": huge}, {"0": one})
    lying = Claim(Storage("0", 1 << 20), (1 << 20,))
    torch_zip(folder / "short_storage.pth", {"fc.weight": lying}, {"0": one})
    beyond = Claim(Storage("0", 1), (5,))
    torch_zip(folder / "beyond_storage.pth", {"fc.weight": beyond}, {"0": one})
    torch_zip(folder / "lost_storage.pth", {"fc.weight": weight}, {})
    torch.save({"fc.weight": torch.zeros(1).expand(1 << 30)}, folder / "expand_bomb.pth")
    torch.save({"fc.weight": torch.eye(3).to_sparse()}, folder / "sparse.pth")
    torch.save([torch.ones(1)], folder / "list.pth")
    torch.save(torch.ones(1), folder / "tensor.pth")
    torch.save({"epoch": 3, "arch": "toy", "lr": 0.1, "best": None, "log": "x"}, folder / "no_tensors.pth")

    # Each level is a tuple that holds the one below twice, by reference: 2^40 leaves if a reader copies them.
    level = ("x", "y")
    for _ in range(40):
        level = (level, level)
    (folder / "memo_bomb.pkl").write_bytes(pickle.dumps({"x": level}, protocol=2))
    (folder / "deep.pkl").write_bytes(b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".")

    for name in ["wrapped", "wrapped_legacy"]:
        whole = (folder / f"{name}.pth").read_bytes()
        (folder / f"{name}_truncated.pth").write_bytes(whole[: len(whole) * 6 // 10])
    whole = (folder / "wrapped_legacy.pth").read_bytes()
    (folder / "wrapped_legacy_last_byte.pth").write_bytes(whole[:-1])
    whole = (folder / "types.safetensors").read_bytes()
    (folder / "truncated.safetensors").write_bytes(whole[:-5])
    overlap = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}'
    (folder / "overlap.safetensors").write_bytes(len(overlap).to_bytes(8, "little") + overlap + one + one)
    many = b'{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,4]}}'
    (folder / "overflow.safetensors").write_bytes(len(many).to_bytes(8, "little") + many + one)
    (folder / "long_header.safetensors").write_bytes((1 << 40).to_bytes(8, "little") + b"{}")


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    honest(folder)
    hostile(folder)


main()
