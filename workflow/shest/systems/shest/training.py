"""Training of both heads on cached embeddings: draws of cells, early stopping, an ensemble of seeds.

The heads share nothing that is trained, so each has its own optimiser, stops on its own validation loss and
keeps its own best weights; they only share the reading of batches. As in the paper: AdamW at a constant rate of 0.01,
batch 1,024, at most 40 epochs. Warm-up, a cosine and clipped gradients were tried on simulated cells (1,500 to
15,000) and left out: no score changed by more than another seed changes it. Embeddings are standardised by the
training cells' moments, since LayerNorm cannot bring features of different units together. Cells are drawn as they
come (``draws: natural``), by the loss of validation cells (docs/reproduction.md); published are balanced draws.
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from shest.labels.orientations import epoch_draws, hash_seed
from shest.labels.training_set import TrainingSet, moments
from shest.systems import zinb
from shest.systems.base import Diverged
from shest.systems.numerics import autocast, deterministic
from shest.systems.shest.heads import HEADS, Settings, build_heads, parameter_ranges

CHECK_STEPS = 20  # on a GPU the losses are looked at this often, so that it need not wait in every step


class Batch(NamedTuple):
    """Embeddings (k, d) float32, labels (k,), counts, and the measured entries (k, g) where not all are."""

    x: Tensor
    label: Tensor
    counts: zinb.Nonzero
    measured: Tensor | None


@dataclass
class Fit:
    """A trained ensemble: moments of the input, and for each member and head its best state."""

    mean: np.ndarray
    std: np.ndarray
    members: list[dict[str, dict[str, Tensor]]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)


class Loader:
    """Reads batches of (cells, views) and brings them to a device, one batch ahead of the training."""

    def __init__(self, data: TrainingSet, mean: np.ndarray, std: np.ndarray, device: torch.device) -> None:
        self.data, self.device = data, device
        self.mean = torch.from_numpy(mean).to(device)
        self.std = torch.from_numpy(std).to(device)
        self.complete = bool(data.measured[np.unique(data.sample[np.r_[data.train, data.val]])].all())

    def batches(self, cells: np.ndarray, views: np.ndarray, size: int) -> Iterator[Batch]:
        """Yield batches of at most ``size`` in order."""
        parts = [slice(start, start + size) for start in range(0, len(cells), size)]
        with ThreadPoolExecutor(1) as pool:
            ahead = None
            for part in parts:
                ready, ahead = ahead, pool.submit(self._read, cells[part], views[part])
                if ready:
                    yield self._place(ready.result())
            if ahead:
                yield self._place(ahead.result())

    def _read(self, cells: np.ndarray, views: np.ndarray) -> list[Tensor | None]:
        data = self.data
        measured = None if self.complete else torch.from_numpy(data.measured[data.sample[cells]])
        tensors = [
            torch.from_numpy(data.source.take(cells, views)),
            torch.from_numpy(data.label[cells]),
            *zinb.nonzero(data.counts[cells]),
            measured,
        ]
        pin = self.device.type == "cuda"
        return [t.pin_memory() if pin and t is not None else t for t in tensors]

    def _place(self, tensors: list[Tensor | None]) -> Batch:
        moved = [None if t is None else t.to(self.device, non_blocking=True) for t in tensors]
        x, label, index, count, log_factorial, measured = moved
        return Batch((x.float() - self.mean) / self.std, label, zinb.Nonzero(index, count, log_factorial), measured)


class Trainer:
    """One head with its optimiser, best weights and patience."""

    def __init__(self, name: str, module: nn.Module, settings: Settings, device: torch.device) -> None:
        self.name, self.settings, self.device = name, settings, device
        self.module = module.to(device)
        self.optimiser = torch.optim.AdamW(
            self.module.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.best, self.best_state, self.waited, self.step = math.inf, self.state(), 0, 0
        self.losses: list[Tensor] = []
        self.norms: list[Tensor] = []

    @property
    def active(self) -> bool:
        """Whether the head is still trained."""
        return self.waited < self.settings.patience

    def state(self) -> dict[str, Tensor]:
        """Copy the weights."""
        return {name: value.detach().cpu().clone() for name, value in self.module.state_dict().items()}

    def loss(self, batch: Batch) -> Tensor:
        """Mean loss of a batch: cross-entropy, or the negative log-likelihood of the counts, float32."""
        with autocast(self.device, self.settings.precision):
            out = self.module(batch.x)
        if self.name == "classifier":
            return nn.functional.cross_entropy(out.float(), batch.label)
        return zinb.nll(*out, batch.counts, batch.measured)

    def learn(self, batch: Batch) -> None:
        """Take one step.

        Raises
        ------
        Diverged
            The loss is not finite.
        """
        loss = self.loss(batch)
        self.losses.append(loss.detach())
        self.step += 1
        if self.device.type == "cpu" or len(self.losses) % CHECK_STEPS == 0:
            self.check()
        loss.backward()
        self.norms.append(nn.utils.get_total_norm([p.grad for p in self.module.parameters()]))
        self.optimiser.step()
        self.optimiser.zero_grad()

    def check(self) -> None:
        """Raise :class:`Diverged` if a loss since the last epoch is not finite."""
        since = torch.stack(self.losses[-CHECK_STEPS:])
        if not torch.isfinite(since).all():
            bad = int((~torch.isfinite(since)).nonzero()[0])
            step = self.step - len(since) + 1 + bad
            message = (
                f"the loss of the {self.name} is not finite at step {step}; parameters: {parameter_ranges(self.module)}"
            )
            raise Diverged(message, {f"{self.name}.{key}": value.numpy() for key, value in self.best_state.items()})

    def end_epoch(self, validation: float) -> dict[str, float]:
        """Keep the weights if they are the best so far; return the epoch's means."""
        self.check()
        if validation < self.best:
            self.best, self.best_state, self.waited = validation, self.state(), 0
        else:
            self.waited += 1
        means = [torch.stack(values).double().mean().item() for values in (self.losses, self.norms)]
        self.losses, self.norms = [], []
        return {"train_loss": means[0], "val_loss": validation, "gradient_norm": means[1]}

    def validate(self, batches: Iterator[Batch]) -> float:
        """Mean loss over the batches, each weighted by its cells, or by its measured entries."""
        self.module.eval()
        total, entries = 0.0, 0.0
        with torch.inference_mode():
            for batch in batches:
                masked = self.name == "reconstructor" and batch.measured is not None
                n = float(batch.measured.sum()) if masked else float(len(batch.label))
                total, entries = total + float(self.loss(batch)) * n, entries + n
        self.module.train()
        return total / entries


def fit(
    data: TrainingSet, settings: Settings, device: torch.device, advance: Callable[[int], None] | None = None
) -> Fit:
    """Train all members of the ensemble.

    Parameters
    ----------
    data : cells to learn from; without validation cells the training loss decides which weights are best
    settings : section ``train``
    device : where to train
    advance : called with 1 after each epoch of each member (with the rest, when a member stops early)

    Returns
    -------
    Fit
        ``rows``: one dict an epoch, member and head, by :data:`shest.systems.base.HISTORY`.

    Raises
    ------
    Diverged
        A loss is not finite.
    """
    result = Fit(*moments(data.source, data.train))
    loader = Loader(data, result.mean, result.std, device)
    cuda = [device] if device.type == "cuda" else []
    with deterministic(), torch.random.fork_rng(devices=cuda):
        for member in range(settings.members):
            torch.manual_seed(hash_seed(settings.seed, member))
            trainers = _fit_member(data, settings, loader, member, result.rows, advance or (lambda n: None))
            result.members.append({t.name: t.best_state for t in trainers})
    return result


def _fit_member(
    data: TrainingSet, settings: Settings, loader: Loader, member: int, rows: list[dict], advance: Callable[[int], None]
) -> list[Trainer]:
    """Train both heads of one member, adding to ``rows``."""
    labels = data.label[data.train]
    modules = build_heads(data.source.dim, len(data.classes), data.counts.shape[1], settings)
    trainers = [Trainer(name, modules[name], settings, loader.device) for name in HEADS]
    for epoch in range(settings.epochs):
        active = [t for t in trainers if t.active]
        if not active:
            advance(settings.epochs - epoch)
            break
        drawn, views = epoch_draws(
            labels, settings.views, settings.seed, member * settings.epochs + epoch, settings.draws
        )
        for batch in loader.batches(data.train[drawn], views, settings.batch):
            for trainer in active:
                trainer.learn(batch)
        for trainer in active:
            if len(data.val):
                identity = np.zeros(len(data.val), np.int64)
                loss = trainer.validate(loader.batches(data.val, identity, settings.batch))
            else:
                loss = float(torch.stack(trainer.losses).mean())
            means = trainer.end_epoch(loss)
            place = {"part": trainer.name, "member": member, "step": epoch + 1}
            rows.append(place | means | {"best": trainer.waited == 0})
        advance(1)
    return trainers
