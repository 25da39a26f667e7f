"""ONNX Runtime's CPU provider in turns with others, the batch size fixed as a user would who knows it."""

import numpy as np
import onnxruntime

import clock


def main():
    options = clock.arguments()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.add_free_dimension_override_by_name("N", options.batch)
    session = onnxruntime.InferenceSession(options.onnx, settings, providers=["CPUExecutionProvider"])
    shape = (options.batch, clock.size(options.model), clock.size(options.model), 3)
    pixels = {"input": np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)}
    step = lambda: session.run(None, pixels)
    clock.take_turns(step, options, options.batch, versions={"onnxruntime": onnxruntime.__version__})


if __name__ == "__main__":
    main()
