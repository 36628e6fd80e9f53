#!/usr/bin/env python3
"""Quantises a model with NVIDIA's nvidia-modelopt, on the CPU.

Usage: quantize_modelopt.py MODEL OUTPUT SAMPLES [--method minmax|entropy]
Needs: pip install "nvidia-modelopt[onnx]", 6.4 GB; best in a virtual environment of its own

INT8 with Q and DQ where modelopt places them for TensorRT, weights per channel; what is not quantised stays in FP32.
SAMPLES is a folder of .npz files, one sample each, of batch size 1. `max`, its name for min-max, is the same by symmetric
scales. It writes models in operator set 19 at least. Imports nothing of this folder: those need Pillow.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy
from modelopt.onnx.quantization import quantize

METHODS = {"minmax": "max", "entropy": "entropy"}


def load(folder):
    """All samples in one array for each input: modelopt takes them apart again by the batch size of the model."""
    samples = [dict(numpy.load(path)) for path in sorted(folder.glob("*.npz"))]
    return {name: numpy.concatenate([sample[name] for sample in samples]) for name in samples[0]}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("samples", type=Path)
    parser.add_argument("--method", choices=METHODS, default="minmax")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    # It writes its intermediate models beside the model and beside the result.
    with tempfile.TemporaryDirectory(prefix="thalweg-quantize-") as folder:
        model, result = Path(folder) / "model.onnx", Path(folder) / "quantized.onnx"
        model.write_bytes(arguments.model.read_bytes())
        try:
            quantize(
                str(model),
                quantize_mode="int8",
                calibration_data=load(arguments.samples),
                calibration_method=METHODS[arguments.method],
                calibration_eps=["cpu"],
                high_precision_dtype="fp32",
                output_path=str(result),
                log_level="ERROR",
            )
        except Exception as problem:  # it has no kind of its own
            sys.exit(f"{type(problem).__name__}: {(str(problem).splitlines() or ['it said nothing'])[0]}")
        arguments.output.write_bytes(result.read_bytes())


if __name__ == "__main__":
    main()
