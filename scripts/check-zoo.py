#!/usr/bin/env python3
"""Checks the networks of the zoo against ONNX and ONNX Runtime.

Usage: check-zoo.py MODEL.onnx...     (written by `thalweg model NAME -o MODEL.onnx`)
Needs: pip install numpy onnx onnxruntime

For each file: onnx.checker accepts it, its outputs have the declared shapes and finite values of a sensible
size, a sample's result does not depend on its batch, and different samples give clearly different results.
Prints one line per output and exits with 1 at the first network that fails.
"""

import sys
import time
from pathlib import Path

import numpy
import onnx
import onnxruntime

BATCH_SIZE = 3
# Largest difference between a sample alone and in a batch, as a fraction of the output's largest value:
# the order of sums may differ, the result may not.
BATCH_TOLERANCE = 1e-4
# Least deviation between samples, as a fraction of the output's root mean square. Noise of FP16 is below
# 0.001; a network that ignores its input is at 0.
LEAST_SPREAD = 0.02
# Sensible root mean squares: FP16 neither overflows nor loses digits.
SMALLEST, LARGEST = 1e-2, 1e2
# Exclusive upper bounds of integer inputs; all others hold 0 or 1.
INTEGER_LIMITS = {"input_ids": 30522}


def sample_inputs(model, random):
    """Random inputs of BATCH_SIZE samples, normal numbers or valid indices."""
    inputs = {}
    for value in model.graph.input:
        shape = [BATCH_SIZE] + [d.dim_value for d in value.type.tensor_type.shape.dim[1:]]
        if value.type.tensor_type.elem_type == onnx.TensorProto.INT64:
            limit = INTEGER_LIMITS.get(value.name, 2)
            inputs[value.name] = random.integers(0, limit, shape, dtype=numpy.int64)
        else:
            inputs[value.name] = random.standard_normal(shape, dtype=numpy.float32)
    return inputs


def check_output(value, whole, alone):
    """Compares one output of a batch with those of its samples alone; returns a line of figures."""
    shape = tuple([BATCH_SIZE] + [d.dim_value for d in value.type.tensor_type.shape.dim[1:]])
    assert whole.shape == shape, f"{value.name} is {whole.shape}, declared {shape}"
    assert numpy.isfinite(whole).all(), f"{value.name} is not finite"
    size = float(numpy.sqrt(numpy.mean(numpy.square(whole))))
    assert SMALLEST < size < LARGEST, f"{value.name} has root mean square {size}"
    difference = float(numpy.abs(whole - alone).max() / numpy.abs(whole).max())
    assert difference < BATCH_TOLERANCE, f"{value.name} depends on the batch: {difference}"
    spread = float(numpy.sqrt(numpy.mean(numpy.var(whole, axis=0)))) / size
    assert spread > LEAST_SPREAD, f"{value.name} hardly depends on the input: {spread}"
    return f"{value.name}: rms {size:.3g}, spread {spread:.3g}, batch difference {difference:.1e}"


def check(path):
    """Checks one file."""
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs = sample_inputs(model, numpy.random.default_rng(1))
    whole = session.run(None, inputs)
    start = time.perf_counter()
    runs = [session.run(None, {k: v[i : i + 1] for k, v in inputs.items()}) for i in range(BATCH_SIZE)]
    one_ms = (time.perf_counter() - start) / BATCH_SIZE * 1e3
    for index, value in enumerate(model.graph.output):
        alone = numpy.concatenate([run[index] for run in runs])
        print(f"{path.stem}: {check_output(value, whole[index], alone)}, {one_ms:.0f} ms at batch 1")


def main():
    for argument in sys.argv[1:] or sys.exit(__doc__):
        try:
            check(Path(argument))
        except (AssertionError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            sys.exit(f"{argument}: {error}")


if __name__ == "__main__":
    main()
