#!/usr/bin/env python3
"""Checks thalweg-nvidia/src/cupti/pm_sampling/parameters.rs against NVIDIA's headers, and writes nothing.

Usage: cupti-parameters.py WHEEL...

WHEEL is nvidia-cuda-cupti, or for CUDA 12 nvidia-cuda-cupti-cu12, of 12.6 or newer. NVIDIA only appends fields to these
structures, so each of ours must be the beginning of NVIDIA's, field by field, in name and type, and be all of the oldest
one's. Constants are compared with their enumerations. Needs Python 3.9 and nothing else.
"""

import re
import sys
import zipfile
from pathlib import Path

OURS = (
    Path(__file__).resolve().parent.parent / "thalweg-nvidia" / "src" / "cupti" / "pm_sampling" / "parameters.rs"
)
HEADERS = ["cupti_target.h", "cupti_profiler_target.h", "cupti_profiler_host.h", "cupti_pmsampling.h"]

# Sizes of C's types on 64-bit Linux, and of Rust's. All other types of fields are enumerations, which are an int.
C_SIZES = {"size_t": 8, "uint64_t": 8, "uint32_t": 4, "uint8_t": 1, "double": 8}
RUST_SIZES = {"usize": 8, "u64": 8, "u32": 4, "u8": 1, "f64": 8, "c_int": 4}
# Our constants, by NVIDIA's names.
CONSTANTS = {
    "PROFILER_TYPE_PM_SAMPLING": "CUPTI_PROFILER_TYPE_PM_SAMPLING",
    "TRIGGER_SYSCLK": "CUPTI_PM_SAMPLING_TRIGGER_MODE_GPU_SYSCLK_INTERVAL",
    "TRIGGER_TIME": "CUPTI_PM_SAMPLING_TRIGGER_MODE_GPU_TIME_INTERVAL",
    "DECODE_STOPPED_AT_END": "CUPTI_PM_SAMPLING_DECODE_STOP_REASON_END_OF_RECORDS",
}


def snake(name):
    """NVIDIA's name of a field as ours: without the p of a pointer."""
    name = re.sub(r"^p{1,2}(?=[A-Z])", "", name)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def headers_of(wheel):
    files = zipfile.ZipFile(wheel)
    texts = []
    for header in HEADERS:
        name = next((name for name in files.namelist() if name.endswith(f"/{header}")), None)
        if name is None:
            sys.exit(f"{wheel} has no {header}: it is older than 12.6")
        texts.append(files.read(name).decode())
    text = re.sub(r"/\*.*?\*/", "", "\n".join(texts), flags=re.S)
    return re.sub(r"//[^\n]*", "", text)


def structures_of(text):
    """Fields behind the two that all have, as name and size, by structure."""
    found = {}
    for body, name in re.findall(r"typedef struct \w+\s*{([^{}]*)}\s*CUpti_(\w+)_Params;", text):
        fields = []
        for declaration in filter(None, (" ".join(part.split()) for part in body.split(";"))):
            kind, field = re.fullmatch(r"(.*?)\s*\b(\w+)", declaration).groups()
            bare = kind.replace("const", "").replace("struct", "").strip()
            fields.append((snake(field), 8 if "*" in kind else C_SIZES.get(bare, 4)))
        if [field for field, _ in fields[:2]] != ["struct_size", "priv"]:
            sys.exit(f"CUpti_{name}_Params does not begin as all others")
        found[name.replace("_", "")] = fields[2:]
    return found


def enumerations_of(text):
    values = {}
    for body in re.findall(r"typedef enum \w*\s*{([^{}]*)}", text):
        number = -1
        for entry in filter(None, (" ".join(part.split()) for part in body.split(","))):
            name, _, value = entry.partition("=")
            number = int(value, 0) if re.fullmatch(r"\s*(0x)?[0-9a-fA-F]+\s*", value) else number + 1
            values[name.strip()] = number
    return values


def ours():
    text = re.sub(r"//[^\n]*", "", OURS.read_text())
    body = re.search(r"^parameters! {\n(.*?)^}", text, flags=re.S | re.M).group(1)
    structures = {}
    for name, fields in re.findall(r"(\w+)\s*{([^{}]*)}", body):
        pairs = re.findall(r"(\w+):\s*([^,]+),", fields)
        structures[name] = [(field, 8 if kind.startswith("*") else RUST_SIZES[kind.strip()]) for field, kind in pairs]
    constants = {name: int(value) for name, value in re.findall(r"const (\w+): c_int = (\d+);", text)}
    return structures, constants


def main():
    wheels = sys.argv[1:]
    if not wheels or any(wheel.startswith("-") for wheel in wheels):
        sys.exit(__doc__)
    structures, constants = ours()
    if set(constants) != set(CONSTANTS):
        sys.exit(f"{OURS} has the constants {', '.join(sorted(constants))}")
    shortest = {}
    for wheel in wheels:
        text = headers_of(Path(wheel))
        theirs, values = structures_of(text), enumerations_of(text)
        for name, fields in structures.items():
            if theirs.get(name, [])[: len(fields)] != fields:
                sys.exit(f"{wheel}: {name} is {theirs.get(name)}, but ours is {fields}")
            shortest[name] = min(shortest.get(name, 1000), len(theirs[name]))
        for name, value in constants.items():
            if values.get(CONSTANTS[name]) != value:
                sys.exit(f"{wheel}: {CONSTANTS[name]} is {values.get(CONSTANTS[name])}, but {name} is {value}")
    for name, count in shortest.items():
        if count != len(structures[name]):
            print(f"{name} has {count} fields in all of these, and {len(structures[name])} here")
    print(f"{len(wheels)} wheels agree on {sum(map(len, structures.values()))} fields of {len(structures)} structures")


if __name__ == "__main__":
    main()
