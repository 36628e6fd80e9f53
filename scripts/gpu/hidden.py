#!/usr/bin/env python3
"""Checks on a GPU that `thalweg diagnose` never is wrong by pretending: one engine, five times, with evidence hidden.

Usage: hidden.py --engine FILE [--thalweg PATH] [--streams N] [--try N] [--logs DIR] [-- OPTION...]

Everything there; NVML hidden; CUPTI hidden; counters off (`--counters off`, so neither GPM nor PM sampling); all of it
hidden. Each time there has to be a verdict, each number that the hidden part tells has to be missing with a reason or to come from somewhere else,
the verdict must not be surer than with everything, and another verdict than with everything must not be sure. A row has the verdict, its
confidence, the number and its source for what counters tell, and what the verdict says it lacks.

A library is hidden by another one of its name in a folder that is searched first (`--tensorrt-dir`): libm, which has none
of its functions. So neither a compiler nor rights are needed, and the program runs as on a machine with a library that is
broken; where it is not there at all the same error comes from the same call. TensorRT itself is on the loader's path, or in
the folder of THALWEG_TENSORRT_DIR, which is searched next. OPTIONs go to `thalweg diagnose`.

Without a graph a process has one of two speeds of the enqueue call by chance, and verdicts of two processes are no comparison:
`-- --cuda-graph=compute` makes them one.

Needs: TensorRT. Takes about half a minute without `--try`.
"""

import argparse
import ctypes
import ctypes.util
import json
import tempfile
from pathlib import Path

from checking import Commands, run_all

LIBRARIES = {
    "nvml": ["libnvidia-ml.so.1"],
    "cupti": ["libcupti.so.13", "libcupti.so.12", "libcupti.so.11"],
}
# What the device counts, by GPM or, where that is missing, by somebody else.
COUNTED = ["device_fill", "tensor_activity", "dram_fill", "pcie_rx", "pcie_tx"]
# What only NVML tells.
OF_NVML = ["clock_share"]
# What only CUPTI's record of each kernel tells.
OF_CUPTI = [
    "kernels_per_execution", "kernels_running", "largest_kernels", "grid_fill", "kernel_gaps", "launch_gaps",
    "launch_time", "launcher_busy", "launcher_waits",
]
# Words of a source that nobody has hidden: the probe with twice the streams.
PROBE = "probe"
CONFIDENCES = ["low", "medium", "high"]
ROWS = {
    "everything": [],
    "no NVML": ["nvml"],
    "no CUPTI": ["cupti"],
    "no counters": ["counters"],
    "all of it hidden": ["nvml", "cupti", "counters"],
}
LIMIT_S = 240


def stand_in():
    """A library that is on every machine and has none of NVIDIA's functions."""
    name = ctypes.util.find_library("m") or "libm.so.6"
    ctypes.CDLL(name)
    loaded = (line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libm" in line)
    return Path(next(path for path in loaded if Path(path).name.startswith(("libm.so", "libm-"))))


def hide(folder, libraries):
    """A folder to be searched first, with something else under each name of these libraries."""
    folder.mkdir(parents=True)
    for name in (name for library in libraries for name in LIBRARIES.get(library, [])):
        (folder / name).symlink_to(stand_in())
    return folder


def hidden_quantities(hidden):
    """What has to be missing, or to come from elsewhere, with these hidden."""
    wanted = {"nvml": OF_NVML + COUNTED, "cupti": OF_CUPTI, "counters": COUNTED}
    return sorted({quantity for part in hidden for quantity in wanted[part]})


def may_come_from(reading, hidden):
    """Whether a number in spite of what is hidden is honest about it: it names a source that is not hidden."""
    source = reading["source"].lower()
    if PROBE in source:
        return True
    # Counters that CUPTI samples stand in for NVML's, unless it is hidden as well.
    return "cupti" in source and not {"cupti", "counters"} & set(hidden)


def shown(reading):
    if reading is None:
        return "not asked for"
    value = "none" if reading["value"] is None else f"{reading['value']:.3g}"
    return f"{value} ({reading['source'][:70]})"


def problems(diagnosis, hidden, of_everything):
    """What is wrong with a diagnosis, in words."""
    readings = {it["quantity"]: it for it in diagnosis["evidence"]["readings"]}
    if not diagnosis["verdict"] or diagnosis["confidence"] not in CONFIDENCES:
        yield f"no verdict: {diagnosis['verdict']}, {diagnosis['confidence']}"
    for quantity, reading in readings.items():
        if reading["value"] is None and not reading["source"].strip():
            yield f"no reason why there is no {quantity}"
    for quantity in hidden_quantities(hidden):
        reading = readings.get(quantity)
        if reading is None:
            yield f"neither {quantity} nor a reason why not"
        elif reading["value"] is not None and not may_come_from(reading, hidden):
            yield f"{quantity} is there though hidden: {shown(reading)}"
    if "cupti" in hidden and diagnosis["kernels"]:
        yield "kernels were recorded without CUPTI"
    if not hidden:
        missing = [it for it in OF_NVML + OF_CUPTI if readings.get(it, {}).get("value") is None]
        yield from (f"{it} is missing with everything there: {shown(readings.get(it))}" for it in missing)
    elif of_everything:
        said, before = (CONFIDENCES.index(it["confidence"]) for it in (diagnosis, of_everything))
        if said > before:
            yield f"{diagnosis['verdict']} with {diagnosis['confidence']} confidence, and only " \
                  f"{of_everything['confidence']} ({of_everything['verdict']}) with everything"
        if diagnosis["verdict"] != of_everything["verdict"] and diagnosis["confidence"] == "high":
            yield f"surely {diagnosis['verdict']}, and {of_everything['verdict']} with everything"


def line(diagnosis):
    """A row of the table."""
    readings = {it["quantity"]: it for it in diagnosis["evidence"]["readings"]}
    first = diagnosis["limits"][0]
    rests = [f"{it} {shown(readings.get(it))}" for it in [*COUNTED[:3], *OF_NVML, OF_CUPTI[0]]]
    lacks = f"; lacks: {' '.join(diagnosis['missing'])[:160]}" if diagnosis["missing"] else ""
    return f"{diagnosis['verdict']}, {diagnosis['confidence']} confidence, {first['limit']} at {first['pressure']:.2f}\n" \
           + "".join(f"           {it}\n" for it in rests) + f"           limits and waits by events and host clock{lacks}"


class Hidden:
    """The rows, in their order: the first is what the others are held against."""

    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, folder
        self.commands = Commands(LIMIT_S, arguments.logs)
        self.of_everything = None

    def diagnose(self, name, hidden):
        given = self.arguments
        slug = name.replace(" ", "-")
        directory = hide(self.folder / slug, hidden)
        words = [given.thalweg.resolve(), "diagnose", "--engine", given.engine.resolve(), "--streams", given.streams]
        words += ["--try", given.tries, "--json", "--quiet", "--tensorrt-dir", directory, *given.options]
        words += ["--counters", "off"] if "counters" in hidden else []
        text = self.commands.run(words, log=slug)
        diagnosis, _ = json.JSONDecoder().raw_decode(text[text.index("{"):])
        return diagnosis

    def check(self, name, hidden):
        diagnosis = self.diagnose(name, hidden)
        wrong = list(problems(diagnosis, hidden, self.of_everything))
        if not hidden:
            self.of_everything = diagnosis
        if wrong:
            raise AssertionError(f"{'; '.join(wrong)}\n           {line(diagnosis)}")
        return line(diagnosis)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--thalweg", type=Path, default=Path("target/release/thalweg"))
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--streams", type=int, default=2)
    parser.add_argument("--try", dest="tries", type=int, default=1)
    parser.add_argument("--logs", type=Path)
    parser.add_argument("options", nargs="*", metavar="OPTION")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = Hidden(arguments, Path(folder))
        alone = {name: lambda name=name, hidden=hidden: rows.check(name, hidden) for name, hidden in ROWS.items()}
        run_all({}, alone, [], 1)


if __name__ == "__main__":
    main()
