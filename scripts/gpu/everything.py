#!/usr/bin/env python3
"""Runs the other scripts of this folder on one or several GPUs, the most important first, and shows how each ended.

Usage: everything.py --work DIR --trtexec PATH [--thalweg PATH] [--programs DIR] [--gpus N] [--first-gpu N] [--builds N]
                     [--time S] [--lean DIR --own-lean DIR] [--samples DIR] [--list] [JOB...]

JOB picks jobs by the start of their names, with what they need; all without it. Engines go to DIR/engines and are built
once; what each job printed goes to DIR/logs, its figures to DIR/results, and the state of all jobs to DIR/state.txt while
they run. DIR/libfault.so and DIR/replay are fault.cu and replay.cu, if they are there. Builds share a GPU, `--builds` at a
time; what measures has one for itself. A job that would not end within `--time` is left out and said so. `--programs` has
the test programs `tensorrt_gpu`, `cupti_gpu` and `pools_on_a_gpu` and the benchmark `real_cases`, without cargo's suffixes.
The other options are those of acceptance.py and precision.py.

Kernel timings of TensorRT 8.6.0 on an H200 are in timings/: with them builds take seconds and give the same kernels each
time; on another device or version TensorRT measures anew. Times are of an H200. Needs what the scripts need.
"""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from checking import ROOT

HERE = Path(__file__).resolve().parent
GRAPHS, STREAMS = ("off", "compute", "copies"), (1, 2, 4, 8)


@dataclass
class Job:
    """A shell command; `seconds` is about how long it takes."""

    name: str
    command: str
    seconds: int
    is_build: bool = False
    needs: list = field(default_factory=list)


def script(name, *words):
    return shlex.join([sys.executable, str(HERE / name), *map(str, words)])


def jobs_of(arguments):
    """All jobs, the most important first."""
    thalweg, work = arguments.thalweg.resolve(), arguments.work.resolve()
    engines, results, logs = work / "engines", work / "results", work / "logs"
    plan = engines / "resnet50-fp16.plan"
    programs = arguments.programs.resolve() if arguments.programs else None
    jobs = []

    def build(name, options, seconds, needs=(), first=""):
        network, timings = name.split("-")[0], engines / f"{name.split('-')[0]}.timing"
        model = engines / f"{network}.onnx"
        make = first or f"test -f {model} || {shlex.join([str(thalweg), 'model', network, '-o', str(model), '--quiet'])}"
        words = [thalweg, "build", engines / f"{name}.onnx" if first else model, "-o", engines / f"{name}.plan"]
        words += ["--no-accuracy", "--no-cache", f"--timing-cache={timings}", *options.split()]
        command = f"test -f {engines / name}.plan || ({make}; {shlex.join(map(str, words))})"
        jobs.append(Job(f"build {name}", command, seconds, True, list(needs)))

    def measure(name, command, seconds, *needs):
        jobs.append(Job(name, command, seconds, False, [f"build {need}" for need in needs]))

    def streams(name, batches, seconds):
        """More rounds for what is to be proven than for graphs with their copies; without a graph the host decides, so
        that resident inputs stand beside there."""
        cells = lambda *graphs: [f"{batch},{count},{graph}" for batch in batches for count in STREAMS for graph in graphs]  # noqa: E731
        words = ["--thalweg", thalweg, "--engine", plan, "--warm-up", 0.5, "--trtexec", arguments.trtexec.resolve()]
        words += ["--json", results / f"{name}.json", "--rounds"]
        resident = ["--variant", "thalweg=", "--variant", "resident=--feed=resident"]
        calls = ([2, "--cell", *cells(*GRAPHS)], [3, "--cell", *cells("compute")], [2, *resident, "--cell", *cells("off")])
        command = " && ".join(script("streams.py", *words, *call) for call in calls)
        measure(f"streams {name}", command, seconds, "resnet50-fp16")

    def tests(program, *names, seconds):
        if programs:
            words = [programs / program, *names, "--ignored", "--nocapture", "--test-threads=1"]
            measure(f"tests {program}", shlex.join(map(str, words)), seconds)

    build("resnet50-fp16", "--batch=128 --precision=fp16", 35)
    if (replay := work / "replay").is_file():
        measure("replay", shlex.join([str(replay), str(plan), "1", *"plain plain spare spare spare+used spare+used plain".split()]), 15, "resnet50-fp16")
    streams("low", (1, 8), 370)
    streams("high", (32, 128), 370)
    # Requests that share slots, whose outputs are compared like all others; `full` runs slots that are not full as full ones.
    words = ["--thalweg", thalweg, "--engine", plan, "--warm-up", 0.3, "--rounds", 2, "--json", results / "small.json"]
    loads = {"one": "--request-samples=1", "three": "--request-samples=3", "lone": "--request-samples=1 --concurrency=1"}
    words += ["--variant=whole=", *(f"--variant={name}={load}" for name, load in loads.items())]

    def small_requests(batch, *cells):
        full = [f"--variant={name}-full={load} --smallest-batch={batch}" for name, load in loads.items()]
        return script("streams.py", *words, *full, "--cell", *cells)

    command = f"{small_requests(8, *(f'8,8,{graph}' for graph in GRAPHS))} && {small_requests(128, '128,4,compute')}"
    measure("small requests", command, 100, "resnet50-fp16")
    failing = ["--thalweg", thalweg, "--engine", plan, "--logs", logs / "failures"]
    failing += ["--fault", fault] if (fault := work / "libfault.so").is_file() else []
    failing += ["--tests", programs / "pools_on_a_gpu"] if programs else []
    measure("failures", script("failures.py", *failing), 180, "resnet50-fp16")
    tests("cupti_gpu", seconds=15)
    small = {"mobilenet_v2-fp16": (128, 2, 100), "bert_base-fp16": (64, 1, 60), "launch-fp16": (16, 1, 60)}
    small |= {f"{name}-fp16": (16, 2, 30) for name in ("compute", "underfilled", "balanced")} | {"transfer-fp16": (16, 1, 20)}
    for name, (batch, level, seconds) in small.items():
        build(name, f"--batch={batch} --precision=fp16 --optimization-level={level}", seconds)
    build("memory-fp32", "--batch=16 --optimization-level=1", 25)
    for number in range(1, arguments.gpus + 1) if programs else ():
        words = ["--program", programs / "real_cases", "--thalweg", thalweg, "--engines", engines, "--json", results / "real.json"]
        command = script("diagnosis.py", *words, "--part", f"{number}/{arguments.gpus}")
        measure(f"diagnosis {number}", command, 480 / arguments.gpus, "resnet50-fp16", *small, "memory-fp32")
    precision = ["--thalweg", thalweg, "--engines", engines / "precision"]
    precision += ["--samples", arguments.samples.resolve()] if arguments.samples else []
    names = {"resnet50-int8-flags": 200, "resnet50-int8-onnx": 110, "resnet50-fp16": 110}
    names |= {"open-nsfw": 200} if arguments.samples else {}
    # FP16 by flags is the engine that is there already. Layers that two engines share are to have the same kernels in both.
    known = f"mkdir -p {engines}/precision; ln -f {plan} {engines}/precision/resnet50-fp16-flags.plan"
    after = {"resnet50-int8-onnx": "build precision resnet50-int8-flags", "resnet50-fp16": "build resnet50-fp16"}
    for name, seconds in names.items():
        is_known = name == "resnet50-fp16"
        timings = "resnet50" if is_known else f"precision-{name.removesuffix('-flags').removesuffix('-onnx')}"
        words = ["--timing-cache", engines / f"{timings}.timing", "--build-only", name]
        command = (f"{known}; " if is_known else "") + script("precision.py", *precision, *words)
        jobs.append(Job(f"build precision {name}", command, seconds, True, [after[name]] if name in after else []))
    words = [*precision, "--json", results / "precision.json"]
    measure("precision", script("precision.py", *words), 240, *(f"precision {name}" for name in names))
    words = ["--thalweg", thalweg, "--engine", plan, "--rounds", 2, "--logs", logs / "watch", "--json", results / "watch.json"]
    measure("watch", script("watch.py", *words), 150, "resnet50-fp16")
    measure("kernels", script("kernels.py", "--thalweg", thalweg, "--engine", plan, "--logs", logs / "kernels"), 30, "resnet50-fp16")
    measure("hidden", script("hidden.py", "--thalweg", thalweg, "--engine", plan, "--try", 0, "--logs", logs / "hidden", "--", "--cuda-graph=compute"), 45, "resnet50-fp16")

    # With more than ten streams the copies of each have queues of their own no more, so that lanes may tell there.
    lanes = ["--variant", "own=", "--variant", "one=--copy-lanes=1", "--variant", "two=--copy-lanes=2", "--rounds", 3]
    lanes += ["--thalweg", thalweg, "--warm-up", 0.5]
    few = [*lanes, "--engine", plan, "--json", results / "lanes.json", "--cell", "8,8,compute", "128,4,compute"]
    many = [*lanes, "--engine", engines / "mobilenet_v2-fp16.plan", "--json", results / "lanes-many.json"]
    many += ["--cell", "1,16,compute", "1,32,compute"]
    command = f"{script('streams.py', *few)} && {script('streams.py', *many)}"
    measure("lanes", command, 90, "resnet50-fp16", "mobilenet_v2-fp16")

    # What choices of the build change, each beside the engine that has none of them.
    options = {"aux0": "--aux-streams=0", "aux4": "--aux-streams=4", "level1": "--optimization-level=1", "f16": "--input-type=f16"}
    for name, option in options.items():
        build(f"resnet50-fp16-{name}", f"--batch=128 --precision=fp16 {option}", 40, ["build resnet50-fp16"])
    variants = [f"--variant={name}=--engine={engines / f'resnet50-fp16-{name}.plan'}" for name in options]
    words = ["--thalweg", thalweg, "--engine", plan, "--warm-up", 0.3, "--rounds", 2, "--variant=plain=", *variants]
    words += ["--json", results / "builds.json", "--cell", "1,1,compute", "1,8,compute", "8,8,compute", "128,2,compute"]
    measure("builds", script("streams.py", *words), 130, *(f"resnet50-fp16-{name}" for name in options))

    bytes_model = [thalweg, "inputs", engines / "resnet50.onnx", "-o", engines / "resnet50-u8.onnx", "--to=u8"]
    bytes_model += ["--scale=0.0171,0.0175,0.0174", "--shift=-2.12,-2.04,-1.8"]
    first = shlex.join(map(str, bytes_model))
    build("resnet50-u8", "--batch=128 --precision=fp16", 100, ["build resnet50-fp16"], first)
    named = {"resnet50": "resnet50-fp16", "resnet50-u8": "resnet50-u8", "launch": "launch-fp16"}
    named |= {"mobilenet_v2": "mobilenet_v2-fp16", "bert_base": "bert_base-fp16"}
    limit = ["--thalweg", thalweg, "--work", work / "limit", "--json", results / "limit.json"]
    limit += [f"--engine={name}={engines / f'{engine}.plan'}" for name, engine in named.items()]
    parts = {"tune resnet50": 270, "tune mobilenet_v2 bert_base": 450, "end-to-end": 70, "launch": 140, "neighbours": 20}
    cells = {"resnet50": (128, 32, 8, 1), "mobilenet_v2": (1, 16), "bert_base": (1, 16)}
    for name, seconds in parts.items():
        part, *networks = name.split()
        chosen_cells = [f"{network}:{batch}" for network in networks for batch in cells[network]]
        words = [*limit, *(["--cell", *chosen_cells] if networks else []), "--", part]
        measure(f"limit {name}", script("limit.py", *words), seconds, *named.values())
    words = ["--thalweg", thalweg, "--limit", 350, "--logs", logs / "acceptance", "--jobs", 1]
    words += ["--lean", arguments.lean, "--own-lean", arguments.own_lean] if arguments.lean and arguments.own_lean else []
    tests("tensorrt_gpu", seconds=400)
    jobs.append(Job("acceptance", script("acceptance.py", *words, "doctor", "lean", "together", "accuracy magika"), 300, True))
    return jobs


class Queue:
    """Which job runs where. Everything here happens under one lock."""

    def __init__(self, jobs, arguments):
        self.left, self.arguments = list(jobs), arguments
        self.ended, self.running = {}, {gpu: [] for gpu in range(arguments.gpus)}
        self.start, self.change = time.monotonic(), threading.Condition()
        self.logs = arguments.work / "logs"

    def seconds(self):
        return time.monotonic() - self.start

    def say(self, text):
        line = f"{self.seconds():6.0f} s  {text}"
        print(line, flush=True)
        with open(self.arguments.work / "state.txt", "a", encoding="utf-8") as file:
            print(line, file=file)

    def next(self, gpu):
        """The first job that is ready, if this GPU has room for it. What comes behind one that wants a GPU for itself
        does not overtake it, or it would wait for ever."""
        for job in list(self.left):
            if any(need in {other.name for other in self.left} or need in self.names_running() for need in job.needs):
                continue
            failed = [need for need in job.needs if self.ended.get(need) not in (0, None)]
            if failed or self.seconds() + job.seconds > self.arguments.time:
                self.left.remove(job)
                self.ended[job.name] = f"left out: {', '.join(failed)} failed" if failed else "left out: no time for it"
                self.say(f"{job.name}: {self.ended[job.name]}")
                continue
            here = self.running[gpu]
            has_room = len(here) < self.arguments.builds and all(other.is_build for other in here)
            return job if (has_room if job.is_build else not here) else None
        return None

    def names_running(self):
        return {job.name for jobs in self.running.values() for job in jobs}

    def serve(self, gpu):
        """Starts jobs on a GPU until none is left."""
        threads = []
        with self.change:
            while self.left:
                job = self.next(gpu)
                if job is None:
                    self.change.wait(1)
                    continue
                self.left.remove(job)
                self.running[gpu].append(job)
                self.say(f"GPU {gpu}: {job.name}")
                threads.append(threading.Thread(target=self.run, args=(job, gpu)))
                threads[-1].start()
        for thread in threads:
            thread.join()

    def run(self, job, gpu):
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": str(self.arguments.first_gpu + gpu)}
        with open(self.logs / f"{job.name.replace(' ', '-')}.txt", "w", encoding="utf-8") as log:
            how = {"stdout": log, "stderr": subprocess.STDOUT, "env": environment, "cwd": ROOT, "start_new_session": True}
            begun = time.monotonic()
            process = subprocess.Popen(["bash", "-c", job.command], **how)
            try:
                code = process.wait(max(60.0, self.arguments.time - self.seconds()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                code = "the time was up"
        with self.change:
            self.ended[job.name] = code
            self.running[gpu].remove(job)
            self.say(f"GPU {gpu}: {job.name} ended with {code} after {time.monotonic() - begun:.0f} s")
            self.change.notify_all()


def chosen(jobs, starts):
    """Those whose names begin so, and what they need."""
    wanted = {job.name for job in jobs if not starts or job.name.startswith(tuple(starts))}
    by_name = {job.name: job for job in jobs}
    while needed := {need for name in wanted for need in by_name[name].needs} - wanted:
        wanted |= needed
    return [job for job in jobs if job.name in wanted]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", metavar="JOB")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--trtexec", type=Path, required=True)
    parser.add_argument("--thalweg", type=Path, default=ROOT / "target/release/thalweg")
    parser.add_argument("--programs", type=Path)
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--first-gpu", type=int, default=0, help="number of the first, so that two calls share a machine")
    parser.add_argument("--builds", type=int, default=2, help="builds at a time on one GPU, which they keep busy")
    parser.add_argument("--time", type=float, default=7200, help="seconds for all")
    parser.add_argument("--lean", type=Path)
    parser.add_argument("--own-lean", type=Path)
    parser.add_argument("--samples", type=Path)
    parser.add_argument("--list", action="store_true", help="only says what would run")
    arguments = parser.parse_args()
    jobs = chosen(jobs_of(arguments), arguments.jobs)
    if arguments.list:
        for job in jobs:
            print(f"{job.name:28} {job.seconds:4} s  {job.command}")
        return
    for folder in ("engines", "logs", "results"):
        (arguments.work / folder).mkdir(parents=True, exist_ok=True)
    for timings in (HERE / "timings").glob("*.timing"):
        if not (known := arguments.work / "engines" / timings.name).exists():
            shutil.copy(timings, known)
    queue = Queue(jobs, arguments)
    servers = [threading.Thread(target=queue.serve, args=(gpu,)) for gpu in range(arguments.gpus)]
    for server in servers:
        server.start()
    for server in servers:
        server.join()
    good = sum(code == 0 for code in queue.ended.values())
    print(f"{good} of {len(jobs)} jobs ended well")
    sys.exit(0 if good == len(jobs) else 1)


if __name__ == "__main__":
    main()
