"""PyTorch in turns with others. Variants: HOW-LAYOUT, as `fused-nhwc`.

Inference: `fused` folds batch norms into convolutions (torch.fx), `script` is a frozen TorchScript,
`compile` is torch.compile with frozen weights. Training: `eager` or `compile`.
"""

import time

import torch
import torch.nn.functional as F
from torch.fx.experimental.optimization import fuse

import clock
import networks

HYPERPARAMETERS = {"lr": 1e-3, "momentum": 0.9, "weight_decay": 1e-4}


def inference(options, how, nhwc, layout):
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    x, _ = networks.batch(options.model, options.batch)
    net = networks.settle(networks.build(options.model), clock.size(options.model))
    if how == "fused":
        net = fuse(net)
    net = networks.FromBytes(net.to(dtype=dtype, memory_format=layout), dtype, nhwc).eval()
    if how == "script":
        with torch.no_grad():
            net = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(net, x)))
    if how == "compile":
        from torch._inductor import config

        config.freezing = True
        net = torch.compile(net)
    # Freezing wants no_grad; inference_mode is the faster one for the others.
    guard = torch.no_grad if how == "compile" else torch.inference_mode

    def step():
        with guard():
            return net(x)

    return step


def training(options, how, nhwc, layout):
    x, y = networks.batch(options.model, options.batch)
    net = networks.build(options.model).to(memory_format=layout).train()
    net = networks.FromBytes(net, torch.float32, nhwc)
    half = options.precision == "bf16"

    def loss(x, y):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            logits = net(x)
        return F.cross_entropy(logits.float(), y)

    loss = torch.compile(loss) if how == "compile" else loss
    loss(x, y).backward()
    optimizer = faster_sgd(list(net.parameters()))

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss(x, y).backward()
        optimizer.step()

    return step


def faster_sgd(parameters):
    """The faster one of PyTorch's two ways to update all parameters at once."""
    fastest, best = float("inf"), None
    for way in ("foreach", "fused"):
        optimizer = torch.optim.SGD(parameters, **HYPERPARAMETERS, **{way: True})
        optimizer.step()
        for _ in range(3):
            begun = time.perf_counter()
            optimizer.step()
            took = time.perf_counter() - begun
            if took < fastest:
                fastest, best = took, optimizer
    return best


def main():
    options = clock.arguments()
    torch.set_num_threads(options.threads)
    torch.set_num_interop_threads(1)
    how, layout = options.variant.split("-")
    nhwc = layout == "nhwc"
    prepare = training if options.mode == "train" else inference
    step = prepare(options, how, nhwc, torch.channels_last if nhwc else torch.contiguous_format)
    versions = {"torch": torch.__version__, "torchvision": networks.torchvision.__version__}
    isa = torch.backends.cpu.get_cpu_capability()
    clock.take_turns(step, options, options.batch, versions=versions, isa=isa)


if __name__ == "__main__":
    main()
