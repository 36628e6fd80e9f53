#!/usr/bin/env python3
"""Measures ResNet-50 FP16 on a GPU over batch sizes, streams and CUDA graphs, all cells in turn, several rounds.

Usage: resnet50.py [--thalweg PATH] [--engine FILE] [--rounds N] [--seconds S] [--json FILE]
Needs: TensorRT on the loader's path. Builds the engine (batch 1 to 128) where the file is not there yet.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

BATCHES, STREAMS, GRAPHS = (1, 8, 32, 128), (1, 2, 4, 8), ("off", "compute", "copies")


def run(words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no message")
    return done.stdout


def build(thalweg, engine):
    model = engine.with_suffix(".onnx")
    run([thalweg, "model", "resnet50", "-o", model])
    print(run([thalweg, "build", model, "-o", engine, "--batch", 128, "--precision", "fp16", "--no-cache"]))


def measure(arguments, batch, streams, graph):
    command = [arguments.thalweg, "bench", "--backend=tensorrt", f"--engine={arguments.engine}", "--json"]
    shape = [f"--batch={batch}", f"--streams={streams}", f"--cuda-graph={graph}"]
    return json.loads(run([*command, *shape, "--warm-up=0.3", f"--duration={arguments.seconds}"]))


def summary(measurements):
    values = [one["throughput_inferences_per_s"]["value"] for one in measurements]
    last = measurements[-1]
    counters = last.get("counters") or {}
    return {
        "throughput_inferences_per_s": statistics.median(values),
        "spread": max(values) / min(values) - 1,
        "stages": last["stages"],
        "host_cpu_cores": last["host_cpu_cores"],
        "counters": counters,
        "verified_slots": last["verification"]["verified_slots"],
    }


def print_table(cells):
    heads = [f"{graph} {streams}" for graph in GRAPHS for streams in STREAMS]
    print("inferences/s by graph and streams\nbatch " + " ".join(f"{head:>9}" for head in heads))
    for batch in BATCHES:
        row = [cells.get(f"{batch},{streams},{graph}") for graph in GRAPHS for streams in STREAMS]
        texts = ["-" if cell is None else f"{cell['throughput_inferences_per_s']:.0f}" for cell in row]
        print(f"{batch:5} " + " ".join(f"{text:>9}" for text in texts))
    spreads = [cell["spread"] for cell in cells.values()]
    print(f"largest spread between rounds: {100 * max(spreads):.1f} %")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--thalweg", type=Path, default=Path("target/release/thalweg"))
    parser.add_argument("--engine", type=Path, default=Path("resnet50-fp16.plan"))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not arguments.engine.is_file():
        build(arguments.thalweg, arguments.engine)
    measured = {}
    for _ in range(arguments.rounds):
        for batch in BATCHES:
            for streams in STREAMS:
                for graph in GRAPHS:
                    try:
                        one = measure(arguments, batch, streams, graph)
                    except RuntimeError as failure:
                        print(f"batch {batch}, {streams} streams, graph {graph}: {failure}", file=sys.stderr)
                        continue
                    measured.setdefault(f"{batch},{streams},{graph}", []).append(one)
    cells = {key: summary(several) for key, several in measured.items()}
    print_table(cells)
    if arguments.json:
        arguments.json.write_text(json.dumps(cells))


if __name__ == "__main__":
    main()
