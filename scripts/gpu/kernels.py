#!/usr/bin/env python3
"""Checks on a GPU what `thalweg diagnose` says of single kernels, one line for each check.

Usage: kernels.py --engine FILE [--thalweg PATH] [--streams N] [--logs DIR]

Diagnoses the engine (`thalweg build` writes one) without and with a CUDA graph: each number of the kernel window has to be
there, kernels have to lie inside of the stages that the pool saw, and the trace has to have an arrow to each of them. What
recording costs is printed; nothing is demanded of it. Then once more with `--no-kernels`, which must record none.

Needs: TensorRT on the loader's path, CUPTI of the driver's CUDA version. Takes about a minute.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

QUANTITIES = [
    "kernels_per_execution", "kernels_running", "largest_kernels", "grid_fill", "kernel_gaps", "launch_gaps",
    "launch_time", "launcher_busy", "launcher_waits", "pageable_copies",
]
# Stages are told by events and kernels by CUPTI: the clocks agree to some ten microseconds.
CLOCKS_US = 50
# Kernels that may lie outside of the stages all the same: where the clocks of a few executions are read badly.
MOST_OUTSIDE = 0.02
LIMIT_S = 180


class Checks:
    def __init__(self):
        self.failed = False

    def check(self, name, holds, found):
        self.failed |= not holds
        print(f"{'ok  ' if holds else 'FAIL'} {name}: {found}", flush=True)


def diagnose(arguments, folder, *options):
    command = [arguments.thalweg, "diagnose", "--engine", arguments.engine, "--streams", arguments.streams, "--try", 0]
    command = [str(word) for word in [*command, "--json", "--out", folder, *options]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    if arguments.logs:
        arguments.logs.mkdir(parents=True, exist_ok=True)
        (arguments.logs / f"{Path(folder).name}.txt").write_text(f"$ {' '.join(command)}\n{done.stdout}\n{done.stderr}")
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-400:]}")
    return json.loads(done.stdout)


def share_outside(trace):
    """The share of kernels that no computation of the pool covers. Executions that ended behind the window left none, so
    the last kernels do not count."""
    names = {(it["pid"], it["tid"]): it["args"]["name"] for it in trace if it["name"] == "thread_name"}
    runs = [it for it in trace if it["ph"] == "X"]
    stages = sorted((it["ts"], it["ts"] + it["dur"]) for it in runs if names[it["pid"], it["tid"]].endswith(" compute"))
    kernels = [it for it in runs if it["pid"] == 4 and "blocks" in it.get("args", {})]
    last = max(end for _, end in stages) - 3 * max(end - start for start, end in stages)
    kernels = [it for it in kernels if it["ts"] < last]
    covered = [
        any(start - CLOCKS_US <= it["ts"] and it["ts"] + it["dur"] <= end + CLOCKS_US for start, end in stages)
        for it in kernels[:: max(len(kernels) // 2000, 1)]
    ]
    return 1 - sum(covered) / max(len(covered), 1)


def check_diagnosis(checks, name, diagnosis, folder):
    readings = {it["quantity"]: it for it in diagnosis["evidence"]["readings"]}
    missing = {it: readings.get(it, {}).get("source") for it in QUANTITIES if readings.get(it, {}).get("value") is None}
    numbers = ", ".join(f"{it} {readings[it]['value']:.4g}" for it in QUANTITIES if it not in missing)
    checks.check(f"{name}: every number", not missing, missing or numbers)
    kernels = diagnosis["kernels"]
    if not kernels:
        return
    graphs = kernels["graph_pace"]
    costs = f"recording each kernel leaves {kernels['pace']:.3f}"
    checks.check(f"{name}: cost", kernels["pace"] > 0, costs + (f", graphs as a whole {graphs:.3f}" if graphs else ""))
    largest = kernels["largest"][0]
    checks.check(
        f"{name}: largest kernel",
        largest["blocks"] > 0 and largest["threads"] > 0 and largest["registers"] > 0,
        f"{largest['name'][:60]} {largest['share']:.3f} of the time, {largest['blocks']} blocks of {largest['threads']}",
    )
    trace = json.loads((folder / "trace.json").read_text())["traceEvents"]
    outside = share_outside(trace)
    checks.check(f"{name}: kernels inside of stages", outside <= MOST_OUTSIDE, f"{outside:.4f} outside")
    ends = sum(it["ph"] == "f" for it in trace)
    work = sum(it["ph"] == "X" and it["pid"] == 4 for it in trace)
    checks.check(f"{name}: arrows", ends >= 0.98 * work > 0, f"{ends} arrows for {work} kernels and copies")
    page = (folder / "report.html").read_text()
    checks.check(f"{name}: page", "activity-data" in page, f"{len(page)} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--thalweg", type=Path, default=Path("target/release/thalweg"))
    parser.add_argument("--streams", type=int, default=2)
    parser.add_argument("--logs", type=Path)
    arguments = parser.parse_args()
    checks = Checks()
    with tempfile.TemporaryDirectory() as folder:
        for name, options in {"plain": [], "graph": ["--cuda-graph", "compute"]}.items():
            out = Path(folder) / name
            diagnosis = diagnose(arguments, out, *options)
            check_diagnosis(checks, name, diagnosis, out)
            if name == "graph":
                readings = {it["quantity"]: it for it in diagnosis["evidence"]["readings"]}
                run = readings.get("graph_run_time", {})
                checks.check("graph: a run as a whole", run.get("value"), run)
        without = diagnose(arguments, Path(folder) / "without", "--no-kernels")
        recorded = [it["quantity"] for it in without["evidence"]["readings"] if it["quantity"] in QUANTITIES]
        checks.check("--no-kernels", without["kernels"] is None and not recorded, recorded or "nothing recorded")
    sys.exit(checks.failed)


if __name__ == "__main__":
    main()
