"""One linear layer from embedding to the negative binomial of every gene; each seed a member of the ensemble.

As published: the encoder is frozen, there is no hidden layer, a gene has r = softplus and p = sigmoid of its two
outputs, the loss is the negative log-likelihood. Departures: it is fitted to counts, not to their logarithms, on
standardised features, stopped on whole spatial blocks, and every member keeps its best weights; members are
disjoint seeds.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from shest.core import console
from shest.io.expression import LOG1P
from shest.labels.orientations import hash_seed
from shest.labels.training_set import TrainingSet, moments
from shest.systems import nb, zinb
from shest.systems.base import Diverged, Prediction, System
from shest.systems.numerics import autocast, deterministic, ensemble_moments

READ = 4096  # units at once where nothing is learnt
LEARNT = ("mean", "std", "weight", "bias")
UNITS = {
    "counts": "expected counts per unit, r (1 - p) / p of the negative binomial, mean over members",
    "log1p": LOG1P,
}


class STImage(System):
    """An ensemble of linear layers; ``m`` members, ``d`` features, ``g`` genes.

    Attributes
    ----------
    mean, std
        (d,) what embeddings are shifted and divided by.
    weight, bias
        (m, 2 g, d), (m, 2 g): the logits of r, then those of p.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self.expression_unit = UNITS[settings["target"]]
        self.device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")

    def steps(self) -> int:
        return self.settings["members"] * self.settings["epochs"]

    def fit(self, data: TrainingSet, advance: Callable[[int], None]) -> list[dict[str, Any]]:
        """Train every member; without validation units the training loss decides which weights are best."""
        console.log.info(f"training on {self.device}")
        self.mean, self.std = moments(data.source, data.train)
        if not self.settings["standardise"]:
            self.mean, self.std = np.zeros_like(self.mean), np.ones_like(self.std)
        if self.settings["target"] == "log1p":
            logged = data.counts.astype(np.float32)
            logged.data = np.log1p(logged.data)
        else:
            logged = data.counts
        batches = Batches(self, data, logged)
        rows, layers = [], []
        cuda = [self.device] if self.device.type == "cuda" else []
        with deterministic(), torch.random.fork_rng(devices=cuda):
            for member in range(self.settings["members"]):
                torch.manual_seed(hash_seed(self.settings["seed"], member))
                layer = nn.Linear(data.source.dim, 2 * data.counts.shape[1]).to(self.device)
                rows += self._fit_member(layer, batches, member, advance)
                layers.append(layer)
        self.weight, self.bias = (
            np.stack([getattr(layer, name).detach().cpu().numpy() for layer in layers]) for name in ("weight", "bias")
        )
        self._place()
        return rows

    def _fit_member(
        self, layer: nn.Linear, batches: "Batches", member: int, advance: Callable[[int], None]
    ) -> list[dict[str, Any]]:
        """Train one layer and leave its best weights in it; return a row an epoch."""
        optimiser = torch.optim.Adam(layer.parameters(), lr=self.settings["learning_rate"])
        train, val, size = batches.data.train, batches.data.val, self.settings["batch"]
        best, kept, waited, rows = math.inf, _copy(layer), 0, []
        for epoch in range(self.settings["epochs"]):
            order = np.random.default_rng([self.settings["seed"], member, epoch]).permutation(train)
            losses, norms = [], []
            for batch in batches.read(order, size):
                loss = self.loss(layer, *batch)
                if not torch.isfinite(loss):
                    raise Diverged(
                        f"the loss of member {member} is not finite in epoch {epoch + 1}",
                        {name: value.cpu().numpy() for name, value in kept.items()},
                    )
                optimiser.zero_grad()
                loss.backward()
                norms.append(nn.utils.get_total_norm([p.grad for p in layer.parameters()]))
                optimiser.step()
                losses.append(loss.detach())
            mean = torch.stack(losses).double().mean().item()
            value = batches.mean_loss(layer, val) if len(val) else mean
            waited = 0 if value < best else waited + 1
            if not waited:
                best, kept = value, _copy(layer)
            norm = torch.stack(norms).double().mean().item()
            place = {"part": "negative binomial", "member": member, "step": epoch + 1, "best": not waited}
            rows.append(place | {"train_loss": mean, "val_loss": value, "gradient_norm": norm})
            if waited == self.settings["patience"]:
                advance(self.settings["epochs"] - epoch)
                break
            advance(1)
        layer.load_state_dict(kept)
        return rows

    def loss(self, layer: nn.Linear, x: Tensor, counts: zinb.Nonzero, shift: Tensor, measured: Tensor | None) -> Tensor:
        """Mean negative log-likelihood of a batch; ``shift``: log of each unit's exposure, (n, 1)."""
        with autocast(self.device, self.settings["precision"]):
            a, b = layer(x).chunk(2, dim=1)
        return nb.nll(a.contiguous(), (b - shift.to(b.dtype)).contiguous(), counts, measured)

    def predict(self, x: np.ndarray, expression: bool = True) -> Prediction:
        """Predict expression; it knows no types."""
        if not expression:
            return Prediction()
        return Prediction(None, *ensemble_moments(nb.mean_variance(a, b) for a, b in self._logits(x)))

    def draw(self, x: np.ndarray, keys: np.ndarray) -> np.ndarray | None:
        """Draw each unit's counts from one member, chosen by its key; of logarithms there is nothing to draw."""
        if self.settings["target"] != "counts":
            return None
        member = (keys % np.uint64(len(self.weight))).astype(int)
        counts = np.empty((len(x), self.bias.shape[1] // 2), np.uint16)
        for k, (a, b) in enumerate(self._logits(x)):
            rows = np.flatnonzero(member == k)
            counts[rows] = nb.draw(a[rows], b[rows], keys[rows], self.settings["seed"])
        return counts

    def standard(self, x: np.ndarray) -> Tensor:
        """Return the layer's input of some embeddings."""
        return torch.from_numpy((np.asarray(x, np.float32) - self.mean) / self.std).to(self.device)

    def _logits(self, x: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the logits by each member, (n, g) float32 each."""
        with torch.inference_mode():
            standard = self.standard(x)
            for weight, bias in zip(self.weights, self.biases, strict=True):
                with autocast(self.device, self.settings["precision"]):
                    a, b = nn.functional.linear(standard, weight, bias).chunk(2, dim=1)
                yield a.float(), b.float()

    def _place(self) -> None:
        self.weights, self.biases = (torch.from_numpy(x).to(self.device) for x in (self.weight, self.bias))

    def tensors(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in LEARNT}

    def restore(self, tensors: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> None:
        for name in LEARNT:
            setattr(self, name, tensors[name])
        self._place()

    def describe(self) -> dict[str, Any]:
        return {
            "members": len(self.weight),
            "device": str(self.device),
            "parameters": self.weight.size + self.bias.size,
        }


class Batches:
    """Reads a training set for the layer."""

    def __init__(self, system: STImage, data: TrainingSet, target: sparse.csr_matrix) -> None:
        self.system, self.data, self.target = system, data, target
        total = np.asarray(data.counts.sum(axis=1), np.float64).ravel()
        if system.settings["exposure"] == "library":
            depth = np.maximum(total, 1) / max(np.median(total[data.train]), 1)
        else:
            depth = np.ones_like(total)
        self.shift = torch.from_numpy(np.log(depth).astype(np.float32))[:, None]
        self.complete = bool(data.measured[np.unique(data.sample)].all())

    def read(self, units: np.ndarray, size: int) -> Iterator[tuple[Tensor, zinb.Nonzero, Tensor, Tensor | None]]:
        """Yield input, counts, log exposure, and the measured entries (where not all are), in order."""
        device, data = self.system.device, self.data
        for start in range(0, len(units), size):
            part = units[start : start + size]
            measured = None if self.complete else torch.from_numpy(data.measured[data.sample[part]]).to(device)
            counts = zinb.nonzero(self.target[part]).to(device)
            yield self.system.standard(data.source.take(part)), counts, self.shift[part].to(device), measured

    def mean_loss(self, layer: nn.Linear, units: np.ndarray) -> float:
        """Mean loss over units, each block weighted by its measured entries."""
        total, entries = 0.0, 0.0
        with torch.inference_mode():
            for batch in self.read(units, READ):
                n = float(len(batch[0]) if batch[3] is None else batch[3].sum())
                total, entries = total + float(self.system.loss(layer, *batch)) * n, entries + n
        return total / entries


def _copy(layer: nn.Linear) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in layer.state_dict().items()}
