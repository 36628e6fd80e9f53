#!/usr/bin/env python3
"""Fetches the parts of TensorRT that work without a GPU, for the tests of thalweg-nvidia.

Usage: fetch-tensorrt.py [FOLDER]      (default: .tensorrt/)

They are TensorRT for RTX, whose builder and ONNX parser need no GPU, and three lean runtimes. tensorrt.tsv names
them: folder below FOLDER, package, version, file in its wheel, SHA-256 of that file, the Python of the wheel. Each package is downloaded
with pip at its pinned version, without its dependencies and without installing it; only these files are kept, and
only if their SHA-256 is the pinned one. What is there and right is not fetched again, and a file appears whole or
not at all. NVIDIA's licence of each package applies to its files; none of them is a part of Thalweg.

Exit codes: 0 all are there, 75 the package index cannot be reached, 1 anything else.
Needs: Python 3.9 with pip, x86-64 Linux, 480 MB of disk; nothing else.
"""

import csv
import hashlib
import os
import sys
import tempfile
import zipfile
from pathlib import Path

import wheels

TABLE = Path(__file__).with_name("tensorrt.tsv")
FOLDER = Path(__file__).resolve().parent.parent / ".tensorrt"


def read_table():
    with open(TABLE, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def path(row, folder):
    """Where a file is, or will be."""
    return folder / row["folder"] / Path(row["file"]).name


def digest(file):
    with open(file, "rb") as stream:
        sha256 = hashlib.sha256()
        while block := stream.read(1 << 20):
            sha256.update(block)
        return sha256.hexdigest()


def is_there(row, folder):
    """Whether a file is there, whole and unchanged."""
    return path(row, folder).is_file() and digest(path(row, folder)) == row["sha256"]


def unpack(wheel, row, folder):
    """Writes one file, or raises RuntimeError where the wheel has another one than the pinned."""
    target = path(row, folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with wheel.open(row["file"]) as packed, open(part, "wb") as out:
            while block := packed.read(1 << 20):
                out.write(block)
        found = digest(part)
        if found != row["sha256"]:
            raise RuntimeError(f"{row['file']}: expected sha256 {row['sha256']}, got {found}")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    print(f"{row['folder']}/{target.name}: {target.stat().st_size / 1e6:.0f} MB from {row['package']} {row['version']}")


def fetch(requirement, rows, folder):
    """Fetches all files of one package."""
    with tempfile.TemporaryDirectory(prefix="thalweg-tensorrt-") as temporary:
        with zipfile.ZipFile(wheels.download(requirement, temporary, rows[0]["python"])) as wheel:
            for row in rows:
                unpack(wheel, row, folder)


def main():
    arguments = sys.argv[1:]
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        sys.exit(__doc__)
    folder = Path(arguments[0]) if arguments else FOLDER
    rows = read_table()
    packages = {}
    for row in rows:
        if not is_there(row, folder):
            packages.setdefault(f"{row['package']}=={row['version']}", []).append(row)
    errors = []
    for requirement, missing in packages.items():
        try:
            fetch(requirement, missing, folder)
        except (RuntimeError, KeyError, OSError, zipfile.BadZipFile) as error:
            print(f"{requirement}: {error}", file=sys.stderr)
            errors.append(error)
    print(f"{sum(path(row, folder).is_file() for row in rows)} of {len(rows)} libraries are in {folder}")
    sys.exit(wheels.exit_code(errors))


if __name__ == "__main__":
    main()
