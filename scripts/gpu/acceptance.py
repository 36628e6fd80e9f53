#!/usr/bin/env python3
"""Shows on a GPU what issue by issue was promised of the TensorRT backend, several checks at a time, one line each.

Usage: acceptance.py [--thalweg PATH] [--tests PATH...] [--lean DIR --own-lean DIR] [--foreign FILE] [--samples DIR]
                     [--jobs N] [--gpus N] [--fp16-level N] [--limit S] [--logs DIR] [CHECK...]

CHECK picks checks by the start of their names; all without it. `--tests` are test programs of thalweg-nvidia,
`--lean` has a lean runtime of TensorRT 10, `--own-lean` that of the builder's version, `--foreign` is a plan of another TensorRT, and `--samples` has
calibrate.npy and test.npy for open-nsfw (scripts/photographs.py). Nothing is timed here: builds share the GPU, and look
less hard for fast kernels than usual (--optimization-level), or they would take minutes each.

Needs: TensorRT on the loader's path, scripts/fetch-models.py, numpy, onnxruntime; compute-sanitizer; PyTorch.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from checking import ROOT, Commands, environment, first_line, last_line, lines_with, nearly_full, run_all

HERE = Path(__file__).resolve().parent
CLASSIFIER = ROOT / "models" / "ppocr_cls.onnx"
SHAPE = "--shape=x=1x3x48x192"
# Small ones first. Each is built in FP32 and in FP16 and compared with ONNX Runtime.
ACCURACY = [
    "ppocr-v2-direction",
    "basic-pitch",
    "magika",
    "page-orientation",
    "mobilenet_v2",
    "open-nsfw",
    "resnet50",
    "smart-turn",
    "ppocr-v4-detection",
    "bert_base",
    "ppocr-v4-recognition",
]
# The most heuristic level that still picks kernels of the wanted precision.
QUICK = 1

class Checks:
    """Each method is a check: it gives what is to be seen in one line, or raises."""

    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, Path(folder)
        self.thalweg = arguments.thalweg.resolve()
        self.timings = self.folder / "kernels.timing"
        self.run = (commands := Commands(arguments.limit, arguments.logs)).run
        self.interrupt = commands.interrupt

    def build(self, model, output, *options, level=QUICK, **how):
        command = [self.thalweg, "build", model, "-o", output, "--no-cache", f"--optimization-level={level}"]
        command.append(f"--timing-cache={self.timings}")
        return self.run([*command, *options], **how)

    def tests(self):
        said = []
        for program in self.arguments.tests:
            text = self.run([program, "--ignored", "--test-threads=1", "--nocapture"], log=program.stem)
            said.append(next(line for line in text.splitlines() if line.startswith("test result")))
        return "; ".join(said)

    def accuracy(self, name):
        command = [sys.executable, HERE / "accuracy.py", "--thalweg", self.thalweg, "--threads=2", name]
        command += [f"--timing-cache={self.timings}", f"--fp16-level={self.arguments.fp16_level}"]
        return " | ".join(self.run(command, log=f"accuracy-{name}").strip().splitlines())

    def lean(self):
        """An engine with version compatibility, and one without, on the lean runtimes of its own version and of TensorRT
        10, whose words are what is shown: 10.16 refuses those of 8.6.0."""
        said = []
        model = self.folder / "lean.onnx"
        self.run([self.thalweg, "model", self.arguments.small, "-o", model])
        for kind, options in (("compatible", ["--version-compatible"]), ("plain", [])):
            engine = self.folder / f"{kind}.plan"
            self.build(model, engine, "--no-accuracy", *options, level=0)
            command = [self.thalweg, "bench", "--engine", engine, "--backend=tensorrt", "--duration=1", "--streams=2"]
            for name, folder in (("own", self.arguments.own_lean), ("later", self.arguments.lean)):
                code = 0 if (kind, name) == ("compatible", "own") else 1
                text = self.run([*command, "--tensorrt-dir", folder.resolve()], code, log=f"lean-{kind}-{name}")
                wanted = "inferences/s" if code == 0 else "TensorRT cannot load the engine"
                assert wanted in text, f"{kind} on {name}: {last_line(text)}"
                said.append(f"{kind} on {name}: {next(line for line in text.splitlines() if wanted in line).strip()}")
        return " | ".join(said)

    def int8(self):
        samples = self.arguments.samples
        model, engine = ROOT / ".models" / "open-nsfw.onnx", self.folder / "int8.plan"
        how = ["--precision=int8", "--calibrate", samples / "calibrate.npy", "--input", samples / "test.npy"]
        shape = "--shape=input:0=1x224x224x3"
        text = self.build(model, engine, shape, *how, "--batch=8", "--max-loss=cosine=0.9", log="int8")
        second = self.folder / "refused.plan"
        refused = self.build(model, second, shape, *how, "--batch=8", "--max-loss=rel=0.000001", code=1, log="int8-refused")
        assert not second.exists(), "a refused engine was written"
        return " | ".join([*lines_with(text, "cosine", "top-1", "prob"), f"refused: {last_line(refused)}"])

    def sanitizer(self, what):
        """compute-sanitizer's memcheck over a build of a small network, or a run of it with a kind of graph."""
        model, engine = self.folder / f"{what}.onnx", self.folder / f"{what}.plan"
        self.run([self.thalweg, "model", self.arguments.small, "-o", model])
        # Every kernel that is loaded is rewritten: only what is used.
        # With the queues set Thalweg does not start itself again, which would shake the sanitizer off.
        lazy = {"env": os.environ | {"CUDA_MODULE_LOADING": "LAZY", "CUDA_DEVICE_MAX_CONNECTIONS": "32"}}
        memcheck = ["compute-sanitizer", "--tool=memcheck", "--error-exitcode=99", self.thalweg]
        if what == "build":
            job = ["build", model, "-o", engine, "--no-cache", "--no-accuracy", "--optimization-level=0"]
        else:
            self.build(model, engine, "--no-accuracy", level=0)
            job = ["bench", "--engine", engine, "--backend=tensorrt", "--warm-up=0.1", "--duration=0.3"]
            job += ["--streams=4", "--depth=2", f"--cuda-graph={what}"]
        text = self.run([*memcheck, *job], log=f"sanitizer-{what}", **lazy)
        errors = next(line for line in text.splitlines() if "ERROR SUMMARY" in line).strip("= ")
        return " | ".join([errors, *lines_with(text, "verification", "built in")])

    def interrupted(self):
        """SIGINT in the middle of a build ends the process, says so and writes nothing."""
        engine = self.folder / "interrupted.plan"
        command = [self.thalweg, "build", CLASSIFIER, "-o", engine, SHAPE, "--cache", self.folder / "cache-i"]
        code, said, seconds = self.interrupt(command, after=20, signal=signal.SIGINT)
        left = [path.name for path in (self.folder / "cache-i").rglob("*") if path.suffix not in (".lock", "")]
        assert code == 130, f"code {code}: {last_line(said)}"
        assert not engine.exists(), "an engine was written"
        return f"code {code} after {seconds:.1f} s, left {left}: {last_line(said)}"

    def foreign(self):
        """A plan of another TensorRT, and a truncated one."""
        command = [self.thalweg, "bench", "--backend=tensorrt", "--duration=1", "--engine"]
        other = self.run([*command, self.arguments.foreign.resolve()], code=1, log="foreign")
        own, cut = self.folder / "own.plan", self.folder / "cut.plan"
        self.build(CLASSIFIER, own, SHAPE, "--no-accuracy", level=0)
        cut.write_bytes(own.read_bytes()[: own.stat().st_size // 2])
        return f"foreign: {last_line(other)} | cut: {last_line(self.run([*command, cut], code=1, log='cut'))}"

    def together(self):
        """Two processes that want the same engine: one builds, the other takes what the first has built."""
        command = [self.thalweg, "build", CLASSIFIER, SHAPE, "--cache", self.folder / "cache-t", "--no-accuracy"]
        command += [f"--optimization-level={QUICK}", "-o"]
        words = [[str(word) for word in (*command, self.folder / f"{name}.plan")] for name in "ab"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        both = [subprocess.Popen(one, env=environment(), **pipes) for one in words]
        said = [process.communicate(timeout=self.arguments.limit)[0] for process in both]
        assert all(process.returncode == 0 for process in both), said
        same = (self.folder / "a.plan").read_bytes() == (self.folder / "b.plan").read_bytes()
        assert same, "the two processes have different engines"
        return "the same bytes; " + " | ".join(first_line(text) for text in said)

    def doctor(self):
        text = self.run([self.thalweg, "doctor"], log="doctor")
        return f"{len(text.splitlines())} lines: {first_line(text)}"

    def memory(self):
        """A build on a GPU that another process has filled; it comes last, since it disturbs all others."""
        with nearly_full(left_mib=400):
            model, engine = self.folder / "r.onnx", self.folder / "full.plan"
            self.run([self.thalweg, "model", "resnet50", "-o", model])
            text = self.build(model, engine, "--batch=512", "--no-accuracy", code=1, log="memory")
            assert not engine.exists(), "an engine was written"
            return last_line(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks", nargs="*")
    parser.add_argument("--thalweg", type=Path, default=ROOT / "target/release/thalweg")
    parser.add_argument("--tests", type=Path, nargs="*", default=[])
    parser.add_argument("--lean", type=Path)
    parser.add_argument("--own-lean", type=Path)
    parser.add_argument("--foreign", type=Path)
    parser.add_argument("--samples", type=Path)
    parser.add_argument("--small", default="transfer", help="network of `thalweg model` for compute-sanitizer")
    parser.add_argument("--jobs", type=int, default=2, help="builds at once; they time kernels, so six take six times as long")
    parser.add_argument("--gpus", type=int, default=1, help="that checks are spread over, one at a time on each")
    parser.add_argument("--fp16-level", type=int, default=QUICK, help="of accuracy: how hard to look for FP16 kernels")
    parser.add_argument("--limit", type=float, default=400)
    parser.add_argument("--logs", type=Path)
    arguments = parser.parse_args()
    needs = {"lean": arguments.lean and arguments.own_lean, "foreign": arguments.foreign, "int8": arguments.samples, "tests": arguments.tests}
    with tempfile.TemporaryDirectory(prefix="thalweg-acceptance-") as folder:
        checks = Checks(arguments, folder)
        jobs = {name: getattr(checks, name) for name in ("doctor", "int8", "lean", "together", "foreign")}
        memchecks = ("build", "off", "compute", "copies")
        jobs |= {f"sanitizer {what}": lambda what=what: checks.sanitizer(what) for what in memchecks}
        jobs |= {f"accuracy {name}": lambda name=name: checks.accuracy(name) for name in ACCURACY}
        jobs["interrupted"] = checks.interrupted
        # They need the GPU's memory for themselves.
        alone = {"tests": checks.tests, "memory": checks.memory}
        for name in [name for name, needed in needs.items() if not needed]:
            print(f"SKIPPED {name}: its option is not given", flush=True)
            jobs.pop(name, None), alone.pop(name, None)
        run_all(jobs, alone, arguments.checks, arguments.jobs, arguments.gpus)


if __name__ == "__main__":
    main()
