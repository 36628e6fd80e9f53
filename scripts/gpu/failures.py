#!/usr/bin/env python3
"""Breaks runs on a GPU on purpose, and shows that each ends well: one clear error, nothing lost that was finished.

Usage: failures.py --engine FILE [--thalweg PATH] [--fault LIB] [--tests PATH...] [--limit S] [--logs DIR] [CHECK...]

CHECK picks checks by the start of their names; all without it. `--engine` is a plan of ResNet-50 for batches up to 128,
`--fault` is fault.cu built as a library, and `--tests` are test programs of thalweg whose tests want a GPU.

Needs: TensorRT on the loader's path; PyTorch.
"""

import argparse
import os
import signal
import tempfile
from pathlib import Path

from checking import ROOT, Commands, first_line, last_line, lines_with, nearly_full, run_all


class Checks:
    """Each method is a check: it gives what is to be seen in one line, or raises."""

    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, Path(folder)
        self.run = (commands := Commands(arguments.limit, arguments.logs)).run
        self.interrupt = commands.interrupt
        thalweg = arguments.thalweg.resolve()
        network = ["--backend=tensorrt", f"--engine={arguments.engine.resolve()}"]
        self.bench, self.tune = [thalweg, "bench", *network], [thalweg, "tune", *network, "--batch=1,8"]

    def tests(self):
        assert self.arguments.tests, "no --tests"
        said = []
        for program in self.arguments.tests:
            text = self.run([program.resolve(), "--ignored", "--test-threads=1", "--nocapture"], log=program.stem)
            said += lines_with(text, "test result", "bytes")
        return " | ".join(said)

    def executors(self):
        """More streams than the memory has room for: as many run as there is room for, and that is said."""
        with nearly_full(left_mib=2500):
            text = self.run([*self.bench, "--streams=32", "--batch=128", "--duration=1"], log="executors")
        fitting = lines_with(text, "of 32 streams", "Of 32 streams")
        assert fitting, "nothing was said of streams that do not fit"
        return " | ".join([*fitting, *lines_with(text, "throughput")])

    def profile(self):
        text = self.run([*self.bench, "--batch=256", "--duration=1"], code=2, log="profile")
        return last_line(text)

    def interrupted(self):
        """SIGINT in a run and in a search; the search goes on from its journal."""
        out = self.folder / "bench"
        command = [*self.bench, "--streams=4", "--batch=8", "--duration=30", f"--out={out}"]
        code, text, seconds = self.interrupt(command, after=8, signal=signal.SIGINT, log="interrupted-bench")
        left = sorted(path.name for path in out.iterdir()) if out.exists() else []
        assert code in (0, 130) and "measurement.json" in left, f"bench: {code}, {left}: {last_line(text)}"
        said = f"bench: {code} after {seconds:.1f} s, {left}: {last_line(text)}"
        out = self.folder / "tune"
        code, text, seconds = self.interrupt(self.search(out, 40), 10, signal.SIGINT, log="interrupted-tune")
        assert code in (0, 130), f"tune: {code}: {last_line(text)}"
        return f"{said} | tune: {code} after {seconds:.1f} s: {last_line(text)} | {self.resumed(out)}"

    def search(self, out, seconds):
        return [*self.tune, f"--time={seconds}", f"--out={self.folder / out}"]

    def resumed(self, out):
        count = len((out / "journal.jsonl").read_text().splitlines())
        assert count > 2, "no slice came into the journal before the end"
        text = self.run([*self.search(out, 40), "--resume"], log=f"resumed-{out.name}")
        return f"{count} lines of journal, resumed: {first_line(text)} | " + " | ".join(lines_with(text, "ending"))

    def sticky(self):
        """An error in one stream that ends the CUDA context, in a run and in a search."""

        def faulty(after):
            library = str(self.arguments.fault.resolve())
            return {"env": os.environ | {"LD_PRELOAD": library, "THALWEG_FAULT_AFTER_S": str(after)}}

        command = [*self.bench, "--streams=4", "--batch=8", "--duration=30"]
        said = f"bench: {last_line(self.run(command, code=1, log='sticky-bench', **faulty(10)))}"
        out = self.folder / "sticky"
        text = self.run(self.search(out, 40), code=1, log="sticky-tune", **faulty(10))
        return f"{said} | tune: {last_line(text)} | {self.resumed(out)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks", nargs="*")
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--thalweg", type=Path, default=ROOT / "target/release/thalweg")
    parser.add_argument("--fault", type=Path)
    parser.add_argument("--tests", type=Path, nargs="*", default=[])
    parser.add_argument("--limit", type=float, default=150)
    parser.add_argument("--logs", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thalweg-failures-") as folder:
        checks = Checks(arguments, folder)
        names = ["tests", "executors", "profile", "interrupted"] + (["sticky"] if arguments.fault else [])
        run_all({}, {name: getattr(checks, name) for name in names}, arguments.checks, jobs=1)


if __name__ == "__main__":
    main()
