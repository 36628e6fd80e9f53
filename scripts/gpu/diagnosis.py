#!/usr/bin/env python3
"""The real cases of the labelled suite on a GPU: truth by ablation, then what `thalweg diagnose` says, and both compared.

Usage: diagnosis.py --engines DIR [--program PATH] [--thalweg PATH] [--json FILE] [--part K/N] [--only TEXT]
                    [--deadline S] [--rounds N] [--backend NAME] [--build-only]

Builds the engines that DIR lacks (`<network>-<precision>.plan`, by `thalweg build`; see BUILDS), then runs PROGRAM, the
benchmark `real_cases` of the crate: `cargo build --release -p thalweg --bench real_cases` leaves it under
target/release/deps/. That loads each engine once, measures every case of suite/real.json in turns with one thing after the
other moved out of its way, writes the labels down (beside the result of the part, as `.labels.json`), and only then asks
the rules and tries the first remedy of each case. `--part 1/2` and `--part 2/2` take half of the cases each; the parts'
results are put together in the file of `--json`, with one confusion matrix over all of them. Parts of another program or
another suite are refused.

One label is no ablation: a device that is full cannot be doubled, so where nothing gains, not even all of it together, its
DRAM counter says whether it is memory-bound or compute-bound (`Truth::full_device` in thalweg/benches/real_cases/label.rs).
The rules read that counter too. So the verdicts on full devices are scored apart from those whose labels are ablations alone.

Fails where fewer than 90 % of the verdicts are right, where the first remedy's gain is predicted within max(0.05, 15 %)
in fewer than 80 % or no more often than whoever always says 1.0 would have it, where there are fewer than 24 cases, or
where reading counters costs 1 % or more. With `--backend` other than tensorrt, `--only`, or while parts are missing it
only says what it found.

Time on an H100: about 14 s a case, 31 cases. Builds come before that and are slow, ResNet-50 75 to 100 s, BERT-base at
level 1 about 30 s, MobileNetV2 22 to 97 s, the small ones about 10 s each; two run at a time.

Needs: TensorRT on the loader's path.
"""

import argparse
import hashlib
import json
import math
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Options of `thalweg build` for each engine. An engine has room for what remedies ask for.
BUILDS = {
    "resnet50-fp16": ["--batch", "128", "--precision", "fp16"],
    "mobilenet_v2-fp16": ["--batch", "128", "--precision", "fp16", "--optimization-level", "2"],
    "bert_base-fp16": ["--batch", "64", "--precision", "fp16", "--optimization-level", "1"],
    "launch-fp16": ["--batch", "16", "--precision", "fp16", "--optimization-level", "1"],
    "transfer-fp16": ["--batch", "16", "--precision", "fp16", "--optimization-level", "1"],
    "compute-fp16": ["--batch", "16", "--precision", "fp16", "--optimization-level", "2"],
    "memory-fp32": ["--batch", "16", "--optimization-level", "1"],
    "underfilled-fp16": ["--batch", "16", "--precision", "fp16", "--optimization-level", "2"],
    "balanced-fp16": ["--batch", "16", "--precision", "fp16", "--optimization-level", "2"],
}
# In the order of `Verdict::ALL`.
VERDICTS = [
    "compute-bound", "memory-bound", "transfer-bound", "enqueue-bound", "underfilled", "synchronisation-bound",
    "input-starved", "throttled", "healthy",
]
# Labels that the device's counters tell, since no ablation can.
OF_COUNTERS = ("compute-bound", "memory-bound", "throttled")
LEAST_CASES, LEAST_RIGHT, LEAST_PREDICTED, MOST_COST = 24, 0.90, 0.80, 0.01


def build(thalweg, engines, name, log):
    plan, model = engines / f"{name}.plan", engines / f"{name.split('-')[0]}.onnx"
    start = time.monotonic()
    if not model.is_file():
        subprocess.run([thalweg, "model", name.split("-")[0], "-o", model], check=True, capture_output=True)
    command = [thalweg, "build", model, "-o", plan, "--no-accuracy", "--no-cache", *BUILDS[name]]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    said = "built" if done.returncode == 0 else f"NOT built: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
    print(f"{name}: {said} in {time.monotonic() - start:.0f} s", file=log, flush=True)
    return done.returncode == 0


def build_missing(arguments):
    """Two at a time; builds side by side on one GPU slow each other down."""
    wanted = {f"{case['network']}-{case['precision']}" for case in cases_of(arguments)}
    missing = [name for name in BUILDS if name in wanted and not (arguments.engines / f"{name}.plan").is_file()]
    arguments.engines.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(2) as workers:
        made = list(workers.map(lambda name: build(arguments.thalweg, arguments.engines, name, sys.stderr), missing))
    return all(made)


def cases_of(arguments):
    return json.loads(arguments.suite.read_text())


def run(arguments, result):
    command = [arguments.program, "--backend", arguments.backend, "--engines", arguments.engines, "--json", result]
    command += ["--suite", arguments.suite, "--labels", result.with_suffix(".labels.json"), "--part", arguments.part]
    command += ["--only", arguments.only, "--deadline", arguments.deadline, "--rounds", arguments.rounds]
    # More than eight of CUDA's streams need more than eight of its queues; `thalweg` sees to that itself.
    environment = {"CUDA_DEVICE_MAX_CONNECTIONS": "32"}
    done = subprocess.run(
        [str(word) for word in command], env={**os.environ, **environment}, check=False
    )
    if done.returncode != 0 or not result.is_file():
        sys.exit(f"the program ended with {done.returncode}")
    result.write_text(json.dumps({**json.loads(result.read_text()), "origin": origin(arguments)}))


def origin(arguments):
    """Tells the program and the suite that a part comes from."""
    return hashlib.sha256(arguments.program.read_bytes() + arguments.suite.read_bytes()).hexdigest()


def parts_of(files, wanted):
    """The parts in the files, all of one origin."""
    parts = [json.loads(file.read_text()) for file in files]
    for file, part in zip(files, parts):
        if part.get("origin") != wanted:
            sys.exit(f"{file} comes from another program or suite: remove it, and run that part again")
    return parts


def put_together(parts):
    """One outcome of several parts."""
    cases = [case for part in parts for case in part["cases"]]
    is_right = lambda case: case["verdict"] in case["right"]  # noqa: E731
    share = lambda some: sum(map(is_right, some)) / len(some) if some else math.nan  # noqa: E731
    tried = [case["remedy"] for case in cases if case["remedy"]]
    near = [abs(it["predicted"] - it["measured"]) <= max(0.05, 0.15 * it["measured"]) for it in tried]
    nothing = [abs(1.0 - it["measured"]) <= max(0.05, 0.15 * it["measured"]) for it in tried]
    large = [is_near for it, is_near in zip(tried, near) if it["measured"] >= 1.2]
    logs = [math.log(case["observing"]["value"]) for case in cases if case["observing"]]
    return {
        "cases": cases,
        "right": share(cases),
        "right_of_tuned_on": share([case for case in cases if case["is_tuned_on"]]),
        "right_of_evaluated": share([case for case in cases if not case["is_tuned_on"]]),
        "right_by_ablation": share([case for case in cases if case["label"] not in OF_COUNTERS]),
        "confusion": confusion(cases),
        "trtexec": sum(case["trtexec"] in case["right"] for case in cases),
        "predicted": sum(near) / len(near) if near else math.nan,
        "always_one": sum(nothing) / len(nothing) if nothing else math.nan,
        "predicted_of_large": (sum(large), len(large)),
        "observing": interval(logs),
    }


def confusion(cases):
    """How often each label got each verdict, one row for each label."""
    count = lambda label, verdict: sum((case["label"], case["verdict"]) == (label, verdict) for case in cases)  # noqa: E731
    return {label: {verdict: count(label, verdict) for verdict in VERDICTS} for label in VERDICTS}


def print_matrix(matrix):
    print("\n" + r"label \ verdict".ljust(24) + "".join(f" {verdict[:7]:>7}" for verdict in VERDICTS))
    for label, row in matrix.items():
        print(f"{label:24}" + "".join(f" {row[verdict] or '·':>7}" for verdict in VERDICTS))


def interval(logs):
    """Ratio with a 95 % interval by ranks, as `paired_ratio_by_ranks` of thalweg/src/measure/stats.rs, with the normal
    distribution for the ranks (there are dozens). Without a graph a pool has one of two speeds by chance: one such case
    moves a mean by as much as it is off, and ranks by no more than any other."""
    if len(logs) < 6:
        return None
    means = sorted((one + other) / 2 for index, one in enumerate(logs) for other in logs[index:])
    count = len(logs)
    half = 1.96 * math.sqrt(count * (count + 1) * (2 * count + 1) / 24)
    outside = max(0, math.floor(len(means) / 2 - half))
    return [math.exp(it) for it in (means[outside], statistics.median(means), means[-1 - outside])]


def print_table(outcome):
    cases = outcome["cases"]
    print_matrix(outcome["confusion"])
    by_ablation = sum(case["label"] not in OF_COUNTERS for case in cases)
    print(f"\n{len(cases)} cases: {outcome['right']:.1%} right ({outcome['right_of_tuned_on']:.1%} of those to tune on, "
          f"{outcome['right_of_evaluated']:.1%} of those only evaluated); trtexec {outcome['trtexec']} right")
    print(f"labels by ablation alone: {by_ablation}, {outcome['right_by_ablation']:.1%} right; of the other "
          f"{len(cases) - by_ablation} the device is full, and its DRAM counter or its clock tells the label")
    near, large = outcome["predicted_of_large"]
    print(f"first remedy within max(0.05, 15 %): {outcome['predicted']:.1%}, always 1.0: {outcome['always_one']:.1%}, "
          f"which {'also meets' if outcome['always_one'] >= LEAST_PREDICTED else 'misses'} the {LEAST_PREDICTED:.0%}; "
          f"of gains of 1.2 or more {near} of {large}, always 1.0: none")
    if outcome["observing"]:
        lower, middle, upper = outcome["observing"]
        print(f"with counters read: {middle:.4f} ({lower:.4f} to {upper:.4f}) of the throughput without")
    for case in cases:
        if case["verdict"] not in case["right"]:
            print(f"wrong: {case['name']}: {case['verdict']}, and it is {' or '.join(case['right'])}")


def failures(outcome):
    wanted = [
        (len(outcome["cases"]) >= LEAST_CASES, f"there are fewer than {LEAST_CASES} cases"),
        (outcome["right"] >= LEAST_RIGHT, f"fewer than {LEAST_RIGHT:.0%} of the verdicts are right"),
        (outcome["predicted"] >= LEAST_PREDICTED, f"fewer than {LEAST_PREDICTED:.0%} of the gains are predicted"),
        (outcome["predicted"] > outcome["always_one"], "the gains are predicted no better than by always saying 1.0"),
        (bool(outcome["observing"]), "nobody knows what reading counters costs"),
        (not outcome["observing"] or outcome["observing"][1] > 1 - MOST_COST, "reading counters costs 1 % or more"),
    ]
    return [said for is_met, said in wanted if not is_met]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, default=Path("target/release/real_cases"))
    parser.add_argument("--thalweg", type=Path, default=Path("target/release/thalweg"))
    parser.add_argument("--engines", type=Path, required=True)
    parser.add_argument("--suite", type=Path, default=Path("suite/real.json"))
    parser.add_argument("--json", type=Path, default=Path("real-cases.json"))
    parser.add_argument("--part", default="1/1")
    parser.add_argument("--only", default="")
    parser.add_argument("--deadline", type=float, default=560.0, help="no case starts after so many seconds")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--backend", default="tensorrt")
    parser.add_argument("--build-only", action="store_true")
    arguments = parser.parse_args()
    if arguments.backend == "tensorrt" and not build_missing(arguments):
        print("some engines are missing, and their cases are left out", file=sys.stderr)
    if arguments.build_only:
        return
    number, of = map(int, arguments.part.split("/"))
    file_of = lambda part: arguments.json.with_suffix(f".{part}of{of}.json")  # noqa: E731
    run(arguments, file_of(number))
    files = [file_of(part) for part in range(1, of + 1) if file_of(part).is_file()]
    outcome = put_together(parts_of(files, origin(arguments)))
    arguments.json.write_text(json.dumps(outcome))
    print_table(outcome)
    is_all = len(files) == of and arguments.backend == "tensorrt" and not arguments.only
    missed = failures(outcome) if is_all else []
    for said in missed:
        print(f"FAILED: {said}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
