#!/usr/bin/env python3
"""Compares Thalweg's outputs with ONNX Runtime's on real models with trained weights.

Usage: compare-onnxruntime.py [--thalweg PATH] [--samples N] [--seed N] [--keep DIR] [NAME...]
Needs: pip install numpy onnxruntime; the models of scripts/fetch-models.py; cargo build --release

For each model of scripts/models.tsv, or those that are named: makes random inputs from the seed, runs them with
ONNX Runtime on the CPU, one sample after the other, and with `thalweg bench --save-outputs`; then compares
every output tensor by its relative error, max |a - b| / max |b| with b of ONNX Runtime. Prints a table and exits
with 1 where one is above the tolerance or a model does not run.

The noise is the same error of ONNX Runtime without its graph optimisations. Where it is above the tolerance, the
output is that sensitive to the order of sums on these inputs, and is held against the noise instead.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy

import models
import reference
import rounds
import thalweg

# Two implementations add the same float32 numbers in different orders; over the depth of these networks that
# leaves errors of 1e-6 to 1e-4. A wrong operator is off by far more than this.
TOLERANCE = 1e-3


@dataclass
class Comparison:
    """One line of the table."""

    model: str
    output: str
    error: float
    noise: float
    note: str

    def is_good(self):
        return self.error <= max(TOLERANCE, self.noise)


def relative_error(got, expected):
    """Relative error of one tensor, and its shape; infinite where the number of elements differs or a value is
    not finite. Thalweg writes `[samples, elements]` as 64-bit numbers, whatever the shape and type of an output."""
    shape = "x".join(map(str, expected.shape))
    if got.size != expected.size:
        return float("inf"), f"{got.shape} instead of {expected.shape}"
    a, b = (tensor.astype(numpy.float64).ravel() for tensor in (got, expected))
    if not (numpy.isfinite(a).all() and numpy.isfinite(b).all()):
        return float("inf"), "not finite"
    difference, largest = numpy.abs(a - b).max(initial=0.0), numpy.abs(b).max(initial=0.0)
    return (difference / largest if largest > 0 else difference), shape


def compare(row, arguments, folder):
    """All outputs of one model."""
    session = reference.session(models.path(row), threads=1)
    inputs = reference.random_inputs(session, row, arguments.samples, arguments.seed)
    expected = reference.run_each_sample(session, inputs)
    plain_session = reference.session(models.path(row), threads=1, optimised=False)
    plain = reference.run_each_sample(plain_session, inputs)
    files = {role: Path(folder) / f"{row['name']}.{role}.npz" for role in ("inputs", "expected", "outputs")}
    numpy.savez(files["inputs"], **inputs)
    numpy.savez(files["expected"], **expected)
    try:
        thalweg.save_outputs(arguments.thalweg, row, files["inputs"], files["outputs"])
    except thalweg.Failed as failure:
        return [Comparison(row["name"], "", float("inf"), 0.0, str(failure))]
    got = numpy.load(files["outputs"])
    lines = []
    for name, tensor in expected.items():
        error, note = relative_error(got[name], tensor) if name in got else (float("inf"), "missing")
        noise, _ = relative_error(plain[name], tensor)
        lines.append(Comparison(row["name"], name, error, noise, note))
    return lines


def print_table(lines):
    width = max(len(line.model) for line in lines)
    name_width = max(len(line.output) for line in lines)
    print(f"{'model':{width}}  {'output':{name_width}}  relative error     noise")
    for line in lines:
        verdict = "" if line.is_good() else "  ABOVE THE TOLERANCE"
        print(f"{line.model:{width}}  {line.output:{name_width}}  {line.error:14.2e}  {line.noise:8.1e}  {line.note}{verdict}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="models to compare (default: all)")
    parser.add_argument("--thalweg", type=Path, default=thalweg.DEFAULT_BINARY, metavar="PATH")
    parser.add_argument("--samples", type=int, default=3, help="samples of batched models (default: 3)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep inputs and outputs in this folder")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    compared = rounds.over(arguments, "thalweg-compare-", compare)
    lines = [line for of_model in compared for line in of_model]
    print_table(lines)
    wrong = {line.model for line in lines if not line.is_good()}
    print(f"{len(compared) - len(wrong)} of {len(compared)} models agree with ONNX Runtime within {TOLERANCE:g} or the noise")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
