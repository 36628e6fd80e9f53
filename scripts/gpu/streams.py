#!/usr/bin/env python3
"""Measures an engine on a GPU over batch sizes, streams and CUDA graphs, Thalweg and trtexec in turn on one plan.

Usage: streams.py [--thalweg PATH] [--trtexec PATH] [--engine FILE] [--rounds N] [--seconds S] [--warm-up S]
                  [--cell BATCH,STREAMS,GRAPH...] [--variant NAME=OPTIONS...] [--json FILE]

Thalweg copies each request's samples into its slot and compares outputs; trtexec sends one set of buffers again and
again. A variant is Thalweg with options of `bench`, such as `--variant 'spin=--depth=3 --wait=spin'`, `--variant
resident=--feed=resident` or, to compare builds, `--variant aux4=--engine=FILE`, and each is measured in every cell. A cell's ratio is paired by round: geometric
mean and the lower end of its 95 % interval (Student's t). trtexec knows one kind of graph, which both of Thalweg's
stand beside; without `--trtexec` variants stand beside the first of them. `--json` adds this run's rounds to the file's,
so that several calls of a few minutes make one table. SM clock and what held it back are NVML's at the end of each run,
the lowest and all of them. It fails where a run did, such as by a wrong output.

Needs: TensorRT on the loader's path. Builds ResNet-50 in FP16 (batch 1 to 128) where the file is not there yet; trtexec is
asked for its inputs.
"""

import argparse
import itertools
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


def thalweg(arguments, options, batch, streams, graph):
    has_own = any(option.startswith("--engine=") for option in options)
    engine = [] if has_own else [f"--engine={arguments.engine}"]
    command = [arguments.thalweg, "bench", "--backend=tensorrt", *engine, "--json", *options]
    shape = [f"--batch={batch}", f"--streams={streams}", f"--cuda-graph={graph}"]
    one = json.loads(run([*command, *shape, f"--warm-up={arguments.warm_up}", f"--duration={arguments.seconds}"]))
    kept = ("stages", "host_cpu_cores", "feed", "counters", "remarks")
    return {
        "value": one["throughput_inferences_per_s"]["value"],
        "verified_slots": one["verification"]["verified_slots"],
        **{key: one.get(key) for key in kept},
    }


def trtexec(arguments, batch, streams, graph):
    command = [arguments.trtexec, f"--loadEngine={arguments.engine}", f"--shapes=images:{batch}x3x224x224"]
    how = [f"--infStreams={streams}", f"--warmUp={arguments.warm_up * 1e3:.0f}", f"--duration={arguments.seconds}", "--iterations=1"]
    output = run([*command, *how, *(["--useCudaGraph"] if graph == "graph" else [])])
    queries = re.search(r"Throughput: ([0-9.]+) qps", output)
    median = lambda what: re.search(rf"\] {what}: .*median = ([0-9.]+) ms", output)  # noqa: E731
    times = {"enqueue_ms": median("Enqueue Time"), "compute_ms": median("GPU Compute Time")}
    return {"value": float(queries[1]) * batch, **{key: float(it[1]) if it else None for key, it in times.items()}}


def runs_of(arguments):
    """Key and command of everything that is measured, trtexec once for both kinds of graph."""
    runs = {}
    for batch, streams, graph in arguments.cell:
        for name, options in arguments.variant:
            runs[f"{name},{batch},{streams},{graph}"] = lambda *cell, options=options: thalweg(arguments, options, *cell)
        if arguments.trtexec:
            kind = "off" if graph == "off" else "graph"
            runs[f"trtexec,{batch},{streams},{kind}"] = lambda *cell: trtexec(arguments, *cell)
    return list(runs.items())


def measure_round(runs, number, cells):
    """Gives the number of runs that failed."""
    failed = 0
    # Every other round the other way round, so that what comes first is no advantage.
    for key, measure in runs if number % 2 == 0 else reversed(runs):
        _, batch, streams, graph = key.split(",")
        rounds = cells.setdefault(key, [])
        # Places of rounds without a figure are kept, so that rounds stay pairs.
        rounds += [None] * (number - len(rounds))
        try:
            rounds.append(measure(int(batch), int(streams), graph))
        except RuntimeError as failure:
            rounds.append(None)
            failed += 1
            print(f"{key}: {failure}", file=sys.stderr, flush=True)
    return failed


def ratio(ours, theirs):
    """Geometric mean of the rounds' ratios and the lower end of its 95 % interval."""
    logs = [math.log(a["value"] / b["value"]) for a, b in zip(ours, theirs) if a and b]
    if not logs:
        return math.nan, math.nan
    mean = statistics.fmean(logs)
    if len(logs) < 2:
        return math.exp(mean), math.nan
    half_width = T95[min(len(logs) - 1, 11)] * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half_width)


def state(runs):
    """The lowest SM clock in MHz and all reasons for it."""
    counters = [one["counters"] or {} for one in runs if one]
    clocks = [it["sm_clock_mhz"] for it in counters if it.get("sm_clock_mhz")]
    reasons = sorted({reason for it in counters for reason in it.get("throttle_reasons", [])})
    return f"{min(clocks, default=math.nan):5.0f} {','.join(reasons)}".rstrip()


def device():
    words = ["nvidia-smi", "--query-gpu=name,driver_version,clocks.max.sm,power.limit", "--format=csv,noheader"]
    return run(words).splitlines()[0]


def print_table(cells):
    # What is compared with: trtexec, or where that was not run the first variant.
    names = [key.split(",")[0] for key in cells]
    other = "trtexec" if "trtexec" in names else names[0]
    median = lambda runs: statistics.median([one["value"] for one in runs if one] or [math.nan])  # noqa: E731
    heads = f"{'thalweg':>9} {other:>9} {'ratio':>6} {'lower':>6} {'feed':>5}   MHz"
    print(f"{'variant':10} {'batch':>5} {'streams':>7} {'graph':>8} {heads}")
    best = {}
    for key, ours in cells.items():
        name, batch, streams, graph = key.split(",")
        if name == other or not any(ours):
            continue
        kind = graph if graph == "off" or other != "trtexec" else "graph"
        theirs = cells.get(f"{other},{batch},{streams},{kind}", [])
        middle, lower = ratio(ours, theirs) if theirs else (math.nan, math.nan)
        best.setdefault((name, batch), []).append((ours, theirs))
        feed = statistics.median(one["feed"]["busy_share"] for one in ours if one)
        columns = f"{median(ours):9.0f} {median(theirs):9.0f} {middle:6.3f} {lower:6.3f} {feed:5.2f} {state(ours)}"
        print(f"{name:10} {batch:>5} {streams:>7} {graph:>8} {columns}")
    for (name, batch), pairs in best.items():
        ours, theirs = (max((pair[who] for pair in pairs), key=median) for who in (0, 1))
        middle, lower = ratio(ours, theirs)
        text = f"{median(ours):.0f} against {median(theirs):.0f}, ratio {middle:.3f}, lower {lower:.3f}"
        print(f"best of {name} at batch {batch}: {text}")


def cell(text):
    batch, streams, graph = text.split(",")
    return int(batch), int(streams), graph


def variant(text):
    name, options = text.split("=", 1)
    return name, options.split()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--thalweg", type=Path, default=Path("target/release/thalweg"))
    parser.add_argument("--trtexec", type=Path)
    parser.add_argument("--engine", type=Path, default=Path("resnet50-fp16.plan"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=1, help="trtexec takes whole seconds")
    parser.add_argument("--warm-up", type=float, default=1.0, help="seconds of both, before what counts")
    parser.add_argument("--cell", type=cell, nargs="*", default=list(itertools.product(BATCHES, STREAMS, GRAPHS)))
    parser.add_argument("--variant", type=variant, action="append")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    arguments.variant = arguments.variant or [("thalweg", [])]
    if not arguments.engine.is_file():
        build(arguments.thalweg, arguments.engine)
    is_continued = arguments.json and arguments.json.is_file()
    cells = json.loads(arguments.json.read_text()) if is_continued else {}
    cells = cells.get("cells", cells)
    header = {"device": device(), "command": " ".join(sys.argv)}
    print(header["device"], flush=True)
    first = max(map(len, cells.values()), default=0)
    failed = 0
    for number in range(first, first + arguments.rounds):
        failed += measure_round(runs_of(arguments), number, cells)
        if arguments.json:
            arguments.json.write_text(json.dumps(header | {"cells": cells}))
    print_table(cells)
    if failed:
        sys.exit(f"{failed} runs failed: what they said is above")


if __name__ == "__main__":
    main()
