#!/usr/bin/env python3
"""Measures ONNX Runtime's throughput on the CPU with one session and with several.

Usage: bench-onnxruntime.py [--batch LIST] [--sessions LIST] [--rounds N] [--slice S] NAME
Needs: pip install numpy onnxruntime; the models of scripts/fetch-models.py

NAME is a model of scripts/models.tsv. A candidate is a number of sessions, each with its share of the cores and
driven by a thread of this process, and a batch size. All candidates are ready before the first slice, and
each round gives every candidate one slice, so that whatever disturbs the machine disturbs all alike. Prints JSON:
for every candidate its inferences per second in each slice, their median, and the smallest and the largest.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import threading
import time
from dataclasses import dataclass

import onnxruntime

import models
import reference

# Executions of each session before its first slice: the first one allocates, the next ones fill caches.
WARM_UP_EXECUTIONS = 3


@dataclass
class Candidate:
    """Some sessions that run side by side, and what they reached in each slice."""

    batch_size: int
    threads: int
    sessions: list
    inputs: list
    throughputs: list


def counts_up_to(limit):
    """1, 2, 4, ... and the limit."""
    return sorted({1 << bit for bit in range(limit.bit_length())} | {limit})


def prepare(row, session_count, batch_size, core_count):
    """Makes and warms the sessions of a candidate."""
    threads = max(1, core_count // session_count)
    sessions = [reference.session(models.path(row), threads) for _ in range(session_count)]
    inputs = [reference.random_inputs(session, row, batch_size, seed) for seed, session in enumerate(sessions)]
    for session, values in zip(sessions, inputs):
        for _ in range(WARM_UP_EXECUTIONS):
            session.run(None, values)
    return Candidate(batch_size, threads, sessions, inputs, [])


def run_slice(candidate, seconds):
    """Runs all sessions for some seconds and notes their inferences per second. Only whole executions count,
    each thread over its own time until its last one ended."""
    rates = [0.0] * len(candidate.sessions)
    barrier = threading.Barrier(len(candidate.sessions))

    def drive(index):
        session, inputs = candidate.sessions[index], candidate.inputs[index]
        barrier.wait()
        start = now = time.perf_counter()
        executions = 0
        while now - start < seconds:
            session.run(None, inputs)
            executions += 1
            now = time.perf_counter()
        rates[index] = executions * candidate.batch_size / (now - start)

    threads = [threading.Thread(target=drive, args=(index,)) for index in range(len(rates))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    candidate.throughputs.append(sum(rates))


def report(candidate):
    """The figures of one candidate."""
    return {
        "sessions": len(candidate.sessions),
        "threads_per_session": candidate.threads,
        "batch_size": candidate.batch_size,
        "throughput_inferences_per_s": {
            "median": statistics.median(candidate.throughputs),
            "smallest": min(candidate.throughputs),
            "largest": max(candidate.throughputs),
            "slices": candidate.throughputs,
        },
    }


def batch_sizes(row, wanted):
    """The wanted batch sizes, or only 1 where the model has no batch dimension."""
    return wanted if reference.is_batched(reference.session(models.path(row), 1)) else [1]


def counts(text):
    """A list of counts as it is typed: `1,2,4`."""
    return sorted({int(word) for word in text.split(",")})


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--batch", type=counts, default=[1], metavar="LIST", help="batch sizes (default: 1)")
    parser.add_argument("--sessions", type=counts, metavar="LIST", help="default: 1, 2, 4, ... and all cores")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slice", type=float, default=2.0, metavar="S", help="seconds (default: 2)")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    [row] = models.read_table([arguments.name])
    models.require([row])
    core_count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    session_counts = arguments.sessions or counts_up_to(core_count)
    candidates = [
        prepare(row, session_count, batch_size, core_count)
        for session_count in session_counts
        for batch_size in batch_sizes(row, arguments.batch)
    ]
    for _ in range(arguments.rounds):
        for candidate in candidates:
            run_slice(candidate, arguments.slice)
    result = {
        "model": row["name"],
        "sha256": row["sha256"],
        "onnxruntime": onnxruntime.__version__,
        "machine": platform.machine(),
        "core_count": core_count,
        "slice_s": arguments.slice,
        "candidates": [report(candidate) for candidate in candidates],
    }
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
