#!/usr/bin/env python3
"""Converts the real models to half precision and checks the results with others' eyes.

Usage: check-conversion.py [--precision fp16|bf16] [--max-loss LIMIT] [--real] [--thalweg PATH] [--tensorrt-dir DIR]
                           [--seed N] [--keep DIR] [NAME...]
For INT8 there is check-quantization.py.
Needs: pip install numpy onnx onnxruntime, with --real pillow too; the models of scripts/fetch-models.py; cargo build --release

For each model of scripts/models.tsv, or those that are named: `thalweg convert` with ranges from random samples;
`onnx.checker` with types and shapes; outputs of ONNX Runtime on the CPU beside those of the original, as relative
error, max |a - b| / max |b| over each tensor, the worst output; and whether TensorRT builds both the original and the
converted model, where --tensorrt-dir is given (TensorRT for RTX does so without a GPU). Prints a table in Markdown and
exits with 1 where fewer than --least models pass: valid, within the tolerance, and built where the original is.

ONNX Runtime's CPU provider computes FP16 nodes in FP32 and rounds what goes in and out. For BF16 it has no kernels: each
BF16 value is rounded by a pair of casts between FP32 nodes instead, which gives the same numbers.

With --max-loss rel=0.005 nodes that lose more than that together stay in FP32; `thalweg` finds them on --samples random
samples, and the error in the table is that of another one.

With --real samples are crops of photographs, text and tones where models.tsv knows what a model was trained for, and
random numbers only elsewhere: a detector that is shown noise answers "nothing", and no error of nothing is small.

The noise is the error of the original, in FP32, where only its inputs are rounded to the half type: an output that is
off by this much already does not tell a good conversion from a bad one.
"""

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy
import onnx
import onnx.checker
import onnx.helper
import onnx.numpy_helper

import models
import reference
import rounds
import samples
import thalweg

# What half precision may cost; roundings of 2^-11 (FP16) or 2^-8 (BF16) add up over the depth of a network.
TOLERANCE = 1e-2
ONNX_TYPES = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}
NOT_A_NUMBER = float("nan")


@dataclass
class Check:
    """One line of the table."""

    model: str
    report: dict = field(default_factory=dict)
    is_valid: bool = False
    error: float = NOT_A_NUMBER
    noise: float = NOT_A_NUMBER
    builds: str = "not tried"
    problem: str = ""

    def is_good(self):
        return self.is_valid and self.error <= TOLERANCE and self.builds != "only the original"


def in_fp32(model):
    """The same model with FP32 in place of BF16, and each value rounded to BF16 where it is made."""
    float32, half = onnx.TensorProto.FLOAT, onnx.TensorProto.BFLOAT16

    def rewrite(graph):
        halves = set()
        for index, tensor in enumerate(graph.initializer):
            if tensor.data_type == half:
                halves.add(tensor.name)
                values = onnx.numpy_helper.to_array(tensor).astype(numpy.float32)
                graph.initializer[index].CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        for value in [*graph.input, *graph.output, *graph.value_info]:
            if value.type.tensor_type.elem_type == half:
                value.type.tensor_type.elem_type = float32
        nodes = []
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    rewrite(attribute.g)
                if node.op_type == "Cast" and attribute.name == "to" and attribute.i == half:
                    attribute.i = float32
            # Every value that the pass makes in BF16 has this in its name.
            rounded = [i for i, name in enumerate(node.output) if "_bf16" in name]
            finals = {}
            for i in rounded:
                finals[f"{node.output[i]}/exact"] = node.output[i]
                node.output[i] = f"{node.output[i]}/exact"
            nodes.append(node)
            for exact, final in finals.items():
                nodes.append(onnx.helper.make_node("Cast", [exact], [f"{final}/short"], to=half))
                nodes.append(onnx.helper.make_node("Cast", [f"{final}/short"], [final], to=float32))
        del graph.node[:]
        graph.node.extend(nodes)
        return halves

    rewrite(model.graph)
    return model


def runnable(path, precision, folder):
    """The converted model as ONNX Runtime's CPU provider can run it."""
    if precision == "fp16":
        return path
    emulated = Path(folder) / f"{path.stem}.fp32.onnx"
    onnx.save(in_fp32(onnx.load(path)), emulated)
    return emulated


def rounded(inputs, precision):
    """Inputs as the half type has them."""
    def round_one(array):
        if array.dtype != numpy.float32:
            return array
        tensor_type = onnx.helper.tensor_dtype_to_np_dtype(ONNX_TYPES[precision])
        return array.astype(tensor_type).astype(numpy.float32)

    return {name: round_one(array) for name, array in inputs.items()}


def worst_error(got, expected):
    """The largest relative error of all outputs; infinite where one has another shape or is not finite."""
    worst = 0.0
    for a, b in zip(got, expected, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return float("inf")
        a, b = a.astype(numpy.float64), b.astype(numpy.float64)
        if not (numpy.isfinite(a).all() and numpy.isfinite(b).all()):
            return float("inf")
        difference, largest = numpy.abs(a - b).max(initial=0.0), numpy.abs(b).max(initial=0.0)
        worst = max(worst, difference / largest if largest > 0 else difference)
    return worst


def build(row, path, arguments, folder):
    """Whether TensorRT builds a model, or what it said."""
    try:
        thalweg.build(arguments.thalweg, row, path, arguments.tensorrt_dir, Path(folder) / "engine")
        return ""
    except thalweg.Failed as failure:
        return str(failure) or "it failed"


def sample(row, session, arguments, seed):
    """One sample of a model."""
    if arguments.real and row["samples"] != "-":
        return samples.of_model(row, session, 1, seed)[0]
    return reference.random_inputs(session, row, 1, seed)


def limited(row, arguments, folder):
    """What keeps a conversion to a limit, and the samples for that."""
    session = reference.session(models.path(row), threads=1)
    # Not the one that the result is compared on.
    seeds = range(arguments.seed + 1, arguments.seed + 1 + arguments.samples)
    drawn = [sample(row, session, arguments, seed) for seed in seeds]
    place = samples.save(drawn, Path(folder) / f"{row['name']}.samples")
    return [f"--max-loss={arguments.max_loss}", f"--input={place}"]


def check(row, arguments, folder):
    """One model."""
    line = Check(row["name"])
    converted = Path(folder) / f"{row['name']}.{arguments.precision}.onnx"
    try:
        options = limited(row, arguments, folder) if arguments.max_loss else ["--no-accuracy"]
        line.report = thalweg.convert(arguments.thalweg, row, arguments.precision, converted, options)
        onnx.checker.check_model(str(converted), full_check=True)
        line.is_valid = True
        original = reference.session(models.path(row), threads=2)
        inputs = sample(row, original, arguments, arguments.seed)
        expected = original.run(None, inputs)
        line.noise = worst_error(original.run(None, rounded(inputs, arguments.precision)), expected)
        # Without optimisations, which may take a pair of casts for nothing.
        session = reference.session(runnable(converted, arguments.precision, folder), threads=2, optimised=False)
        line.error = worst_error(session.run(None, inputs), expected)
    except thalweg.Failed as failure:
        line.problem = str(failure)
    except Exception as problem:  # the checker's and the runtime's own kinds
        line.problem = str(problem).splitlines()[0]
    if arguments.tensorrt_dir and line.report:
        before, after = build(row, models.path(row), arguments, folder), build(row, converted, arguments, folder)
        line.builds = {(True, True): "both", (True, False): "only the original", (False, True): "only the converted"}.get(
            (not before, not after), "neither"
        )
        line.problem = line.problem or (after if not before else "")
    return line


def print_table(lines):
    print("| model | half | FP32 | casts | MB before | MB now | opset | valid | error | noise | TensorRT builds | |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: | --- | --- |")
    for line in lines:
        it = line.report
        numbers = "| | | | | |"
        if it:
            sizes = f"{it['bytes_before'] / 1e6:.2f} | {it['bytes_after'] / 1e6:.2f}"
            numbers = f"{it['half_nodes']} | {len(it['kept'])} | {it['cast_count']} | {sizes} | {it['opset']}"
        verdict = "passes" if line.is_good() else f"FAILS {line.problem}".strip()
        valid = "yes" if line.is_valid else "no"
        print(f"| {line.model} | {numbers} | {valid} | {line.error:.1e} | {line.noise:.1e} | {line.builds} | {verdict} |")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="models to check (default: all)")
    parser.add_argument("--precision", choices=ONNX_TYPES, default="fp16")
    parser.add_argument("--thalweg", type=Path, default=thalweg.DEFAULT_BINARY, metavar="PATH")
    parser.add_argument("--tensorrt-dir", type=Path, metavar="DIR", help="TensorRT to build with")
    parser.add_argument("--max-loss", metavar="LIMIT", help="nodes that lose more together stay in FP32")
    parser.add_argument("--real", action="store_true", help="photographs, text and tones where they are known to fit")
    parser.add_argument("--samples", type=int, default=8, help="random samples that --max-loss is held against")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--least", type=int, default=15, help="models that must pass (default: 15, or all that are named)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep converted models in this folder")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    lines = rounds.over(arguments, "thalweg-convert-", check)
    print_table(lines)
    good = sum(line.is_good() for line in lines)
    print(f"\n{good} of {len(lines)} models pass in {arguments.precision}: valid, within {TOLERANCE:g}, built where the original is")
    sys.exit(0 if good >= min(arguments.least, len(lines)) else 1)


if __name__ == "__main__":
    main()
