#!/usr/bin/env python3
"""Shows on a GPU how close Thalweg comes to what the machine can do: the tuner, its predictions, the pool.

Usage: limit.py --engine NAME=FILE... [--thalweg PATH] [--backend NAME] [--slice S] [--cell NAME:BATCH...] [--work DIR]
                [--json FILE] [PART...]

PART is one of these, all without it:
  tune         searches, then measures all 60 configurations for half a second each, then both winners in turns: the
               winner of the search reaches 97 % with 15 % of the time; what one stream and a probe predict of sixteen
  end-to-end   ResNet-50 at batch 128: FP32 input within 5 % of the smaller of its computation alone and the copies
               alone, UINT8 input within 3 % of its computation alone
  launch       the `launch` network: the pool reaches 90 % of the same graphs in a bare loop, with 1.2 times the CPU time
               of an execution; context switches and allocations of an execution
  neighbours   two engines side by side, a pool each

NAME is resnet50, mobilenet_v2, bert_base, launch or resnet50-u8 (only what the parts need). `--cell` picks cells of
`tune`. `--json` adds to the file what was measured, so that several calls make one table; `--work` keeps the tuned
configurations, which `end-to-end` and `neighbours` take. It fails where a promise is not kept.

Takes about 65 s for each of the eight cells of `tune`, BERT-base 155, 70 s for `end-to-end`, 140 s for `launch`, 15 s for `neighbours`.
Needs: TensorRT on the loader's path, gcc, PyTorch. The engines are built before, FP16, for batches up to 128 (ResNet-50),
16 (BERT, MobileNetV2) and 1, from `thalweg model NAME`; that of bytes from `thalweg inputs resnet50.onnx --to u8 -o resnet50-u8.onnx`.
"""

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
from itertools import permutations
from pathlib import Path

from checking import ROOT, Commands, last_line

CELLS = [
    ("resnet50", 1),
    ("resnet50", 8),
    ("resnet50", 32),
    ("resnet50", 128),
    ("mobilenet_v2", 1),
    ("mobilenet_v2", 16),
    ("bert_base", 1),
    ("bert_base", 16),
]
# 5 x 2 x 3 x 2 points.
SPACE = {"streams": "1,2,4,8,16", "depth": "2,3", "cuda-graph": "off,compute,copies", "wait": "block,spin"}
# What the search may take of the sweep's time, and what it is told: its last slice may end late.
ALLOWED, TOLD = 0.15, 0.13
# What setting up a pool adds to each point of a sweep: contexts of BERT-base take 0.13 s each.
POOL_S = {"bert_base": 1.4}
OTHER_POOL_S = 0.1
# Rounds of everything that is measured by a process of its own.
ROUNDS = 3
# The `launch` network as a program runs it whose business is not to measure.
LAUNCH = ["--cuda-graph=copies", "--feed=resident", "--stage-times=some"]
# Copies batches from and to page-locked memory at once; prints batches per second.
COPIES = """
import sys, time, torch
inputs, outputs, seconds = int(sys.argv[1]), int(sys.argv[2]), 0.4
pairs = []
for size in (inputs, outputs):
    host = torch.empty(size, dtype=torch.uint8, pin_memory=True)
    pairs.append((host, torch.empty(size, dtype=torch.uint8, device="cuda"), torch.cuda.Stream()))
def round_trip():
    for index, (host, device, stream) in enumerate(pairs):
        with torch.cuda.stream(stream):
            device.copy_(host, non_blocking=True) if index == 0 else host.copy_(device, non_blocking=True)
def run(seconds):
    count, start = 0, time.monotonic()
    while time.monotonic() - start < seconds:
        for _ in range(4):
            round_trip()
        torch.cuda.synchronize()
        count += 4
    return count / (time.monotonic() - start)
run(0.2)
print(*(run(seconds) for _ in range(3)))
"""


class Failed(Exception):
    """A part that could not be measured."""


class Table:
    """Rows of what was measured, each with its promise; printed at the end."""

    def __init__(self):
        self.rows = []

    def add(self, what, value, spread, promise="", is_kept=None, remark=""):
        """`is_kept` is None for what is only told."""
        verdict = {None: "", True: "ok", False: "MISSED"}[is_kept]
        row = {"what": what, "value": value, "spread": spread, "promise": promise, "verdict": verdict, "remark": remark}
        self.rows.append(row)
        print(f"... {what}: {value} {spread} {verdict} {remark}", flush=True)

    def show(self):
        heads = {key: key for key in ("what", "value", "spread", "promise", "verdict", "remark")}
        widths = {key: max(len(row[key]) for row in [heads, *self.rows]) for key in heads}
        for row in [heads, *self.rows]:
            print("  ".join(row[key].ljust(widths[key]) for key in heads).rstrip())
        judged = [row for row in self.rows if row["verdict"]]
        kept = sum(row["verdict"] == "ok" for row in judged)
        print(f"{kept} of {len(judged)} promises kept")
        return bool(judged) and kept == len(judged)


class Limit:
    """Each public method is a part."""

    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, folder
        self.thalweg = arguments.thalweg.resolve()
        self.commands = Commands(300, folder / "logs")
        self.engines = dict(arguments.engine)
        self.table, self.kept = Table(), {}

    def network(self, name):
        """How a command line names it: an engine, or for other backends than TensorRT a model."""
        if name not in self.engines:
            raise Failed(f"no --engine {name}=FILE")
        path = self.engines[name].resolve()
        named = [path] if path.suffix == ".onnx" else [f"--engine={path}"]
        return [*named, f"--backend={self.arguments.backend}"]

    def json(self, words, log):
        """Runs Thalweg and gives the JSON that it printed."""
        words = [str(word) for word in [self.thalweg, *words, "--json", "--quiet"]]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=ROOT)
        self.commands.keep(log, done.stderr)
        if done.returncode != 0:
            raise Failed(f"{log}: ended with {done.returncode}, {last_line(done.stderr)}")
        return json.loads(done.stdout)

    def keep(self, part, key, value):
        self.kept.setdefault(part, {})[key] = value

    def tuned(self, name, batch):
        path = self.folder / f"{name}-{batch}" / "tuned.json"
        if not path.is_file():
            raise Failed(f"{name} at batch {batch} was not tuned: run the part tune with the same --work first")
        return path

    # Parts

    def tune(self):
        for name, batch in self.arguments.cell:
            try:
                self.tune_cell(name, batch)
            except (Failed, subprocess.TimeoutExpired) as failure:
                self.table.add(f"{name} {batch}", "-", "", "0.97", False, str(failure)[-160:])
        self.score_forecasts()

    def tune_cell(self, name, batch):
        slice_s, folder = self.arguments.slice, self.folder / f"{name}-{batch}"
        # In virtual time it makes no difference how to wait.
        space = {knob: it for knob, it in SPACE.items() if knob != "wait" or self.arguments.backend == "tensorrt"}
        point_s = slice_s + (POOL_S.get(name, OTHER_POOL_S) if self.arguments.backend == "tensorrt" else 0)
        seconds = TOLD * point_s * math.prod(len(values.split(",")) for values in space.values())
        knobs = [f"--{knob}={values}" for knob, values in space.items()]
        command = ["tune", *self.network(name), f"--batch={batch}", *knobs, f"--time={seconds:.2f}"]
        outcome = self.json([*command, f"--sweep={slice_s}", f"--out={folder}"], f"tune-{name}-{batch}")
        sweep, ratio = outcome["sweep"], outcome["sweep"]["ratio"]
        kept = ("model", "device", "search_time_ns", "ending", "verdict")
        self.keep("tune", f"{name},{batch}", {key: outcome[key] for key in kept} | {"sweep": sweep})
        share, points = outcome["search_time_ns"] / sweep["time_ns"], sweep["points"]
        failed = [point for point in points if point["failure"]]
        choice, best = shape(sweep["choice"]), shape(points[sweep["best"]]["configuration"])
        rates = [point["throughput_inferences_per_s"]["value"] for turn in sweep["turns"] for point in turn[:1]]
        remark = f"{choice} / {best}; {statistics.median(rates):.0f}/s; {state(turn[0] for turn in sweep['turns'])}"
        if failed:
            remark += f"; {len(failed)} of {len(points)} failed: {failed[0]['failure'][:60]}"
        what, promise = f"{name} batch {batch}", "0.97"
        self.table.add(f"{what}: choice / best of {len(points)}", *interval(ratio), promise, ratio["value"] >= 0.97, remark)
        told = f"{outcome['search_time_ns'] / 1e9:.1f} of {sweep['time_ns'] / 1e9:.1f} s"
        self.table.add(f"{what}: time of the search", f"{share:.3f}", "", f"{ALLOWED}", share <= ALLOWED, told)

    def score_forecasts(self):
        forecasts = [it for cell in self.kept.get("tune", {}).values() for it in cell["sweep"]["forecasts"]]
        if not forecasts:
            return
        streams = [within_two(it["predicted"]["streams"], it["measured"]["streams"]) for it in forecasts]
        self.table.add("one stream and a probe: how many to take", *part(streams), "all", all(streams))
        gains = [(it["predicted"]["gain"], it["measured"]["gain"], it["shown"]) for it in forecasts]
        told = [is_hit(a, b) for a, b in self.measured_twice()]
        again = f"; what other depths measured: {sum(told)} of {len(told)}"
        large = [it for it in gains if it[1] >= 1.2]
        for name, chosen, again in (("gains", gains, again), ("gains of 1.2 or more", large, "")):
            hits = [is_hit(predicted, measured) for predicted, measured, _ in chosen]
            ones = sum(is_hit(1.0, measured) for _, measured, _ in chosen)
            remark = f"always 1.0: {ones}; no more than the probe shows: {sum(is_hit(shown, it) for _, it, shown in chosen)}{again}"
            # A cell where more streams gain nothing is no test of a prediction: those that gain are told apart.
            self.table.add(f"one stream and a probe: {name}", *part(hits), "all", all(hits), remark)

    def measured_twice(self):
        """Gains of shapes that differ in their depth alone, which hardly changes them: how well a sweep repeats itself."""
        for cell in self.kept.get("tune", {}).values():
            shapes = {}
            for it in cell["sweep"]["forecasts"]:
                knobs = it["configuration"]
                shapes.setdefault((knobs["cuda_graph"], knobs["wait"]), []).append(it["measured"]["gain"])
            yield from (pair for gains in shapes.values() for pair in permutations(gains, 2))

    def end_to_end(self):
        tuned = json.loads(self.tuned("resnet50", 128).read_text())["configuration"]
        end = options(tuned)
        # A graph of copies has them inside, so its computation alone is that of a graph of compute.
        inside = tuned["cuda_graph"] == "copies"
        alone = [*options(tuned | ({"cuda_graph": "compute"} if inside else {})), "--transfers=off"]
        names = ["resnet50"] + (["resnet50-u8"] if "resnet50-u8" in self.engines else [])
        cells = {(name, kind): [] for name in names for kind in ("end to end", "alone")}
        for _ in range(ROUNDS):
            for (name, kind), rates in cells.items():
                how = end if kind == "end to end" else alone
                command = ["bench", *self.network(name), *how, "--duration=2", "--warm-up=0.4"]
                rates.append(self.json(command, f"end-to-end-{name}-{kind}"))
        for (name, kind), measured in cells.items():
            kept = [{key: one[key] for key in KEPT} for one in measured]
            self.keep("end-to-end", f"{name},{kind}", kept)
        copies = self.copies(cells["resnet50", "end to end"][0])
        for name in names:
            self.judge_end_to_end(name, cells, copies if name == "resnet50" else None)

    def copies(self, measured):
        """Images a second that the bus takes in FP32, beside their results."""
        batch = measured["configuration"]["batch_size"]
        sizes = [str(batch * 3 * 224 * 224 * 4), str(batch * 1000 * 4)]
        words = [sys.executable, "-c", COPIES, *sizes]
        rates = [float(word) * batch for word in last_line(self.commands.run(words)).split()]
        self.keep("end-to-end", "copies", rates)
        self.table.add("copies alone, FP32, batch 128", f"{statistics.median(rates):.0f}", spread(rates))
        return statistics.median(rates)

    def judge_end_to_end(self, name, cells, copies):
        ends, alone = (rates_of(cells[name, kind]) for kind in ("end to end", "alone"))
        ceiling = min(statistics.median(alone), copies or math.inf)
        what = "FP32" if copies else "UINT8"
        told = state(cells[name, "alone"])
        self.table.add(f"{name}: computation alone", f"{statistics.median(alone):.0f}", spread(alone), remark=told)
        # Round by round, so that what slows the machine for a while cancels.
        ratios = [end / min(own, copies or math.inf) for end, own in zip(ends, alone)]
        least = 0.95 if copies else 0.97
        is_kept = statistics.median(ratios) >= least
        feed = cells[name, "end to end"][0]["feed"]
        filled = f"slots filled at {feed['fill_bytes_per_s'] / 1e9:.0f} GB/s in {feed['busy_share']:.0%} of the time"
        remark = f"{statistics.median(ends):.0f}/s of {ceiling:.0f}/s; {filled}; {state(cells[name, 'end to end'])}"
        value = f"{statistics.median(ratios):.3f}"
        self.table.add(f"{name}: end to end, {what} input", value, spread(ratios), f"{least}", is_kept, remark)

    def launch(self):
        # Eight streams are the promise; one is told.
        for wait in ("spin", "block"):
            for streams in (8, 1):
                how = [f"--streams={streams}", f"--wait={wait}", *LAUNCH]
                log = f"launch-{wait}-{streams}"
                # Asleep a turn differs from the next by a factor of two.
                seconds = 24 if wait == "block" else 12
                overhead = self.json(["bench", *self.network("launch"), *how, "--overhead", f"--duration={seconds}"], log)
                self.keep("launch", f"{wait},{streams}", overhead)
                self.judge_launch(f"launch, {streams} streams, {wait}", overhead, streams == 8)
        self.allocations()

    def judge_launch(self, what, overhead, is_promised):
        turns = overhead["turns"]
        mean = lambda who, key: statistics.fmean(turn[who][key] or 0 for turn in turns)  # noqa: E731
        rates = f"{mean('pool', 'executions_per_s'):.0f}/s of {mean('bare', 'executions_per_s'):.0f}/s; {state(turns)}"
        ratio, cpu = overhead["throughput"], overhead["host_cpu"]
        kept = ratio["value"] >= 0.9 if is_promised else None
        self.table.add(f"{what}: pool / bare loop", *interval(ratio), "0.9", kept, rates)
        times = f"{mean('pool', 'host_cpu_ns') / 1e3:.1f} us of {mean('bare', 'host_cpu_ns') / 1e3:.1f} us"
        switches = f"context switches {mean('pool', 'context_switches'):.2f} of {mean('bare', 'context_switches'):.2f}"
        kept = cpu["value"] <= 1.2 if is_promised else None
        self.table.add(f"{what}: CPU time of an execution", *interval(cpu), "1.2", kept, f"{times}; {switches}")

    def allocations(self):
        """Of an execution: the difference of a long run and a short one."""
        library = self.folder / "liballocations.so"
        source = ROOT / "scripts" / "gpu" / "allocations.c"
        self.commands.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, source])
        how = ["--streams=8", *LAUNCH, "--json", "--quiet", "--duration=0.5"]
        command = [str(word) for word in [self.thalweg, "bench", *self.network("launch"), *how]]
        counted = []
        for seconds in (0.5, 1.5, 2.5):
            words = [*command, f"--warm-up={seconds}"]
            env = os.environ | {"LD_PRELOAD": str(library)}
            done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=env, cwd=ROOT)
            found = re.search(r"^allocations (\d+) of (\d+)$", done.stderr, re.MULTILINE)
            if done.returncode != 0 or not found:
                raise Failed(f"allocations: {last_line(done.stderr)}")
            measured = json.loads(done.stdout)
            executions = measured["verification"]["samples"] / measured["configuration"]["batch_size"]
            counted.append((int(found[1]), int(found[2]), executions))
        pairs = list(zip(counted, counted[1:]))
        each, all_of_each = ([(b[who] - a[who]) / (b[2] - a[2]) for a, b in pairs] for who in (0, 1))
        self.keep("launch", "allocations", counted)
        is_kept = max(each) < 0.05  # records of the measurement grow by doubling, and nothing else
        remark = f"with those of CUDA and TensorRT {statistics.fmean(all_of_each):.1f}"
        self.table.add("launch: allocations of an execution", f"{statistics.fmean(each):.3f}", spread(each), "0", is_kept, remark)

    def neighbours(self):
        first, second = self.tuned("resnet50", 8), self.tuned("bert_base", 1)
        how = ["bench", f"--tuned={first}", f"--beside={second}", f"--backend={self.arguments.backend}", "--duration=8"]
        both = self.json(how, "neighbours")
        self.keep("neighbours", "resnet50 beside bert_base", both)
        for name, pool in zip(("resnet50 batch 8", "bert_base batch 1"), both["pools"]):
            alone = statistics.fmean(turn["alone_inferences_per_s"] for turn in pool["turns"])
            beside = statistics.fmean(turn["beside_inferences_per_s"] for turn in pool["turns"])
            reasons = {reason for it in both["counters"] if it for reason in it["throttle_reasons"]}
            remark = f"{beside:.0f}/s of {alone:.0f}/s; {', '.join(sorted(reasons)) or 'not throttled'}"
            self.table.add(f"{name} beside the other / alone", *interval(pool["ratio"]), "no error", True, remark)


# What is kept of a measurement.
KEPT = ("configuration", "throughput_inferences_per_s", "executions_per_s", "stages", "host_cpu_cores", "feed", "counters")


def options(configuration):
    """A configuration as options of `bench`."""
    names = {"streams": "streams", "batch_size": "batch", "depth": "depth", "cuda_graph": "cuda-graph", "wait": "wait"}
    taken = configuration.get("stage_times", "each")
    return [*(f"--{option}={configuration[key]}" for key, option in names.items()), f"--stage-times={taken}"]


def shape(configuration):
    return "{streams}x{depth} {cuda_graph} {wait}".format(**configuration)


def rates_of(measured):
    return [one["throughput_inferences_per_s"]["value"] for one in measured]


def interval(estimate):
    return f"{estimate['value']:.3f}", f"{estimate['lower']:.3f} to {estimate['upper']:.3f}"


def spread(values):
    digits = 0 if min(values) > 100 else 3
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def part(hits):
    return f"{sum(hits)} of {len(hits)}", ""


def within_two(a, b):
    return a <= 2 * b and b <= 2 * a


def is_hit(predicted, measured):
    return abs(predicted - measured) <= max(0.05, 0.15 * measured)


def state(measured):
    """Clocks and throttle reasons of several measurements."""
    counters = [one["counters"] for one in measured if one.get("counters")]
    clocks = [it["sm_clock_mhz"] for it in counters if it["sm_clock_mhz"]]
    reasons = {reason for it in counters for reason in it["throttle_reasons"]}
    clock = f"{min(clocks):.0f} to {max(clocks):.0f} MHz" if clocks else "no clock"
    return f"{clock}, {', '.join(sorted(reasons)) or 'not throttled'}"


def write(path, kept):
    """Adds to what earlier calls have measured."""
    whole = json.loads(path.read_text()) if path.is_file() else {}
    for name, cells in kept.items():
        whole.setdefault(name, {}).update(cells)
    path.write_text(json.dumps(whole))


def named(text):
    name, path = text.split("=", 1)
    return name, Path(path)


def cell(text):
    name, batch = text.split(":")
    return name, int(batch)


PARTS = {"tune": Limit.tune, "end-to-end": Limit.end_to_end, "launch": Limit.launch, "neighbours": Limit.neighbours}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--engine", type=named, action="append", required=True, metavar="NAME=FILE")
    parser.add_argument("--thalweg", type=Path, default=ROOT / "target/release/thalweg")
    parser.add_argument("--backend", default="tensorrt")
    parser.add_argument("--slice", type=float, default=0.5, help="seconds for each point of a sweep")
    parser.add_argument("--cell", type=cell, nargs="*", default=CELLS, metavar="NAME:BATCH")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    unknown = [name for name in arguments.parts if name not in PARTS]
    if unknown:
        parser.error(f"{unknown[0]} is none of {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory(prefix="thalweg-limit-") as temporary:
        folder = (arguments.work or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        limit = Limit(arguments, folder)
        for name in arguments.parts or PARTS:
            try:
                PARTS[name](limit)
            except (Failed, RuntimeError, subprocess.TimeoutExpired) as failure:
                limit.table.add(name, "-", "", "", False, str(failure)[-200:])
            if arguments.json:
                # Forecasts are counted over the cells of one call, and can be counted again from what is kept.
                told = [row for row in limit.table.rows if not row["what"].startswith("one stream and a probe")]
                rows = {"table": {row["what"]: row for row in told}}
                write(arguments.json, limit.kept | rows)
    sys.exit(0 if limit.table.show() else 1)


if __name__ == "__main__":
    main()
