"""Training of both heads on cached embeddings: class-balanced draws, early stopping, an ensemble of seeds.

The heads share nothing that is trained, so each has its own optimiser, stops on its own validation loss and
keeps its own best weights; they only share the reading of batches. As in the paper: AdamW at a constant rate of
0.01, batch 1,024, at most 40 epochs. Warm-up, a cosine and clipped gradients were tried on simulated cells (1,500
to 15,000) and left out: no score changed by more than another seed changes it. One thing is added: embeddings are
standardised by the training cells' moments, since LayerNorm cannot bring features of different units together.
"""

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from shest.labels.orientations import epoch_draws, hash_seed
from shest.systems import zinb
from shest.systems.shest.heads import (
    CLASSIFIER_HIDDEN,
    DROPOUT,
    RECONSTRUCTOR_HIDDEN,
    Classifier,
    Reconstructor,
    parameter_ranges,
)

BLOCK = 16_384  # embeddings held at once while moments are computed
CHECK_STEPS = 20  # on a GPU the losses are looked at this often, so that it need not wait in every step
HEADS = ("classifier", "reconstructor")


class Source(Protocol):
    """Embeddings that are read when asked for, as :class:`shest.encode.cache.Embeddings`."""

    dim: int

    def take(self, cells: np.ndarray, views: np.ndarray | int = 0) -> np.ndarray:
        """Return the embeddings (k, dim) of cells and views."""


@dataclass(frozen=True)
class Data:
    """What a model is trained on; ``n`` cells, ``g`` genes, ``s`` samples.

    embeddings : the cells' embeddings
    counts : (n, g) CSR; genes of several samples joined by name
    measured : (s, g) bool, whether the sample's panel has the gene
    sample : (n,) int, sample of each cell
    label : (n,) int, class of each cell
    train, val : (k,) int64, cells to learn from, and to stop and to calibrate by
    """

    embeddings: Source
    counts: sparse.csr_matrix
    measured: np.ndarray
    sample: np.ndarray
    label: np.ndarray
    train: np.ndarray
    val: np.ndarray

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.label[self.train].max()) + 1


@dataclass(frozen=True)
class Settings:
    """Section ``train`` of the config."""

    views: str | int = 1
    members: int = 1
    seed: int = 42
    epochs: int = 40
    batch: int = 1024
    learning_rate: float = 0.01
    weight_decay: float = 0.01
    patience: int = 10
    dropout: float = DROPOUT
    classifier_hidden: tuple[int, ...] = CLASSIFIER_HIDDEN
    reconstructor_hidden: tuple[int, ...] = RECONSTRUCTOR_HIDDEN
    precision: str = "auto"

    @classmethod
    def of(cls, config: dict[str, Any]) -> "Settings":
        """Take the keys that concern training out of a config section."""
        names = {f.name for f in fields(cls)}
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k in names})


class Diverged(RuntimeError):
    """A loss became NaN or infinite.

    head, step, ranges : where, and the smallest and largest value of each parameter then
    good : state of the head after its best epoch so far, or as initialised
    """

    def __init__(self, head: str, step: int, ranges: str, good: dict[str, Tensor]) -> None:
        super().__init__(f"the loss of the {head} is not finite at step {step}; parameters: {ranges}")
        self.head, self.step, self.ranges, self.good = head, step, ranges, good


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


def moments(embeddings: Source, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each feature over cells, block by block, float32; 1 for constant features."""
    shift = embeddings.take(cells[:1]).astype(np.float64)[0]
    total, squares = np.zeros(embeddings.dim), np.zeros(embeddings.dim)
    for start in range(0, len(cells), BLOCK):
        block = embeddings.take(cells[start : start + BLOCK]).astype(np.float64) - shift
        total += block.sum(axis=0)
        squares += (block * block).sum(axis=0)
    mean = total / len(cells)
    std = np.sqrt(np.maximum(squares / len(cells) - mean * mean, 0))
    return (mean + shift).astype(np.float32), np.where(std > 1e-6, std, 1).astype(np.float32)


def has_bf16(device: torch.device) -> bool:
    """Tell whether the device multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in checks)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context for the layers: bfloat16 if asked for, or if ``auto`` and the device has instructions for it."""
    wanted = precision == "bf16" or (precision == "auto" and has_bf16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


@contextmanager
def deterministic() -> Iterator[None]:
    """Only deterministic algorithms inside."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before, benchmark = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    fill = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.utils.deterministic.fill_uninitialized_memory = False  # a safety net that costs a pass over every buffer
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = benchmark
        torch.utils.deterministic.fill_uninitialized_memory = fill


class Loader:
    """Reads batches of (cells, views) and brings them to a device, one batch ahead of the training."""

    def __init__(self, data: Data, mean: np.ndarray, std: np.ndarray, device: torch.device) -> None:
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
            torch.from_numpy(data.embeddings.take(cells, views)),
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
            raise Diverged(self.name, step, parameter_ranges(self.module), self.best_state)

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


def fit(data: Data, settings: Settings, device: torch.device, advance: Callable[[int], None] | None = None) -> Fit:
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
        ``rows``: one dict an epoch, member and head: member, head, epoch, train_loss, val_loss, gradient_norm,
        best (whether these weights were kept so far).

    Raises
    ------
    Diverged
        A loss is not finite.
    """
    result = Fit(*moments(data.embeddings, data.train))
    loader = Loader(data, result.mean, result.std, device)
    cuda = [device] if device.type == "cuda" else []
    with deterministic(), torch.random.fork_rng(devices=cuda):
        for member in range(settings.members):
            torch.manual_seed(hash_seed(settings.seed, member))
            trainers = _fit_member(data, settings, loader, member, result.rows, advance or (lambda n: None))
            result.members.append({t.name: t.best_state for t in trainers})
    return result


def _fit_member(
    data: Data, settings: Settings, loader: Loader, member: int, rows: list[dict], advance: Callable[[int], None]
) -> list[Trainer]:
    """Train both heads of one member, adding to ``rows``."""
    labels = data.label[data.train]
    modules = build_heads(data.embeddings.dim, data.classes, data.counts.shape[1], settings)
    trainers = [Trainer(name, modules[name], settings, loader.device) for name in HEADS]
    for epoch in range(settings.epochs):
        active = [t for t in trainers if t.active]
        if not active:
            advance(settings.epochs - epoch)
            break
        drawn, views = epoch_draws(labels, settings.views, settings.seed, member * settings.epochs + epoch)
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
            place = {"member": member, "head": trainer.name, "epoch": epoch + 1}
            rows.append(place | means | {"best": trainer.waited == 0})
        advance(1)
    return trainers


def build_heads(dim: int, classes: int, genes: int, settings: Settings) -> dict[str, nn.Module]:
    """Make untrained heads."""
    return {
        "classifier": Classifier(dim, classes, settings.classifier_hidden, settings.dropout),
        "reconstructor": Reconstructor(dim, genes, settings.reconstructor_hidden, settings.dropout),
    }
