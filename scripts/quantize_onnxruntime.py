#!/usr/bin/env python3
"""Quantises a model with ONNX Runtime's own tool, in the form that TensorRT takes.

Usage: quantize_onnxruntime.py MODEL OUTPUT SAMPLES [--method minmax|entropy|percentile]
Needs: pip install numpy onnx onnxruntime

Q and DQ in signed 8-bit integers, symmetric, weights per channel: ONNX Runtime's page on quantisation asks for this
with TensorRT. SAMPLES is a folder of .npz files, one sample each. The model is prepared first (shapes, optimisations)
as that page asks for, where that works.
"""

import argparse
import logging
import tempfile
from pathlib import Path

from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

import samples

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}


class Samples(CalibrationDataReader):
    """The samples of a folder, one after the other."""

    def __init__(self, folder):
        self.rest = iter(samples.load(folder))

    def get_next(self):
        return next(self.rest, None)


def prepared(model, folder):
    """The model with shapes and optimisations, or as it is where that fails."""
    path = Path(folder) / "prepared.onnx"
    try:
        quant_pre_process(str(model), str(path), skip_symbolic_shape=True)
        return path
    except Exception:  # it has no kind of its own
        return model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("samples", type=Path)
    parser.add_argument("--method", choices=METHODS, default="minmax")
    arguments = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="thalweg-quantize-") as folder:
        quantize_static(
            str(prepared(arguments.model, folder)),
            str(arguments.output),
            Samples(arguments.samples),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=METHODS[arguments.method],
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
        )


if __name__ == "__main__":
    main()
