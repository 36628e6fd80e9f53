#!/usr/bin/env python3
"""Quantises real models to INT8 and holds the results against ONNX Runtime's own quantisation.

Usage: check-quantization.py [--method minmax|entropy|percentile] [--thalweg PATH] [--tensorrt-dir DIR] [--samples N]
                             [--held-out N] [--seed N] [--least N] [--quick] [--modelopt-python PATH]
                             [--keep DIR] [NAME...]
Needs: pip install numpy onnx onnxruntime pillow; the models of scripts/fetch-models.py; cargo build --release

For each model of scripts/models.tsv that has samples there, or those that are named: makes samples for calibration and
others to compare on; quantises with `thalweg convert --precision int8` and with ONNX Runtime's quantize_static, both
symmetric, weights per channel, by the same method; checks ours with `onnx.checker`; runs all in ONNX Runtime on the CPU
without optimisations, so that Q and DQ round and nothing else differs; and compares with the original by the cosine of the
worst output: its mean over the samples, and in brackets that of the worst sample. Ours is there with the first and last
layers in FP32, without the correction of biases, with everything quantised that ONNX Runtime quantises of them, and by our
own default method; theirs with all operators that it quantises, and with those alone that we do. With --modelopt-python,
the Python of an environment with nvidia-modelopt[onnx], its result by the same method stands there too. Layers are those
that read eight-bit numbers and weights: what a tool leaves in FP32 costs it no accuracy. With --tensorrt-dir it says
whether TensorRT builds ours. Processor time and memory are those of the whole process, all by the same method; theirs is
with all operators. Prints a table in Markdown, a row as soon as it is known, and exits with 1 where fewer than --least
models are at least as good as the better of ONNX Runtime's by the same method, or where none could be compared; a model
that theirs cannot quantise is no case. modelopt is counted, and decides nothing.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy
import onnx
import onnx.checker

import models
import reference
import rounds
import samples
import thalweg

METHODS = ("minmax", "entropy", "percentile")
# What is quantised by `thalweg`, for a comparison of like with like: ONNX Runtime quantises other operators too.
OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Our variants and theirs, with `{}` for the method that both have.
SAME = "{}"
OURS = {
    SAME: ["--calibration-method={}"],
    "{}, biases as they were": ["--calibration-method={}", "--keep-biases"],
    "{}, ends too": ["--calibration-method={}", "--quantize-ends"],
    "default": [],
}
THEIRS = {"{}": ["--method={}"], "{}, our operators": ["--method={}", "--operators", *OPERATORS]}
NOT_A_NUMBER = float("nan")


@dataclass
class Quantized:
    """What one tool made of a model."""

    cosine: float = NOT_A_NUMBER
    worst: float = NOT_A_NUMBER
    seconds: float = NOT_A_NUMBER
    megabytes: float = NOT_A_NUMBER
    layers: str = ""
    problem: str = ""
    way: str = ""


@dataclass
class Check:
    """One line of the table."""

    model: str
    ours: dict = field(default_factory=dict)
    theirs: dict = field(default_factory=dict)
    modelopt: Quantized | None = None
    builds: str = "not tried"

    def best_of_theirs(self):
        return max((it.cosine for it in self.theirs.values() if it.cosine == it.cosine), default=NOT_A_NUMBER)

    def verdict(self):
        """Ours against the better of theirs, by the same method."""
        return self.beside(self.best_of_theirs())

    def verdict_on_modelopt(self):
        return self.beside(self.modelopt.cosine)

    def beside(self, other):
        if other != other:
            return "no case"
        return "at least as good" if self.ours[SAME].cosine >= other else "worse"

    def problems(self):
        """What failed, by the tool's name."""
        results = {**self.ours, **self.theirs, "modelopt, {}": self.modelopt or Quantized()}
        return {name: result.problem for name, result in results.items() if result.problem}


# Runs a command and says what it took. A process of its own, and a small one: until it starts the command, a child has
# the memory of its parent, and that counts as its own.
WATCHED = """
import json, resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6]))
"""


def timed(command):
    """Runs a command; returns its processor time in seconds, its largest memory in megabytes, what it said last if it
    failed, and what it wrote."""
    command = [sys.executable, "-c", WATCHED, *(str(word) for word in command)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *wrote, usage = done.stdout.strip().splitlines()
    code, seconds, megabytes = json.loads(usage)
    said = done.stderr.strip().splitlines() or ["it said nothing"]
    return seconds, megabytes, said[-1] if code else "", wrote[-1] if wrote else ""


def cosine(a, b):
    """1 where both have the same direction, NaN where one is not finite."""
    a, b = a.astype(numpy.float64).ravel(), b.astype(numpy.float64).ravel()
    norms = numpy.linalg.norm(a) * numpy.linalg.norm(b)
    return 1.0 if norms == 0 and not (a.any() or b.any()) else float(a @ b / norms) if norms else 0.0


def cosines(path, expected, held_out):
    """The cosine of the worst output: its mean over the samples, and that of the worst sample."""
    session = reference.session(path, threads=2, optimised=False)
    got = [session.run(None, sample) for sample in held_out]
    every = numpy.array([[cosine(a, b) for a, b in zip(run, right)] for run, right in zip(got, expected)])
    return every.mean(axis=0).min(), every.min()


def layers(path):
    """How many convolutions and matrix products read eight-bit numbers and weights, and how many there are."""
    nodes = onnx.load(path).graph.node
    dequantized = {name for node in nodes if node.op_type == "DequantizeLinear" for name in node.output}
    every = [node for node in nodes if node.op_type in OPERATORS]
    return f"{sum(dequantized.issuperset(node.input[:2]) for node in every)}/{len(every)}"


def quantized(command, path, expected, held_out):
    """Runs a tool and compares what it made."""
    seconds, megabytes, problem, wrote = timed(command)
    result = Quantized(seconds=seconds, megabytes=megabytes, problem=problem, way=wrote)
    if not problem:
        try:
            result.cosine, result.worst = cosines(path, expected, held_out)
            result.layers = layers(path)
        except Exception as failure:  # the runtime's own kinds
            result.problem = str(failure).splitlines()[0]
    return result


def variants(arguments):
    """Ours: all of them, or the one that is judged."""
    return {SAME: OURS[SAME]} if arguments.quick else OURS


def file_of(row, tool, name, folder):
    """Where a variant is written to."""
    return folder / f"{row['name']}.{tool}-{name.format('same').replace(', ', '-').replace(' ', '-')}.onnx"


def script(tool):
    """What runs another tool in a process of its own."""
    return Path(__file__).with_name(f"quantize_{tool}.py")


def check(row, arguments, folder):
    """One model."""
    line = Check(row["name"])
    original = reference.session(models.path(row), threads=2, optimised=False)
    drawn = samples.of_model(row, original, arguments.samples + arguments.held_out, arguments.seed)
    held_out = drawn[arguments.samples :]
    calibration = samples.save(drawn[: arguments.samples], folder / f"{row['name']}.samples")
    expected = [original.run(None, sample) for sample in held_out]
    for name, options in variants(arguments).items():
        path = file_of(row, "ours", name, folder)
        options = [option.format(arguments.method) for option in options]
        command = thalweg.quantize_command(arguments.thalweg, row, calibration, path, options)
        line.ours[name] = quantized(command, path, expected, held_out)
        if not line.ours[name].problem:
            onnx.checker.check_model(str(path), full_check=True)
    for name, options in THEIRS.items():
        path = file_of(row, "theirs", name, folder)
        options = [option.format(arguments.method) for option in options]
        command = [sys.executable, script("onnxruntime"), models.path(row), path, calibration, *options]
        line.theirs[name] = quantized(command, path, expected, held_out)
    if arguments.modelopt_python:
        path = file_of(row, "modelopt", SAME, folder)
        command = [arguments.modelopt_python, script("modelopt"), models.path(row), path, calibration]
        line.modelopt = quantized([*command, f"--method={arguments.method}"], path, expected, held_out)
    if arguments.tensorrt_dir:
        line.builds = build(row, line, arguments, folder)
    print_row(line, arguments.method)
    return line


def build(row, line, arguments, folder):
    """Whether TensorRT builds our models, else what it said."""
    for name in (name for name, result in line.ours.items() if not result.problem):
        try:
            path = file_of(row, "ours", name, folder)
            thalweg.build(arguments.thalweg, row, path, arguments.tensorrt_dir, folder / "engine")
        except thalweg.Failed as failure:
            return f"no ({name}): {failure}"
    return "yes"


def shown(result):
    """The cosines, or the beginning of the reason why there are none; the whole of it goes to standard error."""
    if result.problem:
        return f"fails: {result.problem[:60]}".replace("|", "/")
    return f"{result.cosine:.5f} ({result.worst:.3f})"


def print_head(arguments):
    method, tools = arguments.method, ["ours", "theirs"]
    heads = [f"ours, {name.format(method)}" for name in variants(arguments)]
    heads += [f"ONNX Runtime, {name.format(method)}" for name in THEIRS] + ["its way"]
    verdicts = ["beside ONNX Runtime"]
    if arguments.modelopt_python:
        heads.append(f"modelopt, {method}")
        tools.append("modelopt")
        verdicts.append("beside modelopt")
    heads += [f"{unit}, {tool}" for unit in ("layers", "s", "MB") for tool in tools]
    print(f"| model | {' | '.join(heads)} | TensorRT builds | {' | '.join(verdicts)} |")
    print("| --- |" + " ---: |" * len(heads) + " --- |" * (1 + len(verdicts)), flush=True)


def print_row(line, method):
    cells = [shown(result) for result in [*line.ours.values(), *line.theirs.values()]]
    tools, verdicts = [line.ours[SAME], line.theirs[SAME]], [line.verdict()]
    cells.append(tools[-1].way)
    if line.modelopt:
        cells.append(shown(line.modelopt))
        tools.append(line.modelopt)
        verdicts.append(line.verdict_on_modelopt())
    cells += [tool.layers for tool in tools] + [f"{tool.seconds:.1f}" for tool in tools]
    cells += [f"{tool.megabytes:.0f}" for tool in tools]
    print(f"| {' | '.join([line.model, *cells, line.builds, *verdicts])} |", flush=True)
    for name, problem in line.problems().items():
        print(f"{line.model}, {name.format(method)}: {problem}", file=sys.stderr)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="models to check (default: all with samples)")
    parser.add_argument("--thalweg", type=Path, default=thalweg.DEFAULT_BINARY, metavar="PATH")
    parser.add_argument("--tensorrt-dir", type=Path, metavar="DIR", help="TensorRT to build with")
    parser.add_argument("--method", choices=METHODS, default="minmax", help="how both choose thresholds (default: minmax)")
    parser.add_argument("--samples", type=int, default=16, help="samples to calibrate on (default: 16)")
    parser.add_argument("--held-out", type=int, default=48, help="other samples to compare on (default: 48)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="leave out ours but that which is judged")
    parser.add_argument("--least", type=int, help="models that must be at least as good (default: 6, or all where fewer are checked)")
    parser.add_argument("--modelopt-python", type=Path, metavar="PATH", help="a Python that has nvidia-modelopt")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep models and samples in this folder")
    arguments = parser.parse_args()
    if arguments.modelopt_python and arguments.method == "percentile":
        parser.error("modelopt has no percentile")
    return arguments


def counted(verdicts):
    """How many are at least as good, and of how many."""
    return verdicts.count("at least as good"), len(verdicts) - verdicts.count("no case")


def is_enough(good, cases, least):
    """Whether enough models are at least as good. Where nothing could be compared, nothing was shown.

    >>> is_enough(6, 8, 6), is_enough(5, 8, 6), is_enough(3, 3, 6), is_enough(1, 1, 1)
    (True, False, False, True)
    >>> is_enough(0, 0, 6), is_enough(0, 0, 0), is_enough(0, 1, 0)
    (False, False, True)
    """
    return cases > 0 and good >= least


def main():
    arguments = parse_arguments()
    arguments.names = arguments.names or [row["name"] for row in models.read_table() if row["samples"] != "-"]
    print_head(arguments)
    lines = rounds.over(arguments, "thalweg-quantize-", check)
    good, cases = counted([line.verdict() for line in lines])
    least = min(6, len(lines)) if arguments.least is None else arguments.least
    print(f"\n{good} of {cases} models are at least as close to FP32 as with ONNX Runtime, by {arguments.method} on both sides")
    if arguments.modelopt_python:
        good_too, cases_too = counted([line.verdict_on_modelopt() for line in lines])
        print(f"{good_too} of {cases_too} as with modelopt")
    sys.exit(0 if is_enough(good, cases, least) else 1)


if __name__ == "__main__":
    main()
