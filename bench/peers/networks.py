"""The networks as PyTorch has them: torchvision's by name, CIFAR's 6n+2 layers written here."""

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

import clock

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class CifarBlock(nn.Module):
    """Two 3x3 convolutions and shortcut A of He et al. 2015: subsampled, padded with zero channels."""

    def __init__(self, cin, cout, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.relu = nn.ReLU(inplace=True)
        self.stride, self.extra = stride, (cout - cin) // 2

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.extra:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra, self.extra))
        return self.relu(y + x)


class CifarNet(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        blocks, cin = [], 16
        for cout in (16, 32, 64):
            for _ in range((depth - 2) // 6):
                blocks.append(CifarBlock(cin, cout, 2 if cin < cout else 1))
                cin = cout
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        x = self.blocks(self.relu(self.bn1(self.conv1(x))))
        return self.fc(x.mean((2, 3)))


class FromBytes(nn.Module):
    """u8 pixels, NHWC, to logits: the conversion is part of every step, as it is of ours."""

    def __init__(self, net, dtype, nhwc):
        super().__init__()
        self.net, self.dtype, self.nhwc = net, dtype, nhwc
        mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)

    def forward(self, x):
        x = x.permute(0, 3, 1, 2)
        if not self.nhwc:
            x = x.contiguous()
        return self.net((x.to(torch.float32) * self.scale + self.shift).to(self.dtype))


def build(model):
    """A network with random weights, the same in every process."""
    torch.manual_seed(0)
    if clock.size(model) == 32:
        return CifarNet(int(model.removeprefix("resnet")))
    return getattr(torchvision.models, model)(weights=None)


def settle(net, size):
    """Gives batch norm the statistics of one random batch, so that activations have ordinary sizes:
    no denormals, no overflow, and something to see for an int8 calibration."""
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    with torch.no_grad():
        net.train()(torch.randn(8, 3, size, size))
    for norm in norms:
        norm.momentum = 0.1
    return net.eval()


def batch(model, n):
    """Made pixels, [n, size, size, 3], and labels."""
    generator = torch.Generator().manual_seed(1)
    size = clock.size(model)
    pixels = torch.randint(0, 256, (n, size, size, 3), generator=generator, dtype=torch.uint8)
    classes = 10 if size == 32 else 1000
    return pixels, torch.randint(0, classes, (n,), generator=generator)
