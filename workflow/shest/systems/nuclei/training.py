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
from shest.systems.nuclei import instances, network, targets
from shest.systems.nuclei.network import IGNORED, Truth
from shest.systems.resumable import Resumable
from shest.tissue import overlaps

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


def separated(maps: network.Maps, ignored: Tensor) -> list[np.ndarray]:
    """Return the nuclei of each window, int32 (h, w); pixels that nobody judges (``ignored``, bool) hold none."""
    found = []
    for (nucleus, distance), out in zip(
        _arrays(maps.nucleus.float().sigmoid(), maps.distance.float()), ignored.cpu().numpy(), strict=True
    ):
        labels = instances.find_instances(nucleus, distance)
        labels[out] = 0
        found.append(labels)
    return found


def _arrays(nucleus: Tensor, distance: Tensor) -> zip:
    """Pair maps of windows as NumPy arrays: (h, w) and (2, h, w)."""
    return zip(nucleus.cpu().numpy(), distance.cpu().numpy(), strict=True)


def _side_by_side(labels: Sequence[np.ndarray]) -> np.ndarray:
    """Lay label maps of one shape beside each other under numbers of their own."""
    last = np.cumsum([0, *(part.max(initial=0) for part in labels[:-1])])
    return np.hstack([np.where(part > 0, part + n, 0) for part, n in zip(labels, last, strict=True)])


def train(
    fields: Sequence[targets.Field],
    classes: int,
    settings: Mapping[str, Any],
    device: torch.device,
    scratch: Path | None,
    advance: Callable[[int], None],
) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Train a network; the weights with the best panoptic quality on the validation patches are kept, the last without.

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
    val_patches = targets.read_patches(fields, val, settings["patch_px"]) if len(val) else np.empty(0, np.uint8)
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
                run.check(np.array_split(val_patches, max(1, len(val) // settings["batch"])) if len(val) else [])
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
        self.step, self.waited, self.best, self.rows = 0, 0, -math.inf, []
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

    def check(self, batches: Sequence[np.ndarray]) -> None:
        """Look at the validation patches; note loss and quality, keep the weights if the nuclei are the best yet."""
        self.module.eval()
        losses, found, true = [], [], []
        with torch.inference_mode():
            for patches in batches:
                x, truth = batch_of(patches, self.device)
                maps = self.forward(x)
                losses.append(float(network.loss(maps, truth)))
                found += separated(maps, truth.nucleus == IGNORED)
                true += [instances.find_instances(t == 1, d) for t, d in _arrays(truth.nucleus, truth.distance)]
        self.module.train()
        loss = float(np.mean(losses)) if losses else None
        quality = (
            overlaps.quality(overlaps.overlaps_of_labels(_side_by_side(true), _side_by_side(found)))["pq"]
            if losses
            else None
        )
        better = quality is None or quality > self.best
        if better:
            self.best, self.best_state = quality if quality is not None else self.best, self.state()
        self.waited = 0 if better else self.waited + 1
        row = {"part": "network", "member": 0, "step": self.step, "train_loss": float(torch.stack(self.losses).mean())}
        self.rows.append(row | {"val_loss": loss, "val_score": quality, "best": better})
        self.losses = []
        said = "" if loss is None else f", on validation patches {loss:.4f}, panoptic quality {quality or 0:.3f}"
        console.log.info(f"step {self.step:,}: loss {row['train_loss']:.4f}{said}")
