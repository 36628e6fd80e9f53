#!/usr/bin/env python3
"""Fills fuzz/corpus/onnx with ONNX's own operator tests and the graphs of real models without large weights.

Usage: seed-corpus.py
Needs: pip install onnx; the models of scripts/fetch-models.py

The operator tests are small and use every operator once; the real models are what a graph looks like in life.
What is interesting in a model file is its graph. Weights would only make it too large to mutate, so each large
tensor is declared as kept in a file that does not exist.
"""

import sys
import warnings
from pathlib import Path

import onnx
from onnx.backend.test.case.node import collect_testcases

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "fuzz" / "corpus" / "onnx"
# Small tensors hold shapes, axes and indices, which decide what a graph means.
LARGEST_TENSOR_BYTES = 256
# As -max_len of the run: longer files would be cut off, and a cut file is no model.
LARGEST_SEED_BYTES = 200_000


def graphs(graph):
    """A graph and all graphs inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                if inner.node:
                    yield from graphs(inner)


def strip(tensor):
    """Moves a large tensor's data to a file that does not exist."""
    if tensor.ByteSize() <= LARGEST_TENSOR_BYTES:
        return
    for data in ["raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"]:
        tensor.ClearField(data)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    del tensor.external_data[:]
    tensor.external_data.add(key="location", value="w")


def skeleton(path):
    """The bytes of a model without its large tensors."""
    model = onnx.load(path)
    for graph in graphs(model.graph):
        tensors = list(graph.initializer)
        tensors += [a.t for node in graph.node for a in node.attribute if a.type == onnx.AttributeProto.TENSOR]
        for tensor in tensors:
            strip(tensor)
    for node in model.graph.node:
        node.ClearField("doc_string")
    return model.SerializeToString()


def operator_tests():
    """Name and bytes of each model that ONNX tests one operator with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tests compute limits: log of 0 and the like
        cases = collect_testcases(None)
    return {case.name: case.model.SerializeToString() for case in cases}


def main():
    paths = sorted((ROOT / ".models").glob("*.onnx"))
    if not paths:
        sys.exit("there are no models in .models: run scripts/fetch-models.py first")
    CORPUS.mkdir(parents=True, exist_ok=True)
    seeds = operator_tests() | {path.stem: skeleton(path) for path in paths}
    fitting = {name: seed for name, seed in seeds.items() if len(seed) <= LARGEST_SEED_BYTES}
    for name, seed in fitting.items():
        (CORPUS / name).write_bytes(seed)
    print(f"{len(fitting)} seeds in {CORPUS}; {len(seeds) - len(fitting)} are too large")


if __name__ == "__main__":
    main()
