"""The command lines of Thalweg that the scripts use, all in one place. Standard library only."""

import json
import subprocess
import sys
from pathlib import Path

import models

DEFAULT_BINARY = Path(__file__).resolve().parent.parent / "target" / "release" / "thalweg"


class Failed(Exception):
    """Thalweg ended with an error; the text is what it said."""


def require(binary):
    """Ends the program where there is no binary."""
    if not Path(binary).is_file():
        sys.exit(f"there is no {binary}: run `cargo build --release`, or name another with --thalweg")


def run(command):
    """Runs a command line and returns its standard output."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise Failed(f"exit status {done.returncode}: {said[-1]}")
    return done.stdout


def model_arguments(row):
    """The model, its backend and the shapes of its open dimensions."""
    return [models.path(row), "--backend=cpu", *shape_arguments(row)]


def shape_arguments(row):
    """The shapes of a model's open dimensions."""
    return [f"--shape={name}={shape}" for name, shape in models.settings(row, "shapes").items()]


def convert(binary, row, precision, output, options):
    """Converts a model and returns the report."""
    command = [binary, "convert", models.path(row), f"--precision={precision}", "-o", output, *shape_arguments(row)]
    return json.loads(run([*command, "--json", *options]))["report"]


def quantize_command(binary, row, samples, output, options):
    """The command line that quantises a model on a folder of samples, without comparing the result."""
    command = [binary, "convert", models.path(row), "--precision=int8", "-o", output, *shape_arguments(row)]
    return [*command, f"--calibrate={samples}", "--no-accuracy", "--json", *options]


def build(binary, row, model, tensorrt_dir, engine):
    """Builds an engine of a model of the table, or of one that was made of it."""
    command = [binary, "build", model, "-o", engine, f"--tensorrt-dir={tensorrt_dir}", *shape_arguments(row)]
    run([*command, "--optimization-level=0", "--no-cache", "--no-accuracy", "--json"])


def save_outputs(binary, row, inputs, outputs):
    """Runs every sample of an .npz file and writes every output into another one."""
    command = [binary, "bench", *model_arguments(row), f"--input={inputs}", f"--save-outputs={outputs}"]
    run([*command, "--duration=0.5", "--warm-up=0", "--json"])


def tune(binary, row, folder, seconds):
    """Searches the best configuration and returns the file that `measure_tuned` takes."""
    run([binary, "tune", *model_arguments(row), f"--time={seconds}", f"--out={folder}", "--json"])
    return Path(folder) / "tuned.json"


def measure_tuned(binary, tuned, seconds):
    """Measures a tuned configuration, which names its model, and returns the measurement."""
    return json.loads(run([binary, "bench", "--backend=cpu", f"--tuned={tuned}", f"--duration={seconds}", "--json"]))


def measure_one_executor(binary, row, threads, seconds):
    """Measures one executor with this many threads and returns the measurement."""
    command = [binary, "bench", *model_arguments(row), "--streams=1", f"--threads-per-stream={threads}"]
    return json.loads(run([*command, f"--duration={seconds}", "--json"]))


def throughput(measurement):
    """Inferences per second of a measurement."""
    return measurement["throughput_inferences_per_s"]["value"]


def batch_size(measurement):
    """Samples of one execution of a measurement."""
    return measurement["configuration"]["batch_size"]
