"""Downloads wheels with pip, without installing them. Standard library only."""

import os
import subprocess
import sys
from pathlib import Path

# The exit code of a script that could not reach the package index: what it needs may be there later (sysexits.h).
UNREACHABLE = os.EX_TEMPFAIL

# What pip says where it got no answer. An answer that it did not like, such as an unknown version, is not among them.
NO_ANSWER = (
    "Failed to establish a new connection", "NewConnectionError", "NameResolutionError", "Max retries exceeded",
    "ConnectTimeoutError", "ReadTimeoutError", "Read timed out", "ProxyError", "Connection reset", "Connection aborted",
    "RemoteDisconnected", "500 Server Error", "502 Server Error", "503 Server Error", "504 Server Error",
)


class Unreachable(RuntimeError):
    """The package index gave no answer."""


# The wheel that every machine gets, whatever it runs itself: what is in it is the same, but the files that were
# checked are these.
WHEEL = ["--only-binary=:all:", "--platform=manylinux_2_28_x86_64", "--platform=manylinux_2_17_x86_64", "--implementation=cp"]


def require_pip():
    """Ends the program where this Python has no pip."""
    probe = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True)
    if probe.returncode != 0:
        sys.exit(
            f"{sys.executable} has no pip: install it (`{sys.executable} -m ensurepip`, or the package "
            "python3-pip), or run this script with a Python that has it"
        )


def download(requirement, folder, python="3.12"):
    """Downloads one wheel, that of a version of Python, and returns its path, or raises RuntimeError with what pip said, Unreachable where it got no
    answer."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    # Of a first try that got no answer pip says nothing, of another one it does: see NO_ANSWER.
    command += ["--retries=3", *WHEEL, f"--python-version={python}", f"--dest={folder}", requirement]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        is_unreachable = any(reason in done.stdout for reason in NO_ANSWER)
        kind = Unreachable if is_unreachable else RuntimeError
        raise kind(f"pip cannot download {requirement}:\n{done.stdout.strip()}")
    return next(Path(folder).glob("*.whl"))


def exit_code(errors):
    """What a script ends with after these errors: nothing else than an index out of reach is no fault of its own."""
    if not errors:
        return 0
    return UNREACHABLE if all(isinstance(error, Unreachable) for error in errors) else 1
