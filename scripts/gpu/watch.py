#!/usr/bin/env python3
"""Checks `thalweg watch` and `thalweg top` on a GPU: planted faults are found first, and what observing costs.

Usage: watch.py [--thalweg PATH] [--python PATH] [--engine FILE] [--rounds N] [--seconds S] [--only NAME...]
                [--logs DIR] [--json FILE]

Runs the programs of watched.py: each one with a fault once under `thalweg watch`, where its fault has to be the first
finding, with a thread and a call; a good one, and one that replays CUDA graphs more than 10,000 times a second, bare and
watched in turns, where the cost of watching is the ratio of their own items per second; the graphs once more with each of
their kernels recorded. Then `watch --pid` and `top --plain` beside the good program, and, where an engine is given,
`thalweg bench` bare and watched. Fails where a check fails; a cost has a limit for the graphs only (10 %).

Needs: PyTorch, CUPTI of the driver's CUDA version, and libthalweg_inject.so beside the binary. Takes about three minutes
(twenty programs of some eight seconds), with `--rounds 2` one less. DIR gets what every command printed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent

# The first finding that each fault has to give.
FAULTS = {
    "pageable": "pageable_copy",
    "default_stream": "default_stream",
    "synchronisation": "synchronisation",
    "small_launches": "submission",
}
LARGEST_GRAPH_COST, LEAST_REPLAYS_PER_S = 0.10, 10_000
LIMIT_S = 90


class Run:
    """Runs commands, keeps what they print, and notes checks."""

    def __init__(self, arguments):
        self.arguments, self.checks, self.figures = arguments, [], {}
        if arguments.logs:
            arguments.logs.mkdir(parents=True, exist_ok=True)

    def command(self, words, log, code=0):
        words = [str(word) for word in words]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S)
        except subprocess.TimeoutExpired as late:
            self.keep(log, words, late.stdout, late.stderr)
            raise RuntimeError(f"{log}: took more than {LIMIT_S} s") from late
        self.keep(log, words, done.stdout, done.stderr)
        if code is not None and done.returncode != code:
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise RuntimeError(f"{log}: ended with {done.returncode}: {lines[-1]}")
        return done

    def keep(self, log, words, stdout, stderr):
        if self.arguments.logs:
            text = [text.decode() if isinstance(text, bytes) else text or "" for text in (stdout, stderr)]
            name = self.arguments.logs / f"{log}.txt"
            name.write_text(f"$ {' '.join(words)}\n--- stdout\n{text[0]}\n--- stderr\n{text[1]}")

    def check(self, name, holds, found):
        self.checks.append({"name": name, "holds": bool(holds), "found": found})
        print(f"{'ok  ' if holds else 'FAIL'} {name}: {found}", flush=True)

    def attempt(self, name, work):
        """A part that fails to run is a check that fails; the others go on."""
        try:
            return work()
        except (RuntimeError, ValueError, KeyError, IndexError, OSError) as failure:
            self.check(name, False, f"{type(failure).__name__}: {failure}")
            return None

    def subject(self, name):
        return [self.arguments.python, HERE / "watched.py", name, "--seconds", self.arguments.seconds]

    def bare(self, name, log):
        return rate(self.command(self.subject(name), log).stdout)

    def watched(self, name, log, *options):
        """Its own items per second, and what was seen of it."""
        words = [self.arguments.thalweg, "watch", "--json", *options, "--", *self.subject(name)]
        done = self.command(words, log)
        seen = json.loads(done.stdout)
        if not seen["processes"]:
            raise RuntimeError(f"{log}: no process of it started CUDA")
        return rate(done.stderr), seen["processes"][0], seen


def rate(text):
    lines = [line for line in text.splitlines() if line.startswith('{"program"')]
    if not lines:
        raise RuntimeError("the program did not print its rate")
    return json.loads(lines[-1])["items_per_s"]


def shown(observation):
    findings = observation["findings"]
    if not findings:
        return f"{observation['verdict']}, nothing found; {'; '.join(observation['remarks']) or 'no remarks'}"
    first = findings[0]
    return (
        f"{observation['verdict']}: {first['cause']} {first['share']:.1%} ({first['count']} times, thread "
        f"{first['thread']}, {first['call']}), computing {observation['sharing']['computing']:.1%}"
    )


def check_fault(run, name, cause):
    _, observation, _ = run.watched(name, f"{name}-watched")
    run.figures[name] = observation
    first = (observation["findings"] or [{}])[0]
    is_whole = first.get("thread") is not None and first.get("call") and first.get("count", 0) > 0
    holds = observation["verdict"] == cause and first.get("cause") == cause and is_whole
    run.check(f"{name} is found first", holds, shown(observation))


def costs(run, name, rounds, *options):
    """What watching costs in each round, as a share of the bare rate, and the last observation."""
    found, rates, observation = [], [], None
    for number in range(rounds):
        # Every other round the other way round, so that what comes first is no advantage.
        label = f"{name}{'-'.join(['', *options])}-{number}"
        steps = [lambda: run.bare(name, f"{label}-bare"), lambda: run.watched(name, f"{label}-watched", *options)]
        if number % 2 == 0:
            bare, watched = steps[0](), steps[1]()
        else:
            watched, bare = steps[1](), steps[0]()
        observation = watched[1]
        rates.append((bare, watched[0]))
        found.append(1 - watched[0] / bare)
    return found, rates, observation


def spread(found):
    return f"{statistics.median(found):.2%} ({min(found):.2%} to {max(found):.2%}, {len(found)} rounds)"


def check_good(run):
    found, rates, observation = costs(run, "good", run.arguments.rounds)
    run.figures["good"] = {"costs": found, "rates": rates, "observation": observation}
    run.check("the good program is healthy", observation["verdict"] == "healthy", shown(observation))
    print(f"     watching the good program costs {spread(found)} of {statistics.median(r[0] for r in rates):.0f} items/s")


def check_graphs(run):
    found, rates, observation = costs(run, "graphs", run.arguments.rounds)
    run.figures["graphs"] = {"costs": found, "rates": rates, "observation": observation}
    replays = statistics.median(rate[0] for rate in rates)
    text = f"{spread(found)} at {replays:.0f} replays/s"
    holds = statistics.median(found) < LARGEST_GRAPH_COST and replays >= LEAST_REPLAYS_PER_S
    run.check("recording graphs costs below 10 % at 10,000 replays/s", holds, text)
    seen = observation["graph_run_count"]
    expected = replays * float(run.arguments.seconds)
    run.check("nearly all replays are recorded", 0.8 * expected < seen, f"{seen} seen, {expected:.0f} in the time")


def check_graph_kernels(run):
    found, rates, observation = costs(run, "graphs", 1, "--graph-kernels")
    run.figures["graph_kernels"] = {"costs": found, "rates": rates, "observation": observation}
    kernels = observation["kernels_per_graph_run"]
    run.check("a replay has its twenty kernels", kernels and 18 <= kernels <= 22, f"{kernels}")
    print(f"     recording each kernel of a graph costs {found[0]:.2%}")


def report_tiny_graphs(run):
    found, rates, _ = costs(run, "tiny_graphs", 1)
    run.figures["tiny_graphs"] = {"costs": found, "rates": rates}
    print(f"     recording {rates[0][0]:.0f} replays/s, as many as the host can, costs {found[0]:.2%}")


def check_gauges(run):
    """`watch --pid` and `top` beside the good program."""
    program = subprocess.Popen([str(word) for word in [*run.subject("good")[:-1], "8"]], stdout=subprocess.PIPE)
    try:
        time.sleep(6)
        words = [run.arguments.thalweg, "watch", "--json", "--duration", 2, "--period", 0.25, "--pid", program.pid]
        done = run.command(words, "pid", code=None)
        if done.returncode == 2:
            print("     NVML does not know the process by this number (a container?): its GPU is named instead")
            done = run.command([*words, "--device", 0], "pid-device")
        readings = json.loads(done.stdout)["gpu"]["readings"]
        activity = [reading["counters"]["sm_activity"] for reading in readings]
        known = [value for value in activity if value is not None]
        run.figures["pid"] = readings[-1] if readings else None
        busy = known and statistics.median(known) > 0.3
        run.check("watch --pid reads a busy GPU", len(readings) >= 4 and busy, f"{len(readings)} readings, SMs {activity}")
        lines = run.command([run.arguments.thalweg, "top", "--plain", "--duration", 2, "--period", 0.5], "top").stdout
        count = len(lines.strip().splitlines())
        run.check("top prints lines", count >= 3 and "SM clock" in lines, f"{count} lines: {lines.splitlines()[:1]}")
    finally:
        program.kill()
        program.wait()


def check_bench(run):
    engine, found = run.arguments.engine, []
    bench = [run.arguments.thalweg, "bench", "--engine", engine, "--backend", "tensorrt", "--streams", 4]
    bench += ["--cuda-graph", "compute", "--duration", 2, "--json"]
    observation = None
    for number in range(2):
        value = lambda text: json.loads(text[text.index("{"):])["throughput_inferences_per_s"]["value"]  # noqa: E731
        bare = value(run.command(bench, f"bench-{number}-bare").stdout)
        out = (run.arguments.logs or Path(".")) / f"bench-{number}"
        words = [run.arguments.thalweg, "watch", "--json", "--", *bench, "--quiet", "--out", out]
        observation = json.loads(run.command(words, f"bench-{number}-watched").stdout)["processes"][0]
        watched = json.loads((out / "measurement.json").read_text())["throughput_inferences_per_s"]["value"]
        found.append(1 - watched / bare)
    run.figures["bench"] = {"costs": found, "observation": observation}
    run.check("thalweg bench can be watched", observation["graph_run_count"] > 0, shown(observation))
    print(f"     watching thalweg bench (4 streams, graph of compute) costs {spread(found)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--thalweg", type=Path, default=Path("target/release/thalweg"))
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--engine", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--only", nargs="*", help="parts: names of faults, good, graphs, graph-kernels, tiny, gauges, bench")
    parser.add_argument("--logs", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    run = Run(arguments)
    parts = {name: lambda name=name, cause=cause: check_fault(run, name, cause) for name, cause in FAULTS.items()}
    parts |= {"good": lambda: check_good(run), "graphs": lambda: check_graphs(run)}
    parts |= {"graph-kernels": lambda: check_graph_kernels(run), "tiny": lambda: report_tiny_graphs(run)}
    parts["gauges"] = lambda: check_gauges(run)
    if arguments.engine:
        parts["bench"] = lambda: check_bench(run)
    unknown = set(arguments.only or []) - set(parts)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    for name, part in parts.items():
        if not arguments.only or name in arguments.only:
            run.attempt(name, part)
            if arguments.json:
                arguments.json.write_text(json.dumps({"checks": run.checks, "figures": run.figures}, indent=1))
    failed = [check["name"] for check in run.checks if not check["holds"]]
    print(f"{len(run.checks) - len(failed)} of {len(run.checks)} checks hold" + "".join(f"\n  {name}" for name in failed))
    return 1 if failed or not run.checks else 0


if __name__ == "__main__":
    sys.exit(main())
