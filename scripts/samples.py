"""Samples that networks were trained for, as far as this can be had without a download of a data set: crops of real
photographs, with text on them, and tones. The column `samples` of models.tsv says which. Needs numpy and Pillow."""

import functools
import string

import numpy
from PIL import Image, ImageDraw, ImageFont

import models
import photographs

LETTERS = string.ascii_letters + string.digits
SAMPLE_RATE = 22050


@functools.cache
def pictures():
    """The photographs, which are downloaded once for all models."""
    return photographs.photographs()


def word(random):
    return "".join(random.choice(list(LETTERS), random.integers(3, 10)))


def crop(height, width, random):
    picture = pictures()[random.integers(len(pictures()))]
    return Image.fromarray(numpy.ascontiguousarray(photographs.crop(picture, height, width, random)))


def write(image, text, box, size, random):
    """Text in a dark or a light colour at a place of a picture."""
    colour = tuple(int(value) for value in random.integers(0, 90, 3) + (0 if random.random() < 0.6 else 165))
    ImageDraw.Draw(image).text(box, text, fill=colour, font=ImageFont.load_default(size))


def page(height, width, random):
    """A photograph with some words on it."""
    image = crop(height, width, random)
    for _ in range(6):
        box = (random.integers(0, width * 2 // 3), random.integers(0, height - 24))
        write(image, word(random), box, int(random.integers(12, 36)), random)
    return numpy.asarray(image)


def line(height, width, random):
    """One line of text on paper or on a photograph."""
    paper = Image.new("RGB", (width, height), tuple(int(value) for value in random.integers(200, 256, 3)))
    image = paper if random.random() < 0.5 else Image.blend(crop(height, width, random), paper, 0.6)
    ImageDraw.Draw(image).text(
        (int(random.integers(2, 12)), int(height * 0.1)),
        " ".join(word(random) for _ in range(max(1, width // 120))),
        fill=tuple(int(value) for value in random.integers(0, 100, 3)),
        font=ImageFont.load_default(int(height * 0.66)),
    )
    return numpy.asarray(image)


def tones(shape, random):
    """Some notes with harmonics, each with its own beginning, and noise."""
    time = numpy.arange(shape[1]) / SAMPLE_RATE
    sound = random.normal(0, 0.002, shape[1])
    for _ in range(random.integers(2, 7)):
        pitch, start = 55 * 2 ** (random.integers(0, 60) / 12), random.uniform(0, time[-1] * 0.7)
        envelope = numpy.where(time >= start, numpy.exp(-3 * numpy.maximum(time - start, 0)), 0)
        for harmonic in range(1, 6):
            sound += 0.2 / harmonic * envelope * numpy.sin(2 * numpy.pi * pitch * harmonic * time)
    return sound.reshape(shape).astype(numpy.float32)


def of_kind(kind, shape, random):
    """One sample of `shape`, the batch of 1 included."""
    if kind == "tones":
        return tones(shape, random)
    if kind == "caffe":
        return photographs.sample(numpy.asarray(crop(*shape[1:3], random)), "nhwc-caffe")[None]
    height, width = shape[2:]
    if kind == "photograph":
        return photographs.sample(numpy.asarray(crop(height, width, random)), "nchw-imagenet")[None]
    if kind == "page":
        return photographs.sample(page(height, width, random), "nchw-imagenet")[None]
    if kind == "page-pixels":
        return page(height, width, random).astype(numpy.float32).transpose(2, 0, 1)[None]
    if kind == "line":
        return (line(height, width, random).astype(numpy.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
    raise ValueError(f"models.tsv: there are no samples called {kind}")


def of_model(row, session, count, seed):
    """Samples of a model with one input, each an array with the batch of 1 in front."""
    [value] = session.get_inputs()
    given = models.settings(row, "shapes").get(value.name)
    shape = [int(size) for size in given.split("x")] if given else list(value.shape)
    random = numpy.random.default_rng(seed)
    return [{value.name: of_kind(row["samples"], shape, random)} for _ in range(count)]


def save(samples, folder):
    """One .npz file for each sample: `thalweg` takes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, sample in enumerate(samples):
        numpy.savez(folder / f"{index:04}.npz", **sample)
    return folder


def load(folder):
    """What `save` wrote."""
    return [dict(numpy.load(path)) for path in sorted(folder.glob("*.npz"))]
