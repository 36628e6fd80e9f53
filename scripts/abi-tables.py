#!/usr/bin/env python3
"""Writes thalweg-nvidia/src/tensorrt/abi/tables.rs, the places of TensorRT's methods in its vtables.

Usage: abi-tables.py                  (abi/*.tsv -> tables.rs)
       abi-tables.py --headers DIR    (NVIDIA's headers -> abi/*.tsv, then as above)
       abi-tables.py --check          (writes nothing, fails if tables.rs is not what it would write)

DIR has one folder per version, called 8.6, 10.16 or rtx-1.7, each with NvInferImpl.h, NvInferRuntimeCommon.h and,
where there is one, NvOnnxParser.h. They are read for the order of their virtual methods; nothing else of them is kept.
docs/abi.md explains the scheme. Needs Python 3.9 and nothing else.
"""

import csv
import re
import sys
from pathlib import Path

CRATE = Path(__file__).resolve().parent.parent / "thalweg-nvidia"
LISTS = CRATE / "abi"
TABLES = CRATE / "src" / "tensorrt" / "abi" / "tables.rs"

# One list of slots per family, in the order of `enum Family`. Inside a family methods are only appended.
FAMILIES = ["tensorrt-8", "tensorrt-10", "tensorrt-11", "tensorrt-rtx-1"]

# Oldest minor version of each family that this layout is true of.
OLDEST = {"tensorrt-8": 5, "tensorrt-10": 0, "tensorrt-11": 0, "tensorrt-rtx-1": 5}

# The methods that Thalweg calls. `~` is the deleting destructor of classes that are called directly.
CALLED = {
    "VRuntime": ["deserializeCudaEngine", "setGpuAllocator", "setErrorRecorder", "setEngineHostCodeAllowed"],
    "VCudaEngine": [
        "getNbLayers", "getNbIOTensors", "getIOTensorName", "getTensorIOMode", "getTensorDataType",
        "getTensorLocation", "getNbOptimizationProfiles", "getDeviceMemorySize",
        "getDeviceMemorySizeForProfile", "getDeviceMemorySizeForProfileV2", "createExecutionContext",
        "createExecutionContextWithoutDeviceMemory", "createEngineInspector", "setErrorRecorder", "getNbAuxStreams",
        "getTensorShape", "getProfileShape", "isRefittable", "createRuntimeConfig",
        "createExecutionContextWithRuntimeConfig", "getTensorFormat",
    ],
    "VExecutionContext": [
        "setProfiler", "setDeviceMemory", "setDeviceMemoryV2", "setErrorRecorder",
        "setOptimizationProfileAsync", "setInputShape", "setTensorAddress", "inferShapes", "getMaxOutputSize",
        "enqueueV3", "getTensorShape", "setOutputAllocator", "setNvtxVerbosity",
    ],
    "VRuntimeConfig": [
        "setExecutionContextAllocationStrategy", "setDynamicShapesKernelSpecializationStrategy", "setCudaGraphStrategy",
    ],
    "VRefitter": [
        "refitCudaEngine", "setErrorRecorder", "setNamedWeights", "getMissingWeights", "getAllWeights",
    ],
    "VEngineInspector": ["getLayerInformation", "getEngineInformation", "setErrorRecorder"],
    "VHostMemory": ["data", "size"],
    "VBuilder": [
        "setGpuAllocator", "createBuilderConfig", "createNetworkV2", "createOptimizationProfile",
        "buildSerializedNetwork", "setErrorRecorder",
    ],
    "VBuilderConfig": [
        "setFlag", "clearFlag", "getFlag", "setMemoryPoolLimit", "getMemoryPoolLimit",
        "setProfilingVerbosity", "addOptimizationProfile", "setCalibrationProfile", "setInt8Calibrator",
        "createTimingCache", "setTimingCache", "setPreviewFeature", "setBuilderOptimizationLevel",
        "setMaxAuxStreams", "setProgressMonitor", "setTacticSources", "getTacticSources",
    ],
    "VNetworkDefinition": [
        "getNbInputs", "getInput", "getNbOutputs", "getOutput", "getNbLayers", "setErrorRecorder",
    ],
    "VTensor": ["getName", "setDimensions", "getType", "isShapeTensor", "getDimensions"],
    "VOptimizationProfile": ["setDimensions"],
    "VTimingCache": ["serialize"],
    "IParser": ["parse", "getNbErrors", "getError", "~"],
    "IParserError": ["code", "desc", "node", "nodeName", "nodeOperator"],
    "IPluginRegistry": ["loadLibrary", "getAllCreators"],
}

# Methods that moved between two patches of one minor version, and so have no place that the version tells:
# 8.6.0 has four in front of the registry's destructor that 8.6.1 has behind everything.
MOVED = {
    ("tensorrt-8", "IPluginRegistry"): {
        "isParentSearchEnabled", "setParentSearchEnabled", "loadLibrary", "deregisterLibrary", "~complete", "~",
        "setErrorRecorder", "getErrorRecorder", "deregisterCreator",
    }
}


def class_bodies(text):
    """Yields name and body of each class of a header, comments and preprocessor lines removed."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    text = re.sub(r"//[^\n]*|^\s*#[^\n]*", "", text, flags=re.M)
    for match in re.finditer(r"\bclass\s+(?:TRT_DEPRECATED\w*\s+)?(\w+)[^;{}()]*\{", text):
        depth, end = 1, match.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        yield match.group(1), text[match.end() : end]


def methods_of(body):
    """The virtual methods of a class in the order of its vtable. A destructor takes two places."""
    # Only IParser and IParserError declare one of interest: the second of its places deletes.
    for match in re.finditer(r"\bvirtual\s+[^;{}()]*?(~?\w+)\s*\(", body):
        if match.group(1).startswith("~"):
            yield "~complete"
            yield "~"
        else:
            yield match.group(1)


def read_headers(folder):
    """class -> methods of one version. Classes behind mImpl start after VRoot's destructor, so at 0."""
    classes = {}
    for header in ("NvInferImpl.h", "NvInferRuntimeCommon.h", "NvOnnxParser.h"):
        if (folder / header).is_file():
            text = (folder / header).read_text(encoding="utf-8", errors="replace")
            classes.update((name, list(methods_of(body))) for name, body in class_bodies(text) if name in CALLED)
    return classes


def family_of(version):
    name, _, number = version.rpartition("-")
    major, minor = number.split(".")
    return f"tensorrt-{name + '-' if name else ''}{major}", int(minor)


def merge(versions):
    """Rows class, slot, method, since of one family. The newest headers rule; `since` is the minor version from
    which on a method has been in its place, so that one that moved (10.8 swapped two) is refused before."""
    rows = []
    for name in CALLED:
        minors = [minor for minor in sorted(versions) if name in versions[minor]]
        for slot, method in enumerate(versions[minors[-1]][name] if minors else []):
            since = minors[-1]
            for minor in reversed(minors):
                if versions[minor][name][slot : slot + 1] != [method]:
                    break
                since = minor
            rows.append((name, slot, method, since))
    return rows


def write_lists(folder):
    families = {}
    for version in sorted(path.name for path in folder.iterdir()):
        family, minor = family_of(version)
        families.setdefault(family, {})[minor] = read_headers(folder / version)
    LISTS.mkdir(exist_ok=True)
    for family, versions in families.items():
        with open(LISTS / f"{family}.tsv", "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, delimiter="\t", lineterminator="\n")
            table.writerow(["class", "slot", "method", "since"])
            table.writerows(row for row in merge(versions) if row[2] not in MOVED.get((family, row[0]), ()))


def read_lists():
    """family -> (class, method) -> (slot, since). Of overloads the first one counts."""
    lists = {}
    for family in FAMILIES:
        with open(LISTS / f"{family}.tsv", newline="", encoding="utf-8") as file:
            found = lists.setdefault(family, {})
            for row in csv.DictReader(file, delimiter="\t"):
                since = max(int(row["since"]), OLDEST[family])
                found.setdefault((row["class"], row["method"]), (int(row["slot"]), since))
    return lists


def snake_case(name):
    name = name.replace("~", "delete").replace("IO", "Io")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def entry(class_name, method, lists):
    places = [lists[family].get((class_name, method)) for family in FAMILIES]
    if not any(places):
        sys.exit(f"no family has {class_name}::{method}")
    slots = [f"at({place[0]}, {place[1]})" if place else "NONE" for place in places]
    through = "DIRECT" if class_name.startswith("I") else "BEHIND"
    public = "I" + class_name[1:]
    name = "delete" if method == "~" else method
    constant = snake_case(method).upper()
    return f'    pub const {constant}: Method = {through}("{public}::{name}", [{", ".join(slots)}]);\n'


def tables():
    lists = read_lists()
    text = "//! Which place each method has in its vtable: written by scripts/abi-tables.py from abi/*.tsv, not by hand.\n"
    text += "//!\n//! One column per family, in the order of [`Family`](super::Family); `at(slot, minor)` says since when.\n\n"
    text += "// rustfmt would put each method on six lines.\n#![cfg_attr(rustfmt, rustfmt_skip)]\n\n"
    text += "use super::{Method, NONE, at, behind as BEHIND, direct as DIRECT};\n"
    text = text.replace("behind as BEHIND, direct as DIRECT", "behind, direct")
    for class_name, methods in CALLED.items():
        text += f"\npub mod {snake_case(class_name[1:])} {{\n    use super::*;\n\n"
        for method in methods:
            text += entry(class_name, method, lists).replace("BEHIND", "behind").replace("DIRECT", "direct")
        text += "}\n"
    return text


def main():
    arguments = sys.argv[1:]
    if arguments[:1] == ["--headers"] and len(arguments) == 2:
        write_lists(Path(arguments[1]))
    elif arguments == ["--check"]:
        sys.exit(None if TABLES.read_text(encoding="utf-8") == tables() else f"{TABLES} is not up to date")
    elif arguments:
        sys.exit(__doc__)
    TABLES.parent.mkdir(parents=True, exist_ok=True)
    TABLES.write_text(tables(), encoding="utf-8")


if __name__ == "__main__":
    main()
