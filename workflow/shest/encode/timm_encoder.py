"""A frozen timm backbone on one device, with tile assembly and normalisation in front."""

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from shest.encode.encoders import TILE, Entry
from shest.tiles import quadruple

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
BATCHES = (512, 256, 128, 64, 32, 16, 8, 4, 2, 1)
BATCH_ON_CPU = 16
MEMORY_SHARE = 0.85  # of the GPU's memory that a batch may take


def device() -> torch.device:
    """Return the one device that a job uses: the first visible GPU, else the CPU."""
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


class Backbone:
    """A frozen timm backbone on one device, with tile assembly and normalisation in front.

    Parameters
    ----------
    model
        Maps (n, 3, input_px, input_px) to (n, features).
    entry
        Normalisation and input size.
    precision
        ``fp32``, ``bf16`` or ``fp16``.
    batch
        Tiles at once; smaller batches are padded to it, so that a tile's bytes do not depend on its company.
    """

    def __init__(self, model: Any, entry: Entry, precision: str, batch: int, where: torch.device) -> None:
        self.entry, self.batch, self.where, self.dim = entry, batch, where, entry.features
        self.precision = precision
        self.dtype = DTYPES.get(precision, torch.float32)
        self.model = model.to(where, self.dtype if where.type == "cuda" else torch.float32)
        if where.type == "cuda":
            self.model = self.model.to(memory_format=torch.channels_last)
        self.mean = torch.tensor(entry.mean, device=where).view(1, 3, 1, 1) * 255
        self.std = torch.tensor(entry.std, device=where).view(1, 3, 1, 1) * 255

    def describe(self) -> str:
        """Say what encodes where."""
        name = torch.cuda.get_device_name(self.where) if self.where.type == "cuda" else "CPU (no GPU seen: slow)"
        return f"{self.entry.name} on {name}, {self.precision}, batch {self.batch}"

    def normalise(self, quadruple: torch.Tensor) -> torch.Tensor:
        """Turn uint8 tiles (n, 3, 224, 224) into the model's input."""
        x = (quadruple.to(torch.float32) - self.mean) / self.std
        if self.entry.input_px != TILE:
            x = F.interpolate(x, size=(self.entry.input_px,) * 2, mode="bilinear", align_corners=False, antialias=True)
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the model, (n, 3, p, p) -> (n, features) float32."""
        if self.where.type == "cuda":
            return self.model(x.to(self.dtype, memory_format=torch.channels_last)).float()
        mixed = torch.autocast("cpu", self.dtype) if self.precision != "fp32" else nullcontext()
        with mixed:
            return self.model(x).float()

    def assemble(self, windows: np.ndarray, masks: np.ndarray, view: int) -> torch.Tensor:
        """Make the tiles of a batch on the device, uint8 (n, 3, 224, 224)."""
        if self.where.type == "cuda":
            return quadruple.turn(quadruple.assemble_torch(windows, masks, self.where), view)
        tiles = torch.from_numpy(quadruple.assemble(windows, masks, torch.get_num_threads()))
        return quadruple.turn(tiles.permute(0, 3, 1, 2), view)

    @torch.inference_mode()
    def encode(self, windows: np.ndarray, masks: np.ndarray, view: int) -> torch.Tensor:
        """Encode at most ``batch`` cells, (n, h, w, 3) and (n, 1568) -> (n, features) float16 on the device."""
        n = len(windows)
        padded = np.resize(np.arange(n), self.batch) if n < self.batch else slice(None)
        x = self.normalise(self.assemble(windows[padded], masks[padded], view))
        return self.forward(x)[:n].to(torch.float16)


def largest_batch(model: Any, entry: Entry, precision: str, where: torch.device) -> int:
    """Find the largest batch, a power of two, that fits the memory of the GPU; a fixed one on a CPU."""
    if where.type != "cuda":
        return BATCH_ON_CPU
    total = torch.cuda.get_device_properties(where).total_memory
    for batch in BATCHES:
        try:
            torch.cuda.reset_peak_memory_stats(where)
            backbone = Backbone(model, entry, precision, batch, where)
            with torch.inference_mode():
                blank = torch.zeros((batch, 3, TILE, TILE), dtype=torch.uint8, device=where)
                backbone.forward(backbone.normalise(blank))
            if torch.cuda.max_memory_reserved(where) <= MEMORY_SHARE * total:
                return batch
        except torch.cuda.OutOfMemoryError:
            pass
        torch.cuda.empty_cache()
    raise RuntimeError(f"{entry.name} does not fit the memory of {torch.cuda.get_device_name(where)}")
