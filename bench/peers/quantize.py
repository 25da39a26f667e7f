"""Writes int8 versions of an ONNX file, each peer by its own tool, calibrated on noise: right for
speed, and no use for accuracy.

    quantize.py onnxruntime|openvino IN.onnx OUT
"""

import pathlib
import sys

import numpy as np

import clock

PICTURES = 16


def noise(model):
    size, generator = clock.size(model), np.random.default_rng(3)
    shape = (1, size, size, 3)
    return [generator.integers(0, 256, shape, dtype=np.uint8) for _ in range(PICTURES)]


def onnxruntime(source, target):
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Noise(CalibrationDataReader):
        def __init__(self):
            self.pictures = iter(noise(source.stem))

        def get_next(self):
            picture = next(self.pictures, None)
            return None if picture is None else {"input": picture}

    prepared = target.with_suffix(".prepared")
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    ops = ["Conv", "Gemm", "MatMul", "Add", "MaxPool", "GlobalAveragePool", "ReduceMean"]
    quantize_static(
        prepared, target, Noise(), per_channel=True, op_types_to_quantize=ops,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    prepared.unlink()


def openvino(source, target):
    import nncf
    import openvino as ov

    pictures = nncf.Dataset(noise(source.stem))
    preset = nncf.QuantizationPreset.MIXED
    model = nncf.quantize(ov.Core().read_model(source), pictures, preset=preset, subset_size=PICTURES)
    ov.save_model(model, target)


tool, source, target = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
{"onnxruntime": onnxruntime, "openvino": openvino}[tool](source, target)
