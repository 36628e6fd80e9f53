"""ONNX Runtime as the reference: sessions on the CPU and inputs for them. Needs numpy and onnxruntime."""

import numpy
import onnxruntime

import models

# Element types of ONNX Runtime's names, as far as inputs of the table need them.
TYPES = {
    "tensor(float)": numpy.float32,
    "tensor(float16)": numpy.float16,
    "tensor(double)": numpy.float64,
    "tensor(int64)": numpy.int64,
    "tensor(int32)": numpy.int32,
    "tensor(uint8)": numpy.uint8,
    "tensor(bool)": numpy.bool_,
}


def session(path, threads, optimised=True):
    """A session that computes with this many threads, with or without ONNX Runtime's graph optimisations."""
    options = onnxruntime.SessionOptions()
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only: some models carry initializers that nothing uses
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def is_open(dimension):
    """Whether a model leaves a dimension to the caller: it has a name, nothing, or no positive size."""
    return not isinstance(dimension, int) or dimension < 1


def is_batched(session):
    """Whether the first dimension is the number of samples, as far as the inputs tell."""
    return all(value.shape and is_open(value.shape[0]) for value in session.get_inputs())


def random_inputs(session, row, samples, seed):
    """Inputs of a model of the table. The first dimension is `samples` where the model is batched, else each
    input is one whole tensor."""
    random = numpy.random.default_rng(seed)
    shapes, values = models.settings(row, "shapes"), models.settings(row, "values")
    inputs = {}
    for value in session.get_inputs():
        given = shapes.get(value.name)
        shape = [int(size) for size in given.split("x")] if given else list(value.shape)
        if is_batched(session):
            shape[0] = samples
        if any(is_open(size) for size in shape):
            raise ValueError(f"{row['name']}: `{value.name}` is {value.shape}: give its shape in models.tsv")
        inputs[value.name] = random_tensor(random, shape, TYPES[value.type], values.get(value.name))
    return inputs


def random_tensor(random, shape, data_type, values):
    """One tensor: of the given constant, of integers in the given range, or of numbers between 0 and 1."""
    if values and ".." in values:
        first, end = values.split("..")
        return random.integers(int(first), int(end), shape).astype(data_type)
    if values:
        return numpy.full(shape, values, data_type)
    return random.random(shape).astype(data_type)


def run_each_sample(session, inputs):
    """Outputs by name. A batched model runs one sample after the other, so that no sample can change another;
    their outputs are put one behind the other."""
    names = [value.name for value in session.get_outputs()]
    if not is_batched(session):
        return dict(zip(names, session.run(None, inputs)))
    count = len(next(iter(inputs.values())))
    runs = [session.run(None, {k: v[i : i + 1] for k, v in inputs.items()}) for i in range(count)]
    return {name: numpy.concatenate([run[index] for run in runs]) for index, name in enumerate(names)}
