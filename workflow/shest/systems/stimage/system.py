"""One linear layer from features to the negative binomial of every gene; each seed a member of the ensemble.

Features are an encoder's embeddings, or those of a backbone that looks at patches: frozen, and then the same for all
members, or trained, each member's own.

As published: the backbone is frozen by default, there is no hidden layer, a gene has r = softplus and p = sigmoid of
its two outputs, the loss is the negative log-likelihood. Departures: it is fitted to counts, not to their logarithms,
on standardised features, stopped on whole spatial blocks, and every member keeps its best weights; no gene is expected
above its largest training count; members are disjoint seeds.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
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
from shest.systems.colour import Colours
from shest.systems.numerics import autocast, deterministic, ensemble_moments
from shest.systems.patch_training import Plan, Work, digest, train
from shest.systems.stimage.patches import Networks

PART = "negative binomial"  # in ``training.csv``
READ = 4096  # units at once where nothing is learnt
LEARNT = ("mean", "std", "weight", "bias")
UNBOUNDED = np.full(1, np.inf, np.float32)
UNITS = {
    "counts": "expected counts per unit, r (1 - p) / p of the negative binomial, mean over members",
    "log1p": LOG1P,
}


class STImage(System):
    """An ensemble of linear layers; ``m`` members, ``d`` features, ``g`` genes.

    Attributes
    ----------
    networks
        What members see of patches; None where they read embeddings.
    tuned
        Whether each member has a network of its own, whose last layer is its linear one.
    mean, std
        (d,) what features are shifted and divided by, unless ``tuned``.
    weight, bias
        (m, 2 g, d), (m, 2 g): the logits of r, then those of p, unless ``tuned``.
    most
        (g,) the largest that is expected of each gene; infinite unless ``bounded``.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self.expression_unit = UNITS[settings["target"]]
        self.device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
        self.networks = Networks(settings, self.device) if settings["backbone"] else None
        self.tuned = self.networks is not None and settings["trained"] != 0
        self._looked: tuple[Any, Any] = None, None

    @property
    def colours(self) -> Colours:
        """What is done to the colours of patches."""
        return self.networks.colours

    def steps(self) -> int:
        return self.settings["members"] * self.settings["epochs"]

    def fit(self, data: TrainingSet, advance: Callable[[int], None]) -> list[dict[str, Any]]:
        """Train every member; without validation units the training loss decides which weights are best."""
        console.log.info(f"training on {self.device}")
        target = data.counts
        if self.settings["target"] == "log1p":
            target = target.astype(np.float32)
            target.data = np.log1p(target.data)
        self.most = Batches(self, data, target).largest() if self.settings["bounded"] else UNBOUNDED
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            if self.networks:
                self.colours.learn(data)
            if self.tuned:
                return self._fit_networks(data, target, advance)
            if self.networks:
                self.networks.add(0, self.settings["seed"])
                data = replace(data, source=self.networks.features(data.source))
            return self._fit_layers(data, target, advance)

    def _fit_networks(
        self, data: TrainingSet, target: sparse.csr_matrix, advance: Callable[[int], None]
    ) -> list[dict[str, Any]]:
        """Train a network a member, each from the backbone's first weights on."""
        batches, history, key = Batches(self, data, target), [], digest(data, self.settings)

        def loss(module: nn.Module, x: Tensor, rows: np.ndarray) -> Tensor:
            x = self.colours.apply(x, [data.source.units[row][0] for row in rows])
            return self.likelihood(module(x), *batches.target_of(rows))

        for member in range(self.settings["members"]):
            seed = hash_seed(self.settings["seed"], member)
            module = self.networks.add(2 * target.shape[1], seed)
            plan, name = Plan.of(self.settings, seed=seed), f"member_{member}"
            work = Work(name, data.source, data.train, data.val, loss, plan, self.device, self.scratch, key)
            place = {"part": PART, "member": member}
            history += [row | place for row in train(module, work, advance)]
        return history

    def _fit_layers(
        self, data: TrainingSet, target: sparse.csr_matrix, advance: Callable[[int], None]
    ) -> list[dict[str, Any]]:
        """Train a layer a member on the same features."""
        self.mean, self.std = moments(data.source, data.train)
        if not self.settings["standardise"]:
            self.mean, self.std = np.zeros_like(self.mean), np.ones_like(self.std)
        batches, rows, layers = Batches(self, data, target), [], []
        with deterministic():
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
            place = {"part": PART, "member": member, "step": epoch + 1, "best": not waited}
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
            logits = layer(x)
        return self.likelihood(logits, counts, shift, measured)

    def likelihood(self, logits: Tensor, counts: zinb.Nonzero, shift: Tensor, measured: Tensor | None) -> Tensor:
        """Mean negative log-likelihood of a batch by its logits (n, 2 g)."""
        a, b = logits.chunk(2, dim=1)
        return nb.nll(a.contiguous(), (b - shift.to(b.dtype)).contiguous(), counts, measured)

    def survey(self, x: Any) -> None:
        """Look at the colours of samples that it was not trained on."""
        if self.networks:
            self.colours.survey(x)

    def predict(self, x: Any, expression: bool = True) -> Prediction:
        """Predict expression; it knows no types."""
        if not expression:
            return Prediction()
        seen, members = self._see(x), range(self.settings["members"])
        return Prediction(None, *ensemble_moments(nb.mean_variance(*self.logits(k, seen)) for k in members))

    def member_means(self, x: Any) -> Iterator[np.ndarray]:
        """Yield what each member expects, (n, g) float32, one after the other."""
        seen = self._see(x)
        for member in range(self.settings["members"]):
            yield nb.mean_variance(*self.logits(member, seen))[0].cpu().numpy()

    def draw(self, x: Any, keys: np.ndarray) -> np.ndarray | None:
        """Draw each unit's counts from one member, chosen by its key; of logarithms there is nothing to draw."""
        if self.settings["target"] != "counts":
            return None
        seen, member = self._see(x), (keys % np.uint64(self.settings["members"])).astype(int)
        parts = {k: rows for k in range(self.settings["members"]) if len(rows := np.flatnonzero(member == k))}
        found = [
            nb.draw(*self.logits(k, seen.part(rows) if self.tuned else seen[rows]), keys[rows], self.settings["seed"])
            for k, rows in parts.items()
        ]
        return np.concatenate(found)[np.argsort(np.concatenate(list(parts.values())), kind="stable")]

    def _see(self, x: Any) -> Any:
        """Return what members take of some units; features of a frozen backbone are kept until it sees others."""
        self.survey(x)
        if self.networks is None or self.tuned:
            return x
        if self._looked[0] is not x:
            self._looked = x, self.networks.run(0, x).cpu().numpy()
        return self._looked[1]

    def standard(self, x: np.ndarray) -> Tensor:
        """Return the layer's input of some embeddings."""
        return torch.from_numpy((np.asarray(x, np.float32) - self.mean) / self.std).to(self.device)

    def logits(self, member: int, seen: Any) -> tuple[Tensor, Tensor]:
        """Return the logits by a member of what it takes, (n, g) float32 each."""
        if self.tuned:
            found = self.networks.run(member, seen)
        else:
            with torch.inference_mode(), autocast(self.device, self.settings["precision"]):
                found = nn.functional.linear(self.standard(seen), self.weights[member], self.biases[member])
        a, b = found.float().chunk(2, dim=1)
        return a, nb.bounded(a, b, torch.from_numpy(self.most).to(self.device))

    def _place(self) -> None:
        self.weights, self.biases = (torch.from_numpy(x).to(self.device) for x in (self.weight, self.bias))

    def tensors(self) -> dict[str, np.ndarray]:
        layers = {} if self.tuned else {name: getattr(self, name) for name in LEARNT}
        return layers | {"most": self.most} | (self.networks.tensors() if self.networks else {})

    def restore(self, tensors: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> None:
        self.most = tensors["most"]
        if self.networks:
            sizes = (self.settings["members"], 2 * len(info["genes"])) if self.tuned else (1, 0)
            self.networks.restore(tensors, *sizes)
        if not self.tuned:
            for name in LEARNT:
                setattr(self, name, tensors[name])
            self._place()

    def describe(self) -> dict[str, Any]:
        counted = {} if self.tuned else {"layers": self.weight.size + self.bias.size}
        counted |= self.networks.sizes() if self.networks else {}
        return {
            "members": self.settings["members"],
            "device": str(self.device),
            "parameters": counted if self.networks else counted["layers"],
        }


class Batches:
    """Reads a training set for the members."""

    def __init__(self, system: STImage, data: TrainingSet, target: sparse.csr_matrix) -> None:
        self.system, self.data, self.target = system, data, target
        total = np.asarray(data.counts.sum(axis=1), np.float64).ravel()
        if system.settings["exposure"] == "library":
            depth = np.maximum(total, 1) / max(np.median(total[data.train]), 1)
        else:
            depth = np.ones_like(total)
        self.shift = torch.from_numpy(np.log(depth).astype(np.float32))[:, None]
        self.complete = bool(data.measured[np.unique(data.sample)].all())

    def largest(self) -> np.ndarray:
        """Return each gene's largest training target, at the median unit's exposure, (g,); 1 or more."""
        rows = self.data.train
        scaled = sparse.diags(np.exp(-self.shift[rows, 0].numpy())) @ self.target[rows]
        return np.maximum(np.asarray(scaled.max(axis=0).todense(), np.float32).ravel(), 1)

    def read(self, units: np.ndarray, size: int) -> Iterator[tuple[Tensor, zinb.Nonzero, Tensor, Tensor | None]]:
        """Yield input, counts, log exposure, and the measured entries (where not all are), in order."""
        for start in range(0, len(units), size):
            part = units[start : start + size]
            yield self.system.standard(self.data.source.take(part)), *self.target_of(part)

    def target_of(self, part: np.ndarray) -> tuple[zinb.Nonzero, Tensor, Tensor | None]:
        """Return counts, log exposure and the measured entries of some units."""
        device, data = self.system.device, self.data
        measured = None if self.complete else torch.from_numpy(data.measured[data.sample[part]]).to(device)
        return zinb.nonzero(self.target[part]).to(device), self.shift[part].to(device), measured

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
