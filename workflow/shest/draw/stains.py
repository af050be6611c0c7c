"""Patches of samples before and after their colours are changed, to be looked at."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from shest.draw.style import plt, save_picture

PATCH_IN, NAME_IN, TITLE_IN, DPI = 0.8, 1.1, 0.45, 150


def draw(stages: Mapping[str, Mapping[str, np.ndarray]], title: str, path: str | Path) -> None:
    """Draw a row a sample and stage, a column a patch.

    Parameters
    ----------
    stages
        By sample and name of the stage: patches, uint8 (k, px, px, 3).
    title, path
        Of the picture.
    """
    rows = [(sample, stage, patches) for sample, found in stages.items() for stage, patches in found.items()]
    width = max(len(patches) for *_, patches in rows)
    size = (NAME_IN + PATCH_IN * width, TITLE_IN + PATCH_IN * len(rows))
    figure, axes = plt.subplots(len(rows), width, figsize=size, squeeze=False, layout="constrained")
    for line, (sample, stage, patches) in zip(axes, rows, strict=True):
        for axis in line:
            axis.set(xticks=[], yticks=[])
            axis.set_frame_on(False)
        for axis, patch in zip(line, patches, strict=False):
            axis.imshow(patch)
        line[0].set_ylabel(f"{sample}\n{stage}", rotation=0, ha="right", va="center", fontsize=6)
    figure.suptitle(title, fontsize=8)
    save_picture(figure, path, DPI)
