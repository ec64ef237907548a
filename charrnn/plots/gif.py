"""Animated GIFs out of pictures."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLOURS = 256  # of the one palette that all frames share
Pixels = NDArray[np.uint8]  # (height, width, 3)


def gif(picture: Callable[[int], Pixels], shown: Sequence[int]) -> bytes:
    """A looping GIF of ``picture(0)``, ``picture(1)`` ..., each ``shown`` for so many milliseconds.

    One palette serves all frames: that of the first, the middle and the last.
    """
    colours = palette([picture(number) for number in (0, len(shown) // 2, len(shown) - 1)])
    frames = (Image.fromarray(picture(number)) for number in range(len(shown)))
    reduced = [frame.quantize(palette=colours, dither=Image.Dither.NONE) for frame in frames]
    content = io.BytesIO()
    reduced[0].save(content, "GIF", save_all=True, append_images=reduced[1:], duration=list(shown), loop=0)
    return content.getvalue()


def palette(pictures: Sequence[Pixels]) -> Image.Image:
    """The most frequent colours, unchanged (averages would make white grey and red brown), one of each likeness."""
    pixels = np.concatenate([one.reshape(-1, 3) for one in pictures]).astype(np.uint32)
    colours, counts = np.unique(pixels[:, 0] << 16 | pixels[:, 1] << 8 | pixels[:, 2], return_counts=True)
    colours = colours[np.argsort(-counts, kind="stable")]
    _, firsts = np.unique(colours & 0xF8F8F8, return_index=True)  # alike: the same five highest bits of each channel
    chosen = colours[np.sort(firsts)[:COLOURS]]
    table = Image.new("P", (1, 1))
    table.putpalette(np.stack([chosen >> 16, chosen >> 8 & 255, chosen & 255], axis=1).astype(np.uint8).tobytes())
    return table
