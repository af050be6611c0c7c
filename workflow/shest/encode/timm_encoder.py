"""A frozen timm model on one device, with tile assembly and normalisation in front."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from shest.core.errors import InputError
from shest.encode.spec import TILE, EncoderSpec
from shest.encode.weights import load_weights
from shest.tiles import quadruple

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
BATCHES = (512, 256, 128, 64, 32, 16, 8, 4, 2, 1)
BATCH_ON_CPU = 16
MEMORY_SHARE = 0.85  # of the GPU's memory that a batch may take


def build(spec: EncoderSpec, weights: Path | None) -> Any:
    """Build the frozen model and load its weights, on the CPU, in float32.

    Raises
    ------
    InputError
        timm does not know the architecture, or the weights do not fit it.
    """
    import timm

    arguments = {"num_classes": 0} | {k: _layer(k, v) for k, v in spec.arguments.items()}
    try:
        torch.manual_seed(0)  # only matters for random weights
        model = timm.create_model(spec.architecture, pretrained=False, **arguments)
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"encoders: {spec.name}",
            f"timm cannot build {spec.architecture} ({error})",
            "Check architecture and arguments",
        ) from None
    if model.num_features != spec.features:
        raise InputError(
            f"encoders: {spec.name}",
            f"{spec.architecture} gives {model.num_features} features, not {spec.features}",
            "Correct features or architecture",
        )
    if weights is not None:
        load_weights(model, weights, spec)
    return model.eval().requires_grad_(False)


def _layer(key: str, value: Any) -> Any:
    """Turn the name of a layer class (mlp_layer: SwiGLUPacked) into the class that timm wants."""
    import timm.layers

    return getattr(timm.layers, value, value) if key.endswith("_layer") and isinstance(value, str) else value


class TimmEncoder:
    """A frozen timm model on one device, with tile assembly and normalisation in front.

    Parameters
    ----------
    model
        Maps (n, 3, input_px, input_px) to (n, features).
    spec
        Normalisation and input size.
    precision
        ``fp32``, ``bf16`` or ``fp16``.
    batch
        Tiles at once; smaller batches are padded to it, so that a tile's bytes do not depend on its company.
    """

    def __init__(self, model: Any, spec: EncoderSpec, precision: str, batch: int, device: torch.device) -> None:
        self.spec, self.batch, self.device, self.dim = spec, batch, device, spec.features
        self.precision = precision
        self.dtype = DTYPES.get(precision, torch.float32)
        self.model = model.to(device, self.dtype if device.type == "cuda" else torch.float32)
        if device.type == "cuda":
            self.model = self.model.to(memory_format=torch.channels_last)
        self.mean = torch.tensor(spec.mean, device=device).view(1, 3, 1, 1) * 255
        self.std = torch.tensor(spec.std, device=device).view(1, 3, 1, 1) * 255

    def describe(self) -> str:
        """Say what encodes where."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU (no GPU seen: slow)"
        return f"{self.spec.name} on {name}, {self.precision}, batch {self.batch}"

    def normalise(self, tiles: torch.Tensor) -> torch.Tensor:
        """Turn uint8 tiles, or patches of any size, (n, 3, px, px), into the model's input."""
        x = (tiles.to(torch.float32) - self.mean) / self.std
        if self.spec.input_px != x.shape[-1]:
            x = F.interpolate(x, size=(self.spec.input_px,) * 2, mode="bilinear", align_corners=False, antialias=True)
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the model, (n, 3, p, p) -> (n, features) float32."""
        if self.device.type == "cuda":
            return self.model(x.to(self.dtype, memory_format=torch.channels_last)).float()
        mixed = torch.autocast("cpu", self.dtype) if self.precision != "fp32" else nullcontext()
        with mixed:
            return self.model(x).float()

    def assemble(self, windows: np.ndarray, masks: np.ndarray | None, view: int) -> torch.Tensor:
        """Make the tiles of a batch on the device, uint8 (n, 3, 224, 224); plain patches stay as they are."""
        if masks is None:
            return torch.from_numpy(np.ascontiguousarray(windows)).to(self.device).permute(0, 3, 1, 2)
        if self.device.type == "cuda":
            return quadruple.apply_dihedral(quadruple.assemble_torch(windows, masks, self.device), view)
        tiles = torch.from_numpy(quadruple.assemble(windows, masks, torch.get_num_threads()))
        return quadruple.apply_dihedral(tiles.permute(0, 3, 1, 2), view)

    @torch.inference_mode()
    def encode(self, windows: np.ndarray, masks: np.ndarray | None, view: int) -> torch.Tensor:
        """Encode at most ``batch`` cells, (n, h, w, 3) and (n, 1568) -> (n, features) float16 on the device.

        ``masks``: None of plain patches, which are encoded as they stand.
        """
        n = len(windows)
        padded = np.resize(np.arange(n), self.batch) if n < self.batch else slice(None)
        x = self.normalise(self.assemble(windows[padded], None if masks is None else masks[padded], view))
        return self.forward(x)[:n].to(torch.float16)


def largest_batch(model: Any, spec: EncoderSpec, precision: str, device: torch.device) -> int:
    """Find the largest batch, a power of two, that fits the memory of the GPU; a fixed one on a CPU."""
    if device.type != "cuda":
        return BATCH_ON_CPU
    total = torch.cuda.get_device_properties(device).total_memory
    for batch in BATCHES:
        try:
            torch.cuda.reset_peak_memory_stats(device)
            encoder = TimmEncoder(model, spec, precision, batch, device)
            with torch.inference_mode():
                blank = torch.zeros((batch, 3, TILE, TILE), dtype=torch.uint8, device=device)
                encoder.forward(encoder.normalise(blank))
            if torch.cuda.max_memory_reserved(device) <= MEMORY_SHARE * total:
                return batch
        except torch.cuda.OutOfMemoryError:
            pass
        torch.cuda.empty_cache()
    raise RuntimeError(f"{spec.name} does not fit the memory of {torch.cuda.get_device_name(device)}")
