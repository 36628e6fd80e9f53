"""What scripts over the table of real models share: their models, a folder to work in, and a line on each. Standard
library only."""

import contextlib
import sys
import tempfile
from pathlib import Path

import models
import thalweg


def rows(arguments):
    """The rows that were asked for; ends the program where a model or the binary is missing."""
    chosen = models.read_table(arguments.names)
    models.require(chosen)
    thalweg.require(arguments.thalweg)
    return chosen


@contextlib.contextmanager
def folder(arguments, prefix):
    """The folder of --keep, made where it is missing, or one that goes away again."""
    with tempfile.TemporaryDirectory(prefix=prefix) as temporary:
        chosen = arguments.keep or Path(temporary)
        chosen.mkdir(parents=True, exist_ok=True)
        yield chosen


def over(arguments, prefix, work):
    """What `work(row, arguments, folder)` gives for each model, in order."""
    chosen, results = rows(arguments), []
    with folder(arguments, prefix) as place:
        for row in chosen:
            print(f"{row['name']} ...", file=sys.stderr)
            results.append(work(row, arguments, place))
    return results
