#!/usr/bin/env python3
"""Quantises a model with ONNX Runtime's own tool, in the form that TensorRT takes.

Usage: quantize_onnxruntime.py MODEL OUTPUT SAMPLES [--method minmax|entropy|percentile] [--operators OP ...]
Needs: pip install numpy onnx onnxruntime

Q and DQ in signed 8-bit integers, symmetric, weights per channel: ONNX Runtime's page on quantisation asks for this
with TensorRT. SAMPLES is a folder of .npz files, one sample each. The model is raised to operator set 13 and prepared
(shapes, optimisations) as that page asks for; where the result is not valid it goes on without. Prints what it did.
"""

import argparse
import logging
import sys
import tempfile
from pathlib import Path

import onnx
import onnx.version_converter
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

import reference
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


def raised(model, folder):
    """The model in operator set 13, the first with scales for each channel."""
    proto = onnx.load(model)
    own = next(opset for opset in proto.opset_import if opset.domain in ("", "ai.onnx"))
    if own.version >= 13:
        return model
    path = Path(folder) / "raised.onnx"
    onnx.save(onnx.version_converter.convert_version(proto, 13), path)
    return path


def prepared(model, folder):
    """The model with shapes and optimisations."""
    path = Path(folder) / "prepared.onnx"
    quant_pre_process(str(model), str(path), skip_symbolic_shape=True)
    return path


def quantize(model, arguments, per_channel):
    """Quantises and loads the result; the tool writes models that are not valid without noticing."""
    quantize_static(
        str(model),
        str(arguments.output),
        Samples(arguments.samples),
        quant_format=QuantFormat.QDQ,
        per_channel=per_channel,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=METHODS[arguments.method],
        op_types_to_quantize=arguments.operators,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    )
    reference.session(arguments.output, threads=1, optimised=False)


def ways(model, folder):
    """From what the documentation asks for to what still works: how it is called, the model, scales per channel or not.
    Each is made when it is tried."""
    yield "as documented", lambda: prepared(raised(model, folder), folder), True
    yield "not prepared", lambda: raised(model, folder), True
    yield "one scale per weight", lambda: prepared(model, folder), False
    yield "one scale per weight, not prepared", lambda: model, False


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("samples", type=Path)
    parser.add_argument("--method", choices=METHODS, default="minmax")
    parser.add_argument("--operators", nargs="+", metavar="OP", help="quantise these alone (default: all it can)")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    logging.getLogger().setLevel(logging.ERROR)
    problems = []
    with tempfile.TemporaryDirectory(prefix="thalweg-quantize-") as folder:
        for name, make, per_channel in ways(arguments.model, folder):
            try:
                quantize(make(), arguments, per_channel)
                print(name)
                return
            except Exception as problem:  # it has no kind of its own
                problems.append(f"{name}: {(str(problem).splitlines() or ['it said nothing'])[0]}")
    sys.exit("; ".join(problems))


if __name__ == "__main__":
    main()
