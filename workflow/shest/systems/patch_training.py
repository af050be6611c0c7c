"""Training of a network on patches: augmentation on the device, early stopping, going on after a fit that was cut off.

What an epoch does depends on the seed and its number alone, so that a fit that goes on is the fit that was never cut
off: on a CPU, to the byte.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shest.core import console
from shest.io.expression import normalise
from shest.labels.orientations import hash_seed
from shest.labels.training_set import TrainingSet
from shest.systems.augment import augment
from shest.systems.base import Diverged
from shest.systems.numerics import autocast
from shest.systems.resumable import Resumable

Loss = Callable[[nn.Module, Tensor, np.ndarray], Tensor]
"""Of a module on patches, (k, 3, px, px) of 0 to 1 on the device, of the units at some positions: their mean loss."""


@dataclass(frozen=True)
class Plan:
    """How a network is trained; see :func:`shest.systems.patch_settings.training_settings`."""

    epochs: int
    batch: int
    learning_rate: float
    seed: int
    accumulate: int = 1
    schedule: str = "constant"
    augment: str = "none"
    patience: int = 10
    precision: str = "auto"

    @classmethod
    def of(cls, settings: Mapping[str, Any], **changed: Any) -> "Plan":
        """Take what concerns training out of settings; ``changed``: what is otherwise."""
        return cls(**{f.name: settings[f.name] for f in fields(cls) if f.name in settings} | changed)

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of one of so many steps, from 0."""
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))


def device_of() -> torch.device:
    """Return the first GPU, else the CPU."""
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def to_device(patches: Any, device: torch.device) -> Tensor:
    """Turn patches, uint8 (k, px, px, 3), into (k, 3, px, px) of 0 to 1, channels last in memory."""
    x = torch.from_numpy(np.ascontiguousarray(patches)).to(device, non_blocking=True)
    return x.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last) / 255


def read_ahead(source: Any, rows: np.ndarray, size: int, device: torch.device) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Yield rows and their patches on the device, ``size`` at a time; the next are read while the last are used."""
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(lambda part: source.take(part)[:], parts[0]) if parts else None
        for k, part in enumerate(parts):
            patches = ahead.result()
            if k + 1 < len(parts):
                ahead = pool.submit(lambda part: source.take(part)[:], parts[k + 1])
            yield part, to_device(patches, device)


class Targets:
    """Counts of the training units on a scale of logarithms, batch by batch, with what their panel measured.

    Attributes
    ----------
    total
        (n,) sums of the units' counts.
    median
        Of those of the training units, where above 0.
    """

    def __init__(self, data: TrainingSet, unit: str) -> None:
        self.data, self.unit = data, unit
        self.total = np.asarray(data.counts.sum(axis=1), np.float64).ravel()
        sums = self.total[data.train]
        self.median = float(np.median(sums[sums > 0])) if (sums > 0).any() else 1.0
        self.complete = bool(data.measured[np.unique(data.sample)].all()) if len(data.sample) else True

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return the targets of some units, (k, genes) float32."""
        return normalise(self.data.counts[rows], self.total[rows], self.unit, self.median).toarray()

    def place(self, rows: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Return targets on the device, and which of them were measured; None: all."""
        measured = None if self.complete else self.data.measured[self.data.sample[rows]]
        target = torch.from_numpy(self.take(rows)).to(device)
        return target, None if measured is None else torch.from_numpy(measured).to(device)

    def mean(self) -> np.ndarray:
        """Return the mean target of each gene over the training units that measured it, (genes,) float32."""
        total, number = np.zeros(self.data.counts.shape[1]), np.zeros(self.data.counts.shape[1])
        for start in range(0, len(self.data.train), 4096):
            rows = self.data.train[start : start + 4096]
            measured = self.data.measured[self.data.sample[rows]]
            total += (self.take(rows) * measured).sum(axis=0, dtype=np.float64)
            number += measured.sum(axis=0)
        return (total / np.maximum(number, 1)).astype(np.float32)


def measured_mean(error: Tensor, measured: Tensor | None) -> Tensor:
    """Return the mean of an error (k, genes) over what was measured."""
    return error.mean() if measured is None else (error * measured).sum() / measured.sum().clamp(min=1)


def parameters(module: nn.Module, trained: bool = False) -> int:
    """Count a module's parameters, or those that are trained."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


def digest(data: TrainingSet, settings: Mapping[str, Any]) -> str:
    """Return what tells whether a checkpoint is of the same fit."""
    text = hashlib.sha256(json.dumps([settings, data.genes, data.source.units], sort_keys=True).encode())
    for shard in getattr(data.source, "digests", ()):
        text.update(shard.encode())
    for values in (data.train, data.val, data.counts.indptr, data.counts.indices, data.counts.data):
        text.update(np.ascontiguousarray(values).tobytes())
    return text.hexdigest()


@dataclass
class Work:
    """What a network is trained on and how.

    Attributes
    ----------
    name
        Of the part, in ``training.csv`` and of its checkpoint.
    source
        Of patches: ``take(rows)``.
    train, val
        Positions of units; without any of the second the training loss chooses.
    loss
        See :data:`Loss`.
    plan
        How it is trained.
    device
        Where.
    scratch
        Folder of the checkpoint; None: none is kept.
    key
        :func:`digest`; with the plan, what a checkpoint must be of.
    """

    name: str
    source: Any
    train: np.ndarray
    val: np.ndarray
    loss: Loss
    plan: Plan
    device: torch.device
    scratch: Path | None
    key: str


def train(module: nn.Module, work: Work, advance: Callable[[int], None]) -> list[dict[str, Any]]:
    """Train the parameters that want it; leave the module with its best weights, in evaluation, on the device.

    Returns
    -------
    Rows of ``training.csv``, one an epoch.

    Raises
    ------
    Diverged
        A loss is not finite.
    """
    cuda = [work.device] if work.device.type == "cuda" else []
    run = _Run(module.to(work.device, memory_format=torch.channels_last), work)
    path, key = work.scratch and work.scratch / f"{work.name}.checkpoint", f"{work.key} {asdict(work.plan)}"
    if path and run.resume(path, key):
        console.log.info(f"{work.name}: going on after epoch {run.epoch}")
        advance(run.epoch)
    while run.epoch < work.plan.epochs and run.waited < work.plan.patience:
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(hash_seed(work.plan.seed, run.epoch, 1))  # dropout
            run.learn_epoch()
        if path:
            run.keep(path, key)
        advance(1)
    advance(work.plan.epochs - run.epoch)
    module.load_state_dict(run.best_state)
    module.eval()
    return run.rows


def evaluate(module: nn.Module, work: Work, rows: np.ndarray) -> float:
    """Return the mean loss over units, as they stand in the slide: nothing is augmented, nothing dropped."""
    module.eval()
    total = 0.0
    with torch.inference_mode(), autocast(work.device, work.plan.precision):
        for part, x in read_ahead(work.source, rows, work.plan.batch, work.device):
            total += float(work.loss(module, x, part)) * len(part)
    return total / len(rows)


class _Run(Resumable):
    """A network in training: optimiser, best weights, patience, what was noted."""

    noted = ("epoch", "waited", "best", "rows", "best_state")

    def __init__(self, module: nn.Module, work: Work) -> None:
        self.module, self.work = module, work
        wanted = [p for p in module.parameters() if p.requires_grad]
        self.optimiser = torch.optim.Adam(wanted, lr=work.plan.learning_rate)
        self.epoch, self.waited, self.best, self.rows = 0, 0, math.inf, []
        self.best_state = self.state()

    def learn_epoch(self) -> None:
        plan, start = self.work.plan, time.perf_counter()
        order = np.random.default_rng([plan.seed, self.epoch]).permutation(self.work.train)
        if len(order) % plan.batch == 1 and len(order) > 1:
            order = order[:-1]  # batch normalisation knows no spread of a single patch
        generator = torch.Generator().manual_seed(hash_seed(plan.seed, self.epoch))
        batches = math.ceil(len(order) / plan.batch)
        a_epoch = math.ceil(batches / plan.accumulate)
        self.module.train()
        losses, norms, seen = [], [], 0
        for number, (rows, x) in enumerate(read_ahead(self.work.source, order, plan.batch, self.work.device)):
            step = self.epoch * a_epoch + number // plan.accumulate
            together = order[number // plan.accumulate * plan.accumulate * plan.batch :][: plan.accumulate * plan.batch]
            with autocast(self.work.device, plan.precision):
                loss = self.work.loss(self.module, augment(x, plan.augment, generator), rows)
            losses.append(loss.detach() * len(rows))
            self.check(loss, step)
            (loss * (len(rows) / len(together))).backward()
            seen += len(rows)
            if (number + 1) % plan.accumulate == 0 or number + 1 == batches:
                norms.append(self.step(plan.rate(step, a_epoch * plan.epochs)))
        self.end(float(torch.stack(losses).sum()) / len(order), float(torch.stack(norms).mean()), seen, start)

    def step(self, rate: float) -> Tensor:
        """Take a step at a learning rate; return the norm of its gradients."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate = rate
        norm = nn.utils.get_total_norm([p.grad for p in self.module.parameters() if p.grad is not None])
        self.optimiser.step()
        self.optimiser.zero_grad()
        return norm

    def check(self, loss: Tensor, step: int) -> None:
        if not torch.isfinite(loss):
            message = f"the loss of the {self.work.name} is not finite at step {step + 1}"
            raise Diverged(message, {name: value.numpy() for name, value in self.best_state.items()})

    def end(self, loss: float, norm: float, seen: int, start: float) -> None:
        """Look at the validation units; keep the weights if they are the best so far."""
        val = self.work.val
        found = evaluate(self.module, self.work, val) if len(val) else loss
        better = found < self.best
        if better:
            self.best, self.best_state = found, self.state()
        self.waited = 0 if better else self.waited + 1
        self.epoch += 1
        row = {"part": self.work.name, "member": 0, "step": self.epoch, "train_loss": loss}
        row |= {"val_loss": found if len(val) else None, "gradient_norm": norm, "best": better}
        self.rows.append(row | {"learning_rate": self.rate})
        rate = (seen + len(val)) / (time.perf_counter() - start)
        said = f", on validation units {found:.5f}" if len(val) else ""
        console.log.info(f"{self.work.name}, epoch {self.epoch}: loss {loss:.5f}{said}; {rate:,.0f} patches/s")
