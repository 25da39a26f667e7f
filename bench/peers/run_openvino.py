"""OpenVINO's CPU plugin in turns with others: `latency` (one request after the other) or `throughput` (as
many requests at once as OpenVINO likes; a step is then some a stream)."""

import numpy as np
import openvino

import clock


def main():
    options = clock.arguments()
    core = openvino.Core()
    model = core.read_model(options.onnx)
    size = clock.size(options.model)
    model.reshape([options.batch, size, size, 3])
    config = {
        "PERFORMANCE_HINT": options.variant.upper(),
        "INFERENCE_NUM_THREADS": options.threads,
        # Without it, OpenVINO takes bf16 by itself where the processor has it.
        "INFERENCE_PRECISION_HINT": "bf16" if options.precision == "bf16" else "f32",
    }
    compiled = core.compile_model(model, "CPU", config)
    requests = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
    requests = requests if options.variant == "throughput" else 1
    pixels = np.random.default_rng(1).integers(0, 256, (options.batch, size, size, 3), dtype=np.uint8)
    queue = openvino.AsyncInferQueue(compiled, requests)
    for request in queue:
        request.set_input_tensor(openvino.Tensor(pixels.copy()))

    def together():
        for _ in range(each * requests):
            queue.start_async()
        queue.wait_all()

    alone, each = queue[0], 1
    if 1 < requests:
        # So many a request that a step fills a turn: the end, where some have nothing left to do, counts
        # little.
        each = max(1, round(options.seconds / clock.warm_up(together)))
    step, images = (together, each * requests) if 1 < requests else (alone.infer, 1)
    version = openvino.__version__.split("-")[0]
    clock.take_turns(step, options, options.batch * images, versions={"openvino": version}, requests=requests)


if __name__ == "__main__":
    main()
