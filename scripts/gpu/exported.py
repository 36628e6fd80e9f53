#!/usr/bin/env python3
"""Compiles and runs the C++ programs that tuned configurations are exported as, in turns with Thalweg's own pool.

Usage: exported.py --headers DIR --library FILE [--thalweg PATH] [--rounds N] [--seconds S] [--json FILE] TUNED...

TUNED is a `tuned.json` of an engine file. DIR has TensorRT's `NvInfer.h`, FILE is its `libnvinfer.so`, which the loader
finds too. The program fills no inputs, so the pool's stay on the host as well (`--feed=resident`). It fails where a
program does not compile or run, or where it has less than 90 % of the pool's rate or more than 110 %: one of them would
not run what was tuned then. Needs g++ and CUDA's headers in /usr/local/cuda; takes about 25 s for each file.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from checking import ROOT

CUDA = Path("/usr/local/cuda")
# How far apart the two may be.
LEAST, MOST = 0.9, 1.1


def run(words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=300, cwd=ROOT)
    if done.returncode != 0:
        raise RuntimeError(f"{Path(words[0]).name}: {done.stderr.strip()[-400:]}")
    return done.stdout


def compiled(tuned, arguments, folder):
    source, program = folder / "pipeline.cpp", folder / "pipeline"
    source.write_text(run([arguments.thalweg.resolve(), "export", tuned, "--to=cpp"]))
    headers = [f"-I{arguments.headers.resolve()}", f"-isystem{CUDA}/include"]
    libraries = [arguments.library.resolve(), f"-L{CUDA}/lib64", "-lcudart", "-lpthread"]
    # TensorRT's headers use what they call deprecated.
    warnings = ["-Wall", "-Wextra", "-Wno-deprecated-declarations"]
    run(["g++", "-O2", "-std=c++17", *warnings, *headers, source, *libraries, "-o", program])
    return program


def measured(tuned, arguments, folder):
    """Inferences per second of the program and of the pool, a pair for each round."""
    program = compiled(tuned, arguments, folder)
    engine = json.loads(tuned.read_text())["engine"]["file"]
    bench = [arguments.thalweg.resolve(), "bench", f"--tuned={tuned}", "--backend=tensorrt", "--feed=resident"]
    bench += [f"--duration={arguments.seconds}", "--warm-up=0.5", "--json", "--quiet"]
    pairs = []
    for _ in range(arguments.rounds):
        printed = run([program, engine, arguments.seconds])
        found = re.search(r"^(\d+) inferences/s", printed, re.MULTILINE)
        if not found:
            raise RuntimeError(f"the program printed {printed.strip()[-200:]}")
        own = float(found[1])
        pairs.append((own, json.loads(run(bench))["throughput_inferences_per_s"]["value"]))
    return pairs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tuned", type=Path, nargs="+")
    parser.add_argument("--headers", type=Path, required=True)
    parser.add_argument("--library", type=Path, required=True)
    parser.add_argument("--thalweg", type=Path, default=ROOT / "target/release/thalweg")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    kept, bad = {}, 0
    for tuned in arguments.tuned:
        name = str(tuned)
        try:
            with tempfile.TemporaryDirectory(prefix="thalweg-exported-") as folder:
                pairs = measured(tuned.resolve(), arguments, Path(folder))
        except (RuntimeError, subprocess.TimeoutExpired) as failure:
            print(f"{name}: {failure}", flush=True)
            bad += 1
            continue
        ratios = [own / pool for own, pool in pairs]
        ratio = statistics.median(ratios)
        bad += not LEAST <= ratio <= MOST
        kept[name] = pairs
        own, pool = (statistics.median(column) for column in zip(*pairs))
        print(
            f"{name}: program / pool {ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f}), {own:.0f}/s of {pool:.0f}/s",
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(kept))
    print(f"{len(arguments.tuned) - bad} of {len(arguments.tuned)} programs run what was tuned")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
