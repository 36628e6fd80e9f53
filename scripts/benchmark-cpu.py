#!/usr/bin/env python3
"""Compares Thalweg on the CPU with itself untuned and with ONNX Runtime, all interleaved in one run.

Usage: benchmark-cpu.py [--thalweg PATH] [--rounds N] [--seconds S] [--tune-seconds S] [--out DIR] [NAME...]
Needs: pip install numpy onnxruntime; the models of scripts/fetch-models.py; cargo build --release

First each model is tuned, unless the folder holds its tuned.json already. Then each round measures, in an order
that turns by one from round to round:
  tuned           the tuned configuration
  one executor    one executor with all cores, batch 1
  onnxruntime     ONNX Runtime with one session and with several, at batch 1 and at the tuned batch
So every ratio is between figures of the same round on the same machine. Prints a Markdown table: medians over the
rounds, and for each ratio the smallest and the largest of any round. All figures are in DIR/benchmark.json, which
is written anew after every measurement.
"""

import argparse
import json
import os
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path

import models
import thalweg

# Trained networks of several kinds: detection, recognition, classification, text, audio.
MODELS = [
    "ppocr-v4-detection",
    "ppocr-v4-recognition",
    "ppocr-v2-direction",
    "ppocr-v6-recognition",
    "page-orientation",
    "open-nsfw",
    "magika",
    "basic-pitch",
]


@dataclass
class Figures:
    """Inferences per second of one model, round by round."""

    model: str
    tuned_configuration: dict
    tuned: list = field(default_factory=list)
    one_executor: list = field(default_factory=list)
    # By `SESSIONSxTHREADS, batch N`.
    onnxruntime: dict = field(default_factory=dict)

    def one_session(self):
        """ONNX Runtime with one session at batch 1, as most programs use it."""
        return next(rates for name, rates in self.onnxruntime.items() if is_one_session(name))

    def best_onnxruntime(self):
        """Name and rates of ONNX Runtime's best candidate over all rounds."""
        return max(self.onnxruntime.items(), key=lambda candidate: statistics.median(candidate[1]))


def is_one_session(name):
    return name.startswith("1x") and name.endswith("batch 1")


def core_count():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def tune(row, arguments):
    """The tuned configuration's file, made now or earlier."""
    folder = arguments.out / row["name"]
    tuned = folder / "tuned.json"
    if not tuned.is_file():
        tuned = thalweg.tune(arguments.thalweg, row, folder, arguments.tune_seconds)
    return tuned


def run_onnxruntime(row, figures, seconds):
    """One slice for each of ONNX Runtime's candidates."""
    script = Path(__file__).with_name("bench-onnxruntime.py")
    batches = sorted({1, figures.tuned_configuration["batch_size"]})
    command = [sys.executable, script, row["name"], "--rounds=1", f"--slice={seconds}"]
    command.append(f"--batch={','.join(map(str, batches))}")
    for candidate in json.loads(thalweg.run(command))["candidates"]:
        name = f"{candidate['sessions']}x{candidate['threads_per_session']}, batch {candidate['batch_size']}"
        rate = candidate["throughput_inferences_per_s"]["median"]
        figures.onnxruntime.setdefault(name, []).append(rate)


def contenders(row, tuned, figures, arguments):
    """What each round runs: functions that add one figure each."""
    binary, seconds = arguments.thalweg, arguments.seconds

    def run_tuned():
        figures.tuned.append(thalweg.throughput(thalweg.measure_tuned(binary, tuned, seconds)))

    def run_one_executor():
        measurement = thalweg.measure_one_executor(binary, row, core_count(), seconds)
        figures.one_executor.append(thalweg.throughput(measurement))

    return [run_tuned, run_one_executor, lambda: run_onnxruntime(row, figures, seconds)]


def measure(row, arguments, write):
    """All rounds of one model."""
    print(f"{row['name']}: tuning", file=sys.stderr)
    tuned = tune(row, arguments)
    figures = Figures(row["name"], json.loads(tuned.read_text())["configuration"])
    runs = contenders(row, tuned, figures, arguments)
    for round_number in range(arguments.rounds):
        print(f"{row['name']}: round {round_number + 1} of {arguments.rounds}", file=sys.stderr)
        first = round_number % len(runs)
        for run in runs[first:] + runs[:first]:
            run()
            write(figures)
    return figures


def ratio(above, below):
    """Median, smallest and largest ratio of any round, as text."""
    ratios = [a / b for a, b in zip(above, below)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def print_table(all_figures):
    print(
        "| model | tuned | one executor | ONNX Runtime, 1 session | ONNX Runtime, best "
        "| tuned / one executor | tuned / 1 session | tuned / best |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for figures in all_figures:
        name, best = figures.best_onnxruntime()
        rates = [figures.tuned, figures.one_executor, figures.one_session(), best]
        cells = [figures.model] + [f"{statistics.median(rate):,.1f}" for rate in rates]
        cells[-1] += f" ({name})"
        cells += [ratio(figures.tuned, rate) for rate in rates[1:]]
        print("| " + " | ".join(cells) + " |")
    print("\nInferences per second; ratios with the smallest and the largest of any round.")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: {' '.join(MODELS)}")
    parser.add_argument("--thalweg", type=Path, default=thalweg.DEFAULT_BINARY, metavar="PATH")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (default: 5)")
    parser.add_argument("--tune-seconds", type=float, default=60.0, help="of each search (default: 60)")
    parser.add_argument("--out", type=Path, default=Path("thalweg-out/benchmark-cpu"), metavar="DIR")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    rows = models.read_table(arguments.names or MODELS)
    models.require(rows)
    thalweg.require(arguments.thalweg)
    arguments.out.mkdir(parents=True, exist_ok=True)
    done = []

    def write(current):
        text = json.dumps([vars(figures) for figures in [*done, current]], indent=2)
        part = arguments.out / "benchmark.json.part"
        part.write_text(text)
        part.replace(arguments.out / "benchmark.json")

    for row in rows:
        try:
            done.append(measure(row, arguments, write))
        except thalweg.Failed as failure:
            print(f"{row['name']}: {failure}", file=sys.stderr)
    if done:
        print_table(done)
    sys.exit(0 if len(done) == len(rows) else 1)


if __name__ == "__main__":
    main()
