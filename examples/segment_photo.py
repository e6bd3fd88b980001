"""Segment one photograph through the PyTorch and the Paddle rendering, and compare the masks.

    python examples/segment_photo.py [NETWORK]

Both renderings get the same weights, seeded by parameter name, and run in float64, each in a
process of its own. The weights are random, so the masks show no objects; that every pixel has the
same class in both is the point. Writes ``demo/NETWORK_masks.png``: photograph, PyTorch's mask,
Paddle's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from segspec.errors import SpecError
from segspec.graph.elaborate import elaborate
from segspec.parity.run import outputs
from segspec.spec.load import load

ROOT = Path(__file__).resolve().parent.parent
# 256×256: at powers of two, bilinear resizing's ratios are exact even in float32, in which Paddle
# computes them, so that all that is left between the two is float64's rounding.
PHOTO = ROOT / "examples" / "photo.jpg"
BACKENDS = ("torch", "paddle")


def main() -> int:
    """Segment, compare, draw; 0 if no pixel differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", nargs="?", default="unet")
    network = parser.parse_args().network
    try:
        graph = elaborate(load(network))
        photo = np.asarray(Image.open(PHOTO).convert("RGB"))
        inputs = {graph.root.inputs[0].name: normalised(photo)}
        masks = [mask(outputs(graph, backend, inputs, "float64")) for backend in BACKENDS]
    except SpecError as error:
        print(error, file=sys.stderr)
        return 2

    path = ROOT / "demo" / f"{Path(network).stem}_masks.png"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.hstack([photo, *(coloured(one) for one in masks)])).save(path)

    different = int(np.count_nonzero(masks[0] != masks[1]))
    classes = len(np.unique(masks[0]))
    print(f"{network}: {different} of {masks[0].size:,} pixels differ; {classes} classes appear")
    print(f"photograph and masks: {path.relative_to(ROOT)}")
    return 1 if different else 0


def normalised(photo: np.ndarray) -> np.ndarray:
    """The photograph as a batch of one, channels first, about zero mean and unit variance."""
    scaled = (photo.astype(np.float64) / 255 - 0.5) / 0.25
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[np.newaxis])


def mask(found: dict[str, np.ndarray]) -> np.ndarray:
    """The class of each pixel, from the first output's logits; one channel alone says yes or no."""
    logits = next(iter(found.values()))[0]
    return np.asarray(logits.argmax(axis=0) if len(logits) > 1 else logits[0] > 0, dtype=np.intp)


def coloured(classes: np.ndarray) -> np.ndarray:
    """Each class in a colour of its own, as Pascal VOC's palette has them."""
    palette = np.zeros((256, 3), dtype=np.uint8)
    for number in range(256):
        for bit in range(8):  # red, green and blue take turns, from their highest bits down
            palette[number, bit % 3] |= (number >> bit & 1) << 7 - bit // 3
    colours: np.ndarray = palette[classes]
    return colours


if __name__ == "__main__":
    sys.exit(main())
