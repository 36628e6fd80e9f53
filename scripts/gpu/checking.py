"""What the scripts of checks share: running a command, one line for each check, a GPU that is nearly full."""

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# A process that fills the GPU but for so many MiB, then waits.
HOG = """
import sys, time, torch
free, _ = torch.cuda.mem_get_info()
hog = torch.empty(free - int(sys.argv[1]) * 2**20, dtype=torch.uint8, device="cuda")
print("full", flush=True)
time.sleep(600)
"""


# The GPU that the checks of this thread have to themselves, where there are several.
THREAD = threading.local()


def environment(given=None):
    """That of this process, or the given one, with the GPU of this thread alone."""
    gpu = getattr(THREAD, "gpu", None)
    return {**(given or os.environ), **({} if gpu is None else {"CUDA_VISIBLE_DEVICES": str(gpu)})}


class Commands:
    """Runs commands from the root of the repository, each within a time limit."""

    def __init__(self, limit, logs=None):
        self.limit, self.logs = limit, logs
        if logs:
            logs.mkdir(parents=True, exist_ok=True)

    def run(self, words, code=0, log=None, **how):
        """Runs a command that has to end with a code, any where it is None, and gives what it printed."""
        words = [str(word) for word in words]
        how["env"] = environment(how.get("env"))
        done = subprocess.run(words, capture_output=True, text=True, timeout=self.limit, cwd=ROOT, **how)
        text = done.stdout + done.stderr
        self.keep(log, text)
        if code is not None and done.returncode != code:
            raise RuntimeError(f"ended with {done.returncode} instead of {code}: {last_line(text)}")
        return text

    def interrupt(self, words, after, signal, log=None):
        """Sends a running command a signal; gives its exit code, what it printed and the seconds that it still took."""
        words = [str(word) for word in words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        process = subprocess.Popen(words, cwd=ROOT, env=environment(), **pipes)
        time.sleep(after)
        process.send_signal(signal)
        start = time.monotonic()
        try:
            text, _ = process.communicate(timeout=60)
        finally:
            process.kill()  # it would keep the GPU from the checks to come
        self.keep(log, text)
        return process.returncode, text, time.monotonic() - start

    def keep(self, log, text):
        if log and self.logs:
            (self.logs / f"{log}.txt").write_text(text)


@contextlib.contextmanager
def nearly_full(left_mib):
    """While it lasts, another process has all of the GPU's memory but so much."""
    words = [sys.executable, "-c", HOG, str(left_mib)]
    hog = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment())
    try:
        assert hog.stdout.readline().strip() == "full", "the GPU could not be filled"
        yield
    finally:
        hog.kill()
        hog.wait()


def first_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else "nothing"


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing"


def lines_with(text, *words):
    """The lines in which one of these words occurs."""
    return [line.strip() for line in text.splitlines() if any(word in line for word in words)]


def report(name, check):
    """Runs a check and prints a line; whether it passed."""
    start = time.monotonic()
    try:
        verdict, said = "ok", check()
    except subprocess.TimeoutExpired as late:
        verdict, said = "LATE", f"not done after {late.timeout:.0f} s: {last_line((late.stdout or b'').decode())}"
    except Exception as failure:  # whatever it is, the other checks go on
        verdict, said = "FAILED", f"{type(failure).__name__}: {failure}"
    print(f"{verdict:6} {name:28} {time.monotonic() - start:5.0f} s  {said[:900]}", flush=True)
    return verdict == "ok"


def run_all(together, alone, wanted, jobs, gpus=1):
    """Runs the checks whose names start with one of `wanted`, all where it is empty, and ends the script: those of
    `together` so many at a time, then those that need a GPU for themselves. Several GPUs have one check each."""
    chosen = lambda checks: [item for item in checks.items() if not wanted or item[0].startswith(tuple(wanted))]  # noqa: E731
    if gpus > 1:
        together, alone, jobs = together | alone, {}, gpus
    free = queue.SimpleQueue()
    for worker in range(jobs):
        free.put(worker if gpus > 1 else None)

    def on_a_gpu(item):
        THREAD.gpu = free.get()
        try:
            return report(*item)
        finally:
            free.put(THREAD.gpu)

    with ThreadPoolExecutor(jobs) as workers:
        verdicts = list(workers.map(on_a_gpu, chosen(together)))
    verdicts += [report(*item) for item in chosen(alone)]
    print(f"{sum(verdicts)} of {len(verdicts)} checks passed")
    sys.exit(0 if verdicts and all(verdicts) else 1)
