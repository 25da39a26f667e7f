"""The networks that PyTorch computes for us, under our parameter names.

torchvision and timm bring the ImageNet families; the CIFAR family of the paper (6n+2 layers, shortcuts A, B, C,
or none) is written here, since neither has it. `build` gives a module and the names of its parameters as we spell
them; `fill` writes the hashed weights into it.
"""

import re

import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from hashing import parameter

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class PadShortcut(nn.Module):
    """Option A of He et al. 2015, section 4.2: every second pixel, half of the new zero channels on each side."""

    def __init__(self, cin, cout, stride):
        super().__init__()
        self.before = (cout - cin) // 2
        self.after = cout - cin - self.before
        self.stride = stride

    def forward(self, x):
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


class CifarBlock(nn.Module):
    """Two 3x3 convolutions; `shortcut` is "A", "B", "C", or None for a plain network."""

    def __init__(self, cin, cout, stride, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        changes = stride != 1 or cin != cout
        self.plain = shortcut is None
        self.downsample = None
        if shortcut == "A" and changes:
            self.downsample = PadShortcut(cin, cout, stride)
        elif shortcut == "C" or (shortcut == "B" and changes):
            self.downsample = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if not self.plain:
            y = y + (x if self.downsample is None else self.downsample(x))
        return F.relu(y)


class CifarNet(nn.Module):
    """The 6n+2 layers of He et al. 2015, section 4.2."""

    def __init__(self, depth, shortcut, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        cin = 16
        for stage, cout in enumerate((16, 32, 64), start=1):
            blocks = []
            for index in range((depth - 2) // 6):
                stride = 2 if stage > 1 and index == 0 else 1
                blocks.append(CifarBlock(cin, cout, stride, shortcut))
                cin = cout
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(64, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def stride_in_first_1x1(net):
    """Turns torchvision's bottlenecks (v1.5, stride in the 3x3) into the paper's (v1)."""
    for module in net.modules():
        if isinstance(module, torchvision.models.resnet.Bottleneck):
            module.conv1.stride, module.conv2.stride = module.conv2.stride, (1, 1)
    return net


def preactivation_name(name):
    """timm's names in resnetv2 -> ours."""
    for pattern, replacement in (
        (r"^stem\.conv\.", "conv1."),
        (r"^stages\.(\d+)\.blocks\.", lambda m: f"layer{int(m[1]) + 1}."),
        (r"downsample\.conv\.", "downsample.0."),
        (r"\.norm(\d)\.", r".bn\1."),
        (r"^norm\.", "bn."),
        (r"^head\.fc\.", "fc."),
    ):
        name = re.sub(pattern, replacement, name)
    return name


def timm_model(name):
    """A constructor of timm's network of that name."""
    return lambda classes: timm.create_model(name, pretrained=False, num_classes=classes)


def same(name):
    """The name of a network whose parameters are already spelt as ours."""
    return name


# What we call it -> (constructor of the class count, their parameter name -> ours)
NETWORKS = {
    **{
        name: (lambda classes, build=getattr(torchvision.models, name): build(num_classes=classes), same)
        for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d")
    },
    "resnet50-v1": (lambda classes: stride_in_first_1x1(torchvision.models.resnet50(num_classes=classes)), same),
    "resnet18-d": (timm_model("resnet18d"), same),
    "seresnet50": (timm_model("seresnet50"), same),
    "resnet50-v2": (timm_model("resnetv2_50"), preactivation_name),
    "resnet20": (lambda classes: CifarNet(20, "A", classes), same),
    "resnet20-b": (lambda classes: CifarNet(20, "B", classes), same),
    "resnet20-c": (lambda classes: CifarNet(20, "C", classes), same),
    "plain20": (lambda classes: CifarNet(20, None, classes), same),
}


def build(model, classes, seed, dtype):
    """A network with hashed weights and statistics, and a function from its names to ours."""
    constructor, rename = NETWORKS[model]
    net = constructor(classes).to(dtype)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            ours = rename(name)
            # timm's head is a 1x1 convolution in some networks: ours is a matrix.
            shape = tuple(tensor.shape[:2]) if ours == "fc.weight" else tuple(tensor.shape)
            tensor.copy_(torch.from_numpy(parameter(ours, shape, seed)).reshape(tensor.shape))
    return net, rename


def normalise(pixels, dtype):
    """u8 [n, h, w, c] -> normalised [n, c, h, w], as x*scale + shift in `dtype` (the constants made in float64)."""
    mean, std = torch.tensor(MEAN, dtype=torch.float64), torch.tensor(STD, dtype=torch.float64)
    scale, shift = (1 / (255 * std)).to(dtype), (-mean / std).to(dtype)
    x = torch.from_numpy(pixels).to(dtype) * scale + shift
    return x.permute(0, 3, 1, 2).contiguous()
