#!/usr/bin/env python3
"""A PyTorch program to be watched: a good one, or one with a planted fault.

Usage: watched.py NAME [--seconds S]

NAME is one of the functions below. Each runs items for so many seconds after a warm-up and prints its items per second
as the last line of its output. Every program computes on big matrices, so that a fault costs time and nothing else does.
"""

import argparse
import json
import time

import torch

SLOTS = 3  # items in flight


class Multiplications:
    """Some products of half-precision matrices, without allocations."""

    def __init__(self, size, count):
        self.weights = [torch.randn(size, size, device="cuda", dtype=torch.half) / size**0.5 for _ in range(count)]
        self.results = [torch.empty(size, size, device="cuda", dtype=torch.half) for _ in range(2)]

    def __call__(self, inputs):
        for index, weight in enumerate(self.weights):
            torch.mm(inputs, weight, out=self.results[index % 2])
            inputs = self.results[index % 2]
        return inputs


class Slots:
    """Inputs on the host and on the device, and when each slot is free again."""

    def __init__(self, size, is_pinned):
        host = [torch.randn(size, size).half() for _ in range(SLOTS)]
        self.host = [inputs.pin_memory() for inputs in host] if is_pinned else host
        self.device = [torch.empty(size, size, device="cuda", dtype=torch.half) for _ in range(SLOTS)]
        self.copied = [torch.cuda.Event() for _ in range(SLOTS)]
        self.done = [torch.cuda.Event() for _ in range(SLOTS)]


def good():
    """Pinned memory, copies in a stream of their own, and a wait for the item before the last ones only."""
    slots, multiply = Slots(4096, is_pinned=True), Multiplications(4096, 8)
    copying, computing = torch.cuda.Stream(), torch.cuda.Stream()

    def item(number):
        slot = number % SLOTS
        slots.done[slot].synchronize()
        with torch.cuda.stream(copying):
            slots.device[slot].copy_(slots.host[slot], non_blocking=True)
            slots.copied[slot].record()
        with torch.cuda.stream(computing):
            computing.wait_event(slots.copied[slot])
            multiply(slots.device[slot])
            slots.done[slot].record()

    return item


def pageable():
    """As `good`, but the inputs are not pinned."""
    slots, multiply = Slots(4096, is_pinned=False), Multiplications(4096, 8)
    computing = torch.cuda.Stream()

    def item(number):
        slot = number % SLOTS
        slots.done[slot].synchronize()
        with torch.cuda.stream(computing):
            slots.device[slot].copy_(slots.host[slot], non_blocking=True)
            multiply(slots.device[slot])
            slots.done[slot].record()

    return item


def default_stream():
    """As `good`, but all in the default stream."""
    slots, multiply = Slots(4096, is_pinned=True), Multiplications(4096, 8)

    def item(number):
        slot = number % SLOTS
        slots.done[slot].synchronize()
        slots.device[slot].copy_(slots.host[slot], non_blocking=True)
        multiply(slots.device[slot])
        slots.done[slot].record()

    return item


def synchronisation():
    """Inputs that stay on the device, and one number of each result brought back at once."""
    multiply, computing = Multiplications(2048, 6), torch.cuda.Stream()
    inputs = torch.randn(2048, 2048, device="cuda", dtype=torch.half)

    def item(_number):
        with torch.cuda.stream(computing):
            return multiply(inputs)[0, 0].item()

    return item


def small_launches():
    """Many kernels that take less time than their launches."""
    values, computing = torch.zeros(1024, device="cuda"), torch.cuda.Stream()

    def item(_number):
        with torch.cuda.stream(computing):
            for _ in range(500):
                values.add_(1.0)
        if _number % 20 == 19:
            computing.synchronize()

    return item


def captured(kernels, replays):
    values, computing = torch.zeros(1 << 20, device="cuda"), torch.cuda.Stream()
    values.add_(1.0)  # loads the kernel, which a capture must not
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=computing):
        for _ in range(kernels):
            values.add_(1.0)

    def item(number):
        with torch.cuda.stream(computing):
            graph.replay()
        if number % replays == replays - 1:
            computing.synchronize()

    return item


def graphs():
    """A CUDA graph of twenty small kernels, replayed somewhat more than 10,000 times a second."""
    return captured(20, 200)


def tiny_graphs():
    """A CUDA graph of one kernel, replayed as often as the host can."""
    return captured(1, 200)


PROGRAMS = [good, pageable, default_stream, synchronisation, small_launches, graphs, tiny_graphs]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[program.__name__ for program in PROGRAMS])
    parser.add_argument("--seconds", type=float, default=2.0)
    arguments = parser.parse_args()
    item = next(program for program in PROGRAMS if program.__name__ == arguments.name)()
    with torch.no_grad():
        number, end = 0, time.monotonic() + 0.7
        while time.monotonic() < end:
            item(number)
            number += 1
        torch.cuda.synchronize()
        start, first = time.monotonic(), number
        while time.monotonic() < start + arguments.seconds:
            item(number)
            number += 1
        torch.cuda.synchronize()
    rate = (number - first) / (time.monotonic() - start)
    print(json.dumps({"program": arguments.name, "items_per_s": rate}), flush=True)


if __name__ == "__main__":
    main()
