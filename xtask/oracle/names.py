"""Lists how other projects name the tensors of networks that are ours too.

    python xtask/oracle/names.py crates/resnet-io/tests/fixtures/weights/names.tsv

Columns: project, our network, their name, shape. Made with torchvision 0.29.2, timm 1.0.31 and transformers 5.23.0.
"""

import sys

import timm
import torchvision
import transformers


def hugging_face(depths, widths, kind):
    config = transformers.ResNetConfig(depths=depths, hidden_sizes=widths, layer_type=kind, num_labels=1000)
    return transformers.ResNetForImageClassification(config)


NETWORKS = [
    ("torchvision", "resnet18", lambda: torchvision.models.resnet18()),
    ("torchvision", "resnext50_32x4d", lambda: torchvision.models.resnext50_32x4d()),
    ("timm", "resnet18-d", lambda: timm.create_model("resnet18d")),
    ("timm", "resnet50-d", lambda: timm.create_model("resnet50d")),
    ("timm", "resnet18-v2", lambda: timm.create_model("resnetv2_18")),
    ("timm", "resnet50-v2", lambda: timm.create_model("resnetv2_50")),
    ("timm", "seresnet50", lambda: timm.create_model("seresnet50")),
    ("Hugging Face", "resnet18", lambda: hugging_face([2, 2, 2, 2], [64, 128, 256, 512], "basic")),
    ("Hugging Face", "resnet50", lambda: hugging_face([3, 4, 6, 3], [256, 512, 1024, 2048], "bottleneck")),
]

with open(sys.argv[1], "w") as out:
    for project, ours, make in NETWORKS:
        for name, tensor in make().state_dict().items():
            print(project, ours, name, ",".join(map(str, tensor.shape)), sep="\t", file=out)
