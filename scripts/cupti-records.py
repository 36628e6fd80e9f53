#!/usr/bin/env python3
"""Writes thalweg-nvidia/src/cupti/layout.rs, where the fields of CUPTI's activity records are.

Usage: cupti-records.py HEADER...            (NVIDIA's headers -> layout.rs)
       cupti-records.py --check HEADER...    (writes nothing, fails if layout.rs is not what it would write)

HEADER is a cupti_activity.h, or a wheel that has one: nvidia-cuda-cupti, for CUDA 12 nvidia-cuda-cupti-cu12, for CUDA 11
nvidia-cuda-cupti-cu11. Of each the newest version of every record is read for the sizes of its fields, and all headers
must agree on each field that Thalweg reads: NVIDIA only appends fields. Nothing else of a header is kept. Needs Python
3.9 and nothing else.
"""

import re
import sys
import zipfile
from pathlib import Path

LAYOUT = Path(__file__).resolve().parent.parent / "thalweg-nvidia" / "src" / "cupti" / "layout.rs"

# The fields that Thalweg reads, by record.
RECORDS = {
    "Kernel": [
        "registersPerThread", "start", "end", "deviceId", "contextId", "streamId", "gridX", "gridY", "gridZ", "blockX",
        "blockY", "blockZ", "staticSharedMemory", "dynamicSharedMemory", "correlationId", "name", "graphId",
    ],
    "Memcpy": [
        "copyKind", "srcKind", "dstKind", "bytes", "start", "end", "deviceId", "contextId", "streamId", "correlationId",
        "graphId",
    ],
    "Memset": ["bytes", "start", "end", "deviceId", "contextId", "streamId", "correlationId", "graphId"],
    "API": ["cbid", "start", "end", "threadId", "correlationId"],
    "Stream": ["contextId", "streamId", "flag"],
    "GraphTrace": ["correlationId", "start", "end", "deviceId", "graphId", "contextId", "streamId"],
}

# Sizes on 64-bit Linux. All other types of fields are enumerations, which are an int.
SIZES = {"uint8_t": 1, "uint16_t": 2, "uint64_t": 8, "int64_t": 8, "double": 8}
ENUMERATION = 4


def without_noise(text):
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    text = re.sub(r"//[^\n]*", "", text)
    # CUPTILP64 is defined on every 64-bit system.
    return re.sub(r"^\s*#\s*(ifdef CUPTILP64|endif).*$", "", text, flags=re.M)


def struct_body(text, record):
    """What is between the braces of the newest version of a record."""
    found = re.findall(rf"^}}\s*CUpti_Activity{record}(\d*);", text, flags=re.M)
    if not found:
        sys.exit(f"there is no CUpti_Activity{record}")
    name = f"CUpti_Activity{record}{max(found, key=lambda number: int(number or 0))}"
    head = text[: re.search(rf"^}}\s*{name};", text, flags=re.M).start()]
    return head[head.rindex("typedef struct") :].split("{", 1)[1]


def offsets(body):
    """Offset and size of each field. Nothing is between them: the records are packed, or filled up by hand."""
    # The one union of these records is a byte.
    body = re.sub(r"union\s*{.*?}\s*cacheConfig;", "uint8_t cacheConfig;", body, flags=re.S)
    fields, offset = {}, 0
    for declaration in filter(None, (line.strip() for line in body.split(";"))):
        match = re.fullmatch(r"(?:const\s+)?(\w+)\s*(\**)\s*(\w+)(?:\[(\d+)\])?", " ".join(declaration.split()))
        if not match:
            sys.exit(f"cannot read the field `{declaration}`")
        kind, pointer, name, count = match.groups()
        size = 8 if pointer else SIZES.get(kind, ENUMERATION)
        fields[name] = (offset, size)
        offset += size * int(count or 1)
    return fields


def places(header):
    text = without_noise(header)
    found = {}
    for record, fields in RECORDS.items():
        all_fields = offsets(struct_body(text, record))
        missing = [field for field in fields if field not in all_fields]
        if missing:
            sys.exit(f"CUpti_Activity{record} has no {', '.join(missing)}")
        found[record] = {field: all_fields[field] for field in fields}
    return found


def constant(field):
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", field).upper()


def rust(layout):
    lines = [
        "//! Where the fields of CUPTI's activity records are, in bytes from the start of a record.",
        "//!",
        "//! Written by `scripts/cupti-records.py` from NVIDIA's headers of CUPTI 11.8 to 13.4, which agree on all of",
        "//! these: do not edit.",
        "",
    ]
    for record, fields in layout.items():
        lines += [f"/// `CUpti_Activity{record}`.", f"pub(crate) mod {record.lower().replace('graphtrace', 'graph_trace')} {{"]
        lines += [f"    pub(crate) const {constant(field)}: usize = {offset};" for field, (offset, _) in fields.items()]
        lines += ["    /// Bytes up to the end of the last of them."]
        lines += [f"    pub(crate) const LENGTH: usize = {max(offset + size for offset, size in fields.values())};"]
        lines += ["}", ""]
    return "\n".join(lines)


def text_of(path):
    """A header, or the one in a wheel."""
    if path.suffix != ".whl":
        return path.read_text()
    wheel = zipfile.ZipFile(path)
    return wheel.read(next(name for name in wheel.namelist() if name.endswith("/cupti_activity.h"))).decode()


def main():
    words = sys.argv[1:]
    is_check = words[:1] == ["--check"]
    paths = words[1:] if is_check else words
    if not paths or any(path.startswith("-") for path in paths):
        sys.exit(__doc__)
    headers = [(path, text_of(Path(path))) for path in paths]
    first_name, first = headers[0][0], places(headers[0][1])
    for name, header in headers[1:]:
        if places(header) != first:
            sys.exit(f"{name} and {first_name} disagree: {places(header)} and {first}")
    if not is_check:
        LAYOUT.parent.mkdir(exist_ok=True)
        LAYOUT.write_text(rust(first))
    elif LAYOUT.read_text() != rust(first):
        sys.exit(f"{LAYOUT} is not what these headers say")
    print(f"{len(headers)} headers agree on {sum(map(len, first.values()))} fields of {len(first)} records")


if __name__ == "__main__":
    main()
