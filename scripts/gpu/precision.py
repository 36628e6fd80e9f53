#!/usr/bin/env python3
"""Shows on a GPU what a precision that is in the ONNX file is worth beside the same one by flags of TensorRT's builder.

Usage: precision.py [--thalweg PATH] [--engines DIR] [--timing-cache FILE] [--samples DIR] [--rounds N] [--seconds S]
                    [--build-only] [--json FILE] [NAME...]

Speed: ResNet-50 with seeded weights, INT8 by Q and DQ beside the calibrator's at batch 256, computation alone and with
transfers, and FP16 by types beside FP16 by flag at batch 1, 32 and 128, computation alone. In each round every cell is
measured in both ways, in turns, once and with transfers three times; a ratio is the geometric mean over all pairs, with its
95 % interval (Student's t).
Accuracy: open-nsfw, whose weights are trained, each way beside FP32 without TF32, on photographs.

NAME picks engines by the start of their names (resnet50-int8, open-nsfw, ...); all without it. Engines are built one after
the other where --engines does not have them yet: about 190 s for ResNet-50 in INT8 by flags, 75 to 120 s for the other three,
10 to 40 s each for the five of open-nsfw. With --build-only nothing is measured, so that they can be built in several calls.
Measuring takes 2 to 5 minutes with 5 rounds. Ends with 1 where a ratio's mean is below its target or accuracy is lost.

Needs: TensorRT 8 or 10 on the loader's path, numpy; for open-nsfw scripts/fetch-models.py and --samples with calibrate.npy
and test.npy (scripts/photographs.py --layout nhwc-caffe).
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy

from checking import ROOT, last_line
from streams import T95

# Random numbers give ranges as well as any with random weights, and the same to both ways.
CALIBRATION_SAMPLES = 16
# (what, precision, batch, transfers, streams, least ratio)
CELLS = [
    ("INT8, computation", "int8", 256, "off", 2, 1.00),
    ("INT8, with transfers", "int8", 256, "on", 2, 1.00),
    ("FP16, computation", "fp16", 1, "off", 1, 0.97),
    ("FP16, computation", "fp16", 32, "off", 1, 0.97),
    ("FP16, computation", "fp16", 128, "off", 1, 0.97),
]
# Pairs in each round: with transfers single runs differ by 6 %, since the host fills 40 GB a second.
PAIRS = {"off": 1, "on": 3}
BATCHES = {"int8": 256, "fp16": 128}
# What the ways may lose on open-nsfw: cosine of its worst sample. On the processor INT8 by Q and DQ has 0.99996.
LEAST_COSINE = {"int8": 0.99, "fp16": 0.999}
ROUTES = ("flags", "onnx")


class Engines:
    """Plans in a folder, built where they are missing."""

    def __init__(self, arguments):
        self.arguments, self.folder = arguments, arguments.engines.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.thalweg = arguments.thalweg.resolve()

    def run(self, *words):
        """What a command of Thalweg wrote to its standard output; warnings go elsewhere."""
        command = [str(word) for word in (self.thalweg, *words, "--quiet")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=self.arguments.limit)
        if done.returncode != 0:
            raise RuntimeError(f"ended with {done.returncode}: {last_line(done.stderr)}")
        return done.stdout

    def path(self, name):
        return self.folder / f"{name}.plan"

    def resnet50(self, precision, route):
        """The command line but for the output."""
        model, samples = self.folder / "resnet50.onnx", self.folder / "random.npy"
        if not model.is_file():
            self.run("model", "resnet50", "-o", model)
        if not samples.is_file():
            random = numpy.random.default_rng(0)
            numpy.save(samples, random.standard_normal((CALIBRATION_SAMPLES, 3, 224, 224), numpy.float32))
        command = [model, f"--batch={BATCHES[precision]}", "--no-accuracy"]
        if precision == "int8":
            # Flags quantise the first and the last layer too.
            command += ["--calibrate", samples, *(["--quantize-ends"] if route == "onnx" else [])]
        return command

    def open_nsfw(self, precision, _):
        """The same; the build compares with FP32, whose engine the cache keeps for the four of them."""
        calibrate, test = (self.arguments.samples.resolve() / name for name in ("calibrate.npy", "test.npy"))
        command = [ROOT / ".models" / "open-nsfw.onnx", "--shape=input:0=1x224x224x3", "--input", test]
        command += ["--optimization-level=1", "--cache", self.folder / "cache"]
        return command + (["--calibrate", calibrate] if precision == "int8" else [])

    def names(self):
        networks = {"resnet50": self.resnet50, "open-nsfw": self.open_nsfw}
        if not self.arguments.samples:
            print("SKIPPED open-nsfw: --samples is not given", flush=True)
            del networks["open-nsfw"]
        chosen = tuple(self.arguments.names) or ("",)
        for network, command in networks.items():
            for precision in ("int8", "fp16"):
                for route in ROUTES:
                    if (name := f"{network}-{precision}-{route}").startswith(chosen):
                        yield name, precision, route, command

    def build(self):
        """Builds what is missing, and says how long each took; whether all are there now."""
        failures = 0
        for name, precision, route, command in self.names():
            if self.path(name).is_file():
                continue
            start = time.monotonic()
            layers = self.folder / f"{name}.layers.json"
            words = ["build", *command(precision, route), "-o", self.path(name), "--export-layers", layers]
            if self.arguments.timing_cache:
                words += ["--timing-cache", self.arguments.timing_cache.resolve()]
            try:
                said = self.run(*words, f"--precision={precision}", f"--precision-route={route}", "--json")
                (self.folder / f"{name}.built.json").write_text(said)
                print(f"built  {name:24} {time.monotonic() - start:5.0f} s  {kernels(layers)}", flush=True)
            except Exception as failure:  # the others are worth having all the same
                failures += 1
                print(f"FAILED {name:24} {time.monotonic() - start:5.0f} s  {failure}", flush=True)
        return failures == 0

    def bench(self, precision, route, batch, transfers, streams):
        """Inferences per second of one way in one cell."""
        command = ["bench", "--engine", self.path(f"resnet50-{precision}-{route}"), "--backend=tensorrt"]
        command += [f"--batch={batch}", f"--streams={streams}", f"--transfers={transfers}", "--cuda-graph=compute"]
        said = self.run(*command, "--warm-up=0.3", f"--duration={self.arguments.seconds}", "--json")
        return json.loads(said)["throughput_inferences_per_s"]["value"]


def kernels(file):
    """How many layers an engine has, and how many of them only change a format: fusions that did not happen."""
    layers = json.loads(file.read_text()).get("Layers", [])
    kinds = [layer.get("LayerType", "") if isinstance(layer, dict) else layer for layer in layers]
    moves = [kind for kind in kinds if "reformat" in kind.lower() or "quantize" in kind.lower()]
    return f"{len(kinds)} layers, {len(moves)} of them only change formats"


def measure(engines, rounds):
    """Every cell whose two engines are there: its rounds, each a pair (by flags, by the file)."""
    exists = lambda cell: all(engines.path(f"resnet50-{cell[1]}-{route}").is_file() for route in ROUTES)  # noqa: E731
    cells = {cell: [] for cell in CELLS if exists(cell)}
    turns = [cell for _ in range(rounds) for cell in cells for _ in range(PAIRS[cell[3]])]
    for cell in turns:
        pairs = cells[cell]
        # Every other pair the other way round, so that what comes first is no advantage.
        order = ROUTES if len(pairs) % 2 == 0 else ROUTES[::-1]
        _, precision, batch, transfers, streams, _ = cell
        try:
            pair = {route: engines.bench(precision, route, batch, transfers, streams) for route in order}
            pairs.append((pair["flags"], pair["onnx"]))
        except Exception as failure:  # one bad turn costs a pair, not the run
            print(f"{cell[0]} at batch {batch}: {failure}", file=sys.stderr, flush=True)
    return cells


def interval(pairs):
    """The geometric mean of the file's way over the flags', and both ends of its 95 % interval."""
    logs = [math.log(by_file / by_flags) for by_flags, by_file in pairs]
    mean = statistics.fmean(logs)
    if len(logs) < 2:
        return math.exp(mean), math.nan, math.nan
    half_width = T95[min(len(logs) - 1, max(T95))] * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half_width), math.exp(mean + half_width)


def print_speed(cells):
    """A row for each cell; how many reached their target, and how many there are."""
    reached = 0
    if cells:
        print(f"{'ResNet-50':22} {'batch':>5} {'by flags':>9} {'by file':>9} {'ratio':>6} {'95 % interval':>16} {'target':>6}")
    for (what, _, batch, _, _, target), pairs in cells.items():
        if not pairs:
            print(f"{what:22} {batch:>5}  no round ran  MISSED")
            continue
        middle, lower, upper = interval(pairs)
        flags, by_file = (statistics.median(pair[way] for pair in pairs) for way in (0, 1))
        verdict = "reached" if middle >= target else "MISSED"
        reached += verdict == "reached"
        span = f"{lower:.3f} to {upper:.3f}"
        print(f"{what:22} {batch:>5} {flags:9.0f} {by_file:9.0f} {middle:6.3f} {span:>16} {target:6.2f}  {verdict}")
    return reached, len(cells)


def accuracies(engines):
    """What each build of open-nsfw said of its accuracy."""
    found = {}
    for precision in LEAST_COSINE:
        for route in ROUTES:
            file = engines.folder / f"open-nsfw-{precision}-{route}.built.json"
            if file.is_file():
                found[(precision, route)] = json.loads(file.read_text())["accuracy"]
    return found


def print_accuracy(found):
    """A row for each way; how many keep to the limit, and how many there are."""
    kept = 0
    if found:
        print(f"{'open-nsfw':22} {'samples':>8} {'cosine':>10} {'relative error':>14} {'same top-1':>10}")
    for (precision, route), accuracy in found.items():
        output = accuracy["outputs"][0]
        verdict = "kept" if output["cosine"] >= LEAST_COSINE[precision] else "LOST"
        kept += verdict == "kept"
        row = f"{precision} by {route}"
        top1 = output["top1_agreement"]
        columns = f"{accuracy['sample_count']:>8} {output['cosine']:10.6f} {output['max_relative_error']:14.1e}"
        print(f"{row:22} {columns} {'-' if top1 is None else f'{top1:.1%}':>10}  {verdict}")
    return kept, len(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--thalweg", type=Path, default=ROOT / "target/release/thalweg")
    parser.add_argument("--engines", type=Path, default=Path("precision-engines"))
    parser.add_argument("--timing-cache", type=Path, help="timings that builds share")
    parser.add_argument("--samples", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--build-only", action="store_true")
    parser.add_argument("--limit", type=float, default=400, help="seconds for one command")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    engines = Engines(arguments)
    is_built = engines.build()
    if arguments.build_only:
        sys.exit(0 if is_built else 1)
    cells, found = measure(engines, arguments.rounds), accuracies(engines)
    if arguments.json:
        names = ("what", "precision", "batch", "transfers", "streams", "target")
        rows = [dict(zip(names, cell)) | {"pairs": pairs} for cell, pairs in cells.items()]
        ways = {f"{precision} by {route}": accuracy for (precision, route), accuracy in found.items()}
        arguments.json.write_text(json.dumps({"speed": rows, "open-nsfw": ways}))
    good, count = (sum(pair) for pair in zip(print_speed(cells), print_accuracy(found)))
    print(f"{good} of {count} reached their target")
    sys.exit(0 if is_built and count and good == count else 1)


if __name__ == "__main__":
    main()
