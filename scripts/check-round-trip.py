#!/usr/bin/env python3
"""Reads and writes models that nothing was changed in, and compares what came out with what went in.

Usage: check-round-trip.py [--thalweg PATH] [--large GB] [--folder DIR]
Needs: pip install numpy onnx onnxruntime; the models of scripts/fetch-models.py; cargo build --release; for --large three
times so many gigabytes of disk and twice of memory.

Each real model is written as it is by `thalweg convert --precision fp32` and must be the same to the last byte. One of them
is saved with its tensors in another file first, and a generated network of --large gigabytes (default: 2.3) is more than
one ONNX file can hold: their copies must give the same in ONNX Runtime, bit by bit, and the large one must have its tensors
in another file again. The large one in FP16 must be within 1e-2. Prints a line for each; ends with 1 where one fails.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
import onnx
import onnx.external_data_helper
import onnx.helper
import onnxruntime

import models
import reference
import thalweg

WIDTH = 8192
MOST_BYTES_OF_ONE_FILE = 2**31 - 1
TOLERANCE = 1e-2


def generate(folder, gigabytes):
    """A chain of square products with random weights, in a file of their own, whose values keep their size."""
    random = numpy.random.default_rng(0)
    count = -(-int(gigabytes * 1e9) // (WIDTH * WIDTH * 4))
    nodes, weights, offset = [], [], 0
    with open(folder / "large.data", "wb") as data:
        for index in range(count):
            numbers = random.standard_normal((WIDTH, WIDTH), numpy.float32) / numpy.float32(WIDTH**0.5)
            data.write(numbers.tobytes())
            tensor = onnx.TensorProto(name=f"w{index}", data_type=onnx.TensorProto.FLOAT, dims=numbers.shape)
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in {"location": "large.data", "offset": offset, "length": numbers.nbytes}.items():
                tensor.external_data.add(key=key, value=str(value))
            offset += numbers.nbytes
            weights.append(tensor)
            nodes.append(onnx.helper.make_node("MatMul", [f"x{index}", f"w{index}"], [f"x{index + 1}"]))
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, WIDTH]) for name in ("x0", f"x{count}")]
    graph = onnx.helper.make_graph(nodes, "large", ends[:1], ends[1:], weights)
    path = folder / "large.onnx"
    path.write_bytes(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    return path


def convert(arguments, model, output, *options):
    command = [arguments.thalweg, "convert", model, "-o", output, "--quiet", *options]
    start = time.monotonic()
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


def outputs(path, inputs):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def same_bytes(row, arguments, folder):
    copy = folder / f"{row['name']}.onnx"
    convert(arguments, models.path(row), copy, "--precision=fp32")
    assert copy.read_bytes() == models.path(row).read_bytes(), "other bytes"
    copy.unlink()
    return "the same bytes"


def with_external_data(row, arguments, folder):
    moved, copy = folder / "moved", folder / "copy.onnx"
    moved.mkdir()
    original = onnx.load(models.path(row))
    onnx.save(original, moved / "moved.onnx", save_as_external_data=True, location="moved.data", size_threshold=1024)
    convert(arguments, moved / "moved.onnx", copy, "--precision=fp32")
    inputs = reference.random_inputs(reference.session(models.path(row), threads=2), row, 1, 0)
    pairs = zip(outputs(models.path(row), inputs), outputs(copy, inputs), strict=True)
    assert all(numpy.array_equal(a, b) for a, b in pairs), "other outputs"
    return f"the same outputs; {(moved / 'moved.data').stat().st_size / 1e6:.1f} MB of tensors came into the file"


def large(arguments, folder):
    path = generate(folder, arguments.large)
    size = (folder / "large.data").stat().st_size
    inputs = {"x0": numpy.random.default_rng(1).standard_normal((1, WIDTH), numpy.float32)}
    expected = outputs(path, inputs)[0]
    (folder / "copies").mkdir()
    copy = folder / "copies" / "large.onnx"
    seconds = convert(arguments, path, copy, "--precision=fp32")
    data = copy.with_name("large.onnx.data")
    assert copy.stat().st_size < 1e6 and data.stat().st_size >= size > MOST_BYTES_OF_ONE_FILE, "the tensors are not beside it"
    assert numpy.array_equal(outputs(copy, inputs)[0], expected), "other outputs"
    half = folder / "copies" / "half.onnx"
    half_seconds = convert(arguments, path, half, "--precision=fp16", "--no-ranges", "--no-accuracy")
    error = numpy.abs(outputs(half, inputs)[0] - expected).max() / numpy.abs(expected).max()
    assert error <= TOLERANCE, f"FP16 is off by {error:.1e}"
    return (
        f"{size / 1e9:.2f} GB, the same outputs, written in {seconds:.0f} s; in FP16 {half.stat().st_size / 1e9:.2f} GB, "
        f"relative error {error:.1e}, in {half_seconds:.0f} s"
    )


def report(name, check):
    try:
        verdict, said = "ok", check()
    except Exception as failure:  # the others are worth knowing
        verdict, said = "FAILED", f"{type(failure).__name__}: {failure}"
    print(f"{verdict:6} {name:24} {said}", flush=True)
    return verdict == "ok"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--thalweg", type=Path, default=thalweg.DEFAULT_BINARY)
    parser.add_argument("--large", type=float, default=2.3, help="gigabytes of the generated network; 0 for none")
    parser.add_argument("--folder", type=Path, help="where there is room; it is emptied by nobody")
    arguments = parser.parse_args()
    rows = models.read_table()
    models.require(rows)
    thalweg.require(arguments.thalweg)
    with tempfile.TemporaryDirectory(prefix="thalweg-round-trip-", dir=arguments.folder) as place:
        folder = Path(place)
        verdicts = [report(row["name"], lambda row=row: same_bytes(row, arguments, folder)) for row in rows]
        external = next(row for row in rows if row["name"] == "page-orientation")
        verdicts.append(report("external data", lambda: with_external_data(external, arguments, folder)))
        if arguments.large:
            verdicts.append(report("more than 2 GB", lambda: large(arguments, folder)))
    print(f"{sum(verdicts)} of {len(verdicts)} passed")
    sys.exit(0 if all(verdicts) else 1)


if __name__ == "__main__":
    main()
