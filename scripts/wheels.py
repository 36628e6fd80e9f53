"""Downloads wheels with pip, without installing them. Standard library only."""

import subprocess
import sys
from pathlib import Path

# The wheel that every machine gets, whatever it runs itself: what is in it is the same, but the files that were
# checked are these.
WHEEL = ["--only-binary=:all:", "--platform=manylinux_2_28_x86_64", "--python-version=3.12", "--implementation=cp"]


def require_pip():
    """Ends the program where this Python has no pip."""
    probe = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True)
    if probe.returncode != 0:
        sys.exit(
            f"{sys.executable} has no pip: install it (`{sys.executable} -m ensurepip`, or the package "
            "python3-pip), or run this script with a Python that has it"
        )


def download(requirement, folder):
    """Downloads one wheel and returns its path, or raises RuntimeError with what pip said."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += [*WHEEL, f"--dest={folder}", requirement]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"pip cannot download {requirement}:\n{done.stdout.strip()}")
    return next(Path(folder).glob("*.whl"))
