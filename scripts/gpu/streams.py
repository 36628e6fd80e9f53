#!/usr/bin/env python3
"""Measures ResNet-50 FP16 on a GPU over batch sizes, streams and CUDA graphs, Thalweg and trtexec in turn on one plan.

Usage: streams.py [--thalweg PATH] [--trtexec PATH] [--engine FILE] [--rounds N] [--seconds S] [--feed auto|resident|N]
                  [--batches N,...] [--json FILE]

Thalweg copies each request's samples into its slot and compares outputs; trtexec sends one set of buffers again and
again. `--feed resident` makes Thalweg fill each slot once. A cell's ratio is paired by round: geometric mean and the
lower end of its 95 % interval (Student's t). trtexec knows one kind of graph, which both of Thalweg's stand beside.
`--json` adds this run's rounds to the file's, so that several calls of a few minutes make one table.

Needs: TensorRT on the loader's path. Builds the engine (batch 1 to 128) where the file is not there yet.
"""

import argparse
import json
import math
import re
import statistics
import subprocess
import sys
from pathlib import Path

BATCHES, STREAMS, GRAPHS = (1, 8, 32, 128), (1, 2, 4, 8), ("off", "compute", "copies")
# Student's t, two-sided 95 %, by degrees of freedom.
T95 = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228, 11: 2.201}


def run(words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise RuntimeError(lines[-1] if lines else "no message")
    return done.stdout


def build(thalweg, engine):
    model = engine.with_suffix(".onnx")
    run([thalweg, "model", "resnet50", "-o", model])
    print(run([thalweg, "build", model, "-o", engine, "--batch", 128, "--precision", "fp16", "--no-cache"]), flush=True)


def thalweg(arguments, batch, streams, graph):
    command = [arguments.thalweg, "bench", "--backend=tensorrt", f"--engine={arguments.engine}", "--json"]
    shape = [f"--batch={batch}", f"--streams={streams}", f"--cuda-graph={graph}"]
    feed = [] if arguments.feed == "auto" else [f"--feed={arguments.feed}"]
    one = json.loads(run([*command, *shape, *feed, "--warm-up=0.3", f"--duration={arguments.seconds}"]))
    counters = one.get("counters") or {}
    return {
        "value": one["throughput_inferences_per_s"]["value"],
        "stages": one["stages"],
        "host_cpu_cores": one["host_cpu_cores"],
        "feed": one["feed"],
        "counters": counters,
        "verified_slots": one["verification"]["verified_slots"],
    }


def trtexec(arguments, batch, streams, graph):
    command = [arguments.trtexec, f"--loadEngine={arguments.engine}", f"--shapes=images:{batch}x3x224x224"]
    how = [f"--infStreams={streams}", "--warmUp=300", f"--duration={arguments.seconds}", "--iterations=1"]
    output = run([*command, *how, *(["--useCudaGraph"] if graph == "graph" else [])])
    queries = re.search(r"Throughput: ([0-9.]+) qps", output)
    enqueue = re.search(r"Enqueue Time: .*median = ([0-9.]+) ms", output)
    return {"value": float(queries[1]) * batch, "enqueue_ms": float(enqueue[1]) if enqueue else None}


def measure_round(arguments, number, cells):
    for batch in arguments.batches:
        for streams in STREAMS:
            runs = [("thalweg", graph) for graph in GRAPHS]
            runs += [("trtexec", graph) for graph in ("off", "graph")] if arguments.trtexec else []
            # Every other round the other way round, so that what comes first is no advantage.
            for program, graph in runs if number % 2 == 0 else reversed(runs):
                key = f"{program},{batch},{streams},{graph}"
                try:
                    cells.setdefault(key, []).append(globals()[program](arguments, batch, streams, graph))
                except RuntimeError as failure:
                    print(f"{key}: {failure}", file=sys.stderr, flush=True)


def ratio(ours, theirs):
    """Geometric mean of the rounds' ratios and the lower end of its 95 % interval."""
    logs = [math.log(a["value"] / b["value"]) for a, b in zip(ours, theirs)]
    mean = statistics.fmean(logs)
    if len(logs) < 2:
        return math.exp(mean), math.nan
    half_width = T95[min(len(logs) - 1, 11)] * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half_width)


def print_table(cells):
    median = lambda runs: statistics.median(one["value"] for one in runs)  # noqa: E731
    print(f"{'batch':>5} {'streams':>7} {'graph':>8} {'thalweg':>9} {'trtexec':>9} {'ratio':>6} {'lower':>6} {'feed':>5}")
    best = {}
    for key, ours in cells.items():
        program, batch, streams, graph = key.split(",")
        if program != "thalweg":
            continue
        theirs = cells.get(f"trtexec,{batch},{streams},{'off' if graph == 'off' else 'graph'}", [])
        middle, lower = ratio(ours, theirs) if theirs else (math.nan, math.nan)
        best.setdefault(batch, []).append((median(ours), median(theirs) if theirs else math.nan))
        feed = statistics.median(one["feed"]["busy_share"] for one in ours)
        columns = f"{median(ours):9.0f} {median(theirs) if theirs else math.nan:9.0f} {middle:6.3f} {lower:6.3f} {feed:5.2f}"
        print(f"{batch:>5} {streams:>7} {graph:>8} {columns}")
    for batch, values in best.items():
        ours, theirs = max(value[0] for value in values), max(value[1] for value in values)
        print(f"best of batch {batch}: {ours:.0f} against {theirs:.0f}, ratio {ours / theirs:.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--thalweg", type=Path, default=Path("target/release/thalweg"))
    parser.add_argument("--trtexec", type=Path)
    parser.add_argument("--engine", type=Path, default=Path("resnet50-fp16.plan"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=1, help="trtexec takes whole seconds")
    parser.add_argument("--feed", default="auto")
    parser.add_argument("--batches", type=lambda text: [int(word) for word in text.split(",")], default=list(BATCHES))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not arguments.engine.is_file():
        build(arguments.thalweg, arguments.engine)
    is_continued = arguments.json and arguments.json.is_file()
    cells = json.loads(arguments.json.read_text()) if is_continued else {}
    for number in range(arguments.rounds):
        measure_round(arguments, number, cells)
        if arguments.json:
            arguments.json.write_text(json.dumps(cells))
    print_table(cells)


if __name__ == "__main__":
    main()
