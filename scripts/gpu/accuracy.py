#!/usr/bin/env python3
"""Compares outputs on a GPU with ONNX Runtime on the CPU, in FP32 without TF32 and in FP16.

Usage: accuracy.py [--thalweg PATH] [--samples N] [--threads N] [--fp16-level N] [--timing-cache FILE]
                   [--tactics=+|-SOURCE...] NAME...
Needs: numpy, onnxruntime; TensorRT on the loader's path. NAME is a model of scripts/models.tsv, or one that
`thalweg model` writes. Prints a table; ends with 1 where FP32 is off by more than 1e-3 or FP16 by more than 2e-2.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import models  # noqa: E402
import reference  # noqa: E402

TOLERANCES = {"fp32": 1e-3, "fp16": 2e-2}
# At level 0 TensorRT takes the first kernel that works, which builds fastest.
OPTIONS = {"fp32": ["--precision=fp32", "--exact-fp32", "--optimization-level=0"], "fp16": ["--precision=fp16"]}
# What random inputs of the networks that Thalweg writes itself have to be.
WRITTEN = {
    "resnet50": "-",
    "mobilenet_v2": "-",
    "bert_base": "input_ids=0..30522 attention_mask=0..2 token_type_ids=0..2",
}


def model_of(name, thalweg, folder):
    """The model's file and its row."""
    if name not in WRITTEN:
        row = models.read_table([name])[0]
        return models.path(row), row
    path = Path(folder) / f"{name}.onnx"
    subprocess.run([thalweg, "model", name, "-o", path, "--quiet"], check=True)
    return path, {"name": name, "shapes": "-", "values": WRITTEN[name]}


def outputs(thalweg, path, row, options, inputs, folder):
    """What TensorRT gives for these inputs. TensorRT 8 makes 32-bit integers of 64-bit ones."""
    narrow = {name: tensor.astype(numpy.int32) if tensor.dtype == numpy.int64 else tensor for name, tensor in inputs.items()}
    given, got = Path(folder) / "inputs.npz", Path(folder) / "outputs.npz"
    numpy.savez(given, **narrow)
    shapes = [f"--shape={name}={shape}" for name, shape in models.settings(row, "shapes").items()]
    command = [thalweg, "bench", path, "--backend=tensorrt", *options, *shapes, "--streams=2"]
    command += ["--cuda-graph=compute", f"--input={given}", f"--save-outputs={got}", "--duration=0.5", "--json"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return numpy.load(got)


def relative_error(got, expected):
    a, b = (tensor.astype(numpy.float64).ravel() for tensor in (got, expected))
    if a.size != b.size or not numpy.isfinite(a).all():
        return float("inf")
    return numpy.abs(a - b).max(initial=0.0) / max(numpy.abs(b).max(initial=0.0), 1e-30)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--thalweg", type=Path, default=Path("target/release/thalweg"))
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--fp16-level", type=int, default=1, help="the least that looks for kernels of lower precisions")
    parser.add_argument("--timing-cache", help="of TensorRT's builder; makes the second precision quicker")
    parser.add_argument("--tactics", help="where kernels come from, as `thalweg build` takes it")
    parser.add_argument("--threads", type=int, default=8, help="of ONNX Runtime")
    parser.add_argument("--precision", choices=sorted(TOLERANCES), action="append")
    arguments = parser.parse_args()
    how = [f"--timing-cache={arguments.timing_cache}"] if arguments.timing_cache else []
    how += [f"--tactics={arguments.tactics}"] if arguments.tactics else []
    OPTIONS["fp16"].append(f"--optimization-level={arguments.fp16_level}")
    is_good = True
    for name in arguments.names:
        with tempfile.TemporaryDirectory(prefix="thalweg-accuracy-") as folder:
            path, row = model_of(name, arguments.thalweg, folder)
            session = reference.session(path, threads=arguments.threads)
            inputs = reference.random_inputs(session, row, arguments.samples, seed=1)
            expected = reference.run_each_sample(session, inputs)
            for precision in arguments.precision or sorted(TOLERANCES):
                try:
                    got = outputs(arguments.thalweg, path, row, OPTIONS[precision] + how, inputs, folder)
                    worst = max(relative_error(got[output], tensor) for output, tensor in expected.items())
                except RuntimeError as failure:
                    print(f"{name:24} {precision}: {failure}", flush=True)
                    is_good = False
                    continue
                verdict = "" if worst <= TOLERANCES[precision] else "  ABOVE THE TOLERANCE"
                is_good &= not verdict
                print(f"{name:24} {precision}  relative error {worst:.2e}{verdict}", flush=True)
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
