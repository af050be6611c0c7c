"""Training of the network on patches of the slides: draws, early stopping, going on after a fit that was cut off.

What a step sees depends on the seed and its number alone, so that a fit that goes on is the fit that was never cut off.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shest.core import console
from shest.systems.base import Diverged
from shest.systems.nuclei import network, targets
from shest.systems.nuclei.network import IGNORED, Truth
from shest.systems.resumable import Resumable

WEIGHT_DECAY = 1e-4
VAL_PATCHES = 32
CHECKPOINT = "network.checkpoint"


def batch_of(patches: np.ndarray, device: torch.device) -> tuple[Tensor, Truth]:
    """Turn patches, uint8 (n, s, s, 7), into the network's input and what it is taught."""
    whole = torch.from_numpy(np.ascontiguousarray(patches)).to(device, non_blocking=True)
    # of channels last in memory, as the convolutions want it
    x = whole[..., : targets.STATE].permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last) / 255
    state, types = whole[..., targets.STATE].long(), whole[..., targets.TYPE].long()
    nucleus = torch.where(state == targets.MISSED, IGNORED, state)
    distance = whole[..., targets.ACROSS : targets.ALONG + 1].permute(0, 3, 1, 2).float() / targets.SCALE - 1
    return x, Truth(nucleus, distance, torch.where(types == targets.UNKNOWN, IGNORED, types))


def draw_batch(
    fields: Sequence[targets.Field], places: np.ndarray, settings: Mapping[str, Any], step: int
) -> np.ndarray:
    """Draw the patches of a step, turned and with their stains changed: uint8 (batch, s, s, 7)."""
    rng = np.random.default_rng([settings["seed"], step])
    chosen = places[rng.integers(0, len(places), settings["batch"])]
    patches = targets.read_patches(fields, chosen, settings["patch_px"])
    for k, view in enumerate(rng.integers(0, 8, len(patches))):
        patches[k] = targets.turn(patches[k], view)
        scale = 1 + rng.uniform(-settings["jitter"], settings["jitter"], 3)
        patches[k, ..., : targets.STATE] = targets.jitter(patches[k, ..., : targets.STATE], scale)
    return patches


def rate(step: int, settings: Mapping[str, Any]) -> float:
    """Return the learning rate of a step: half a cosine from the first one to 0."""
    return settings["learning_rate"] * 0.5 * (1 + math.cos(math.pi * step / settings["steps"]))


def digest(fields: Sequence[targets.Field], settings: Mapping[str, Any], classes: int) -> str:
    """Return what tells whether a checkpoint is of the same fit."""
    text = hashlib.sha256(json.dumps([settings, classes], sort_keys=True).encode())
    for field in fields:
        for places in field.origins.values():
            text.update(places.tobytes())
            for row, column in places[:: max(1, len(places) // 16)]:
                text.update(np.ascontiguousarray(field.pixels[row, column : column + 64]).tobytes())
    return text.hexdigest()


def train(
    fields: Sequence[targets.Field],
    classes: int,
    settings: Mapping[str, Any],
    device: torch.device,
    scratch: Path | None,
    advance: Callable[[int], None],
) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Train a network; the weights with the lowest loss on the validation patches are kept, the last without any.

    Parameters
    ----------
    fields
        By sample; at least one has places to train on.
    classes
        Number of types.
    settings
        Of the system.
    scratch
        Folder of the checkpoint; None: none is kept.
    advance
        Takes how many steps are done.

    Returns
    -------
    network : in training mode off, on ``device``
    rows : of ``training.csv``; step: steps taken

    Raises
    ------
    Diverged
        A loss is not finite.
    """
    places = targets.all_places(fields, targets.TRAIN)
    val = targets.all_places(fields, targets.VAL)
    val = val[np.unique(np.linspace(0, len(val) - 1, min(VAL_PATCHES, len(val))).astype(int))] if len(val) else val
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(settings["seed"])
        run = _Run(network.build(settings, classes), settings, device)
    name, key = scratch / CHECKPOINT if scratch else None, digest(fields, settings, classes)
    if name and run.resume(name, key):
        console.log.info(f"going on after step {run.step:,}")
        advance(run.step)
    every = math.ceil(settings["steps"] / settings["checks"])
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(draw_batch, fields, places, settings, run.step)
        while run.step < settings["steps"] and run.waited < settings["patience"]:
            patches, ahead = ahead.result(), pool.submit(draw_batch, fields, places, settings, run.step + 1)
            run.learn(*batch_of(patches, device))
            advance(1)
            if run.step % every == 0 or run.step == settings["steps"]:
                parts = np.array_split(val, max(1, len(val) // settings["batch"])) if len(val) else []
                read = (targets.read_patches(fields, part, settings["patch_px"]) for part in parts)
                run.check([batch_of(patches, device) for patches in read])
                if name:
                    run.keep(name, key)
    advance(settings["steps"] - run.step)
    run.module.load_state_dict(run.best_state)
    return run.module.eval(), run.rows


class _Run(Resumable):
    """A network in training: optimiser, best weights, patience, what was noted."""

    noted = ("step", "waited", "best", "rows", "best_state")

    def __init__(self, module: nn.Module, settings: Mapping[str, Any], device: torch.device) -> None:
        self.module = module.to(device, memory_format=torch.channels_last).train()
        self.settings, self.device = settings, device
        self.optimiser = torch.optim.AdamW(module.parameters(), lr=settings["learning_rate"], weight_decay=WEIGHT_DECAY)
        self.step, self.waited, self.best, self.rows = 0, 0, math.inf, []
        self.best_state, self.losses = self.state(), []

    def forward(self, x: Tensor) -> network.Maps:
        with network.autocast(self.device, self.settings["precision"]):
            return self.module(x)

    def learn(self, x: Tensor, truth: Truth) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate(self.step, self.settings)
        loss = network.loss(self.forward(x), truth)
        self.losses.append(loss.detach())
        if not torch.isfinite(loss):
            message = f"the loss of the network is not finite at step {self.step + 1}"
            raise Diverged(message, {name: value.numpy() for name, value in self.best_state.items()})
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.step += 1

    def check(self, batches: Sequence[tuple[Tensor, Truth]]) -> None:
        """Look at the validation patches; note the losses, keep the weights if they are the best so far."""
        self.module.eval()
        with torch.inference_mode():
            losses = [float(network.loss(self.forward(x), truth)) for x, truth in batches]
        self.module.train()
        found = float(np.mean(losses)) if losses else None
        better = found is None or found < self.best
        if better:
            self.best, self.best_state = found or self.best, self.state()
        self.waited = 0 if better else self.waited + 1
        mean = float(torch.stack(self.losses).mean())
        row = {"part": "network", "member": 0, "step": self.step, "train_loss": mean, "val_loss": found, "best": better}
        self.rows.append(row)
        self.losses = []
        said = "" if found is None else f", on validation patches {found:.4f}"
        console.log.info(f"step {self.step:,}: loss {mean:.4f}{said}")
