"""An ensemble of head pairs: fitted, kept as safetensors, and at work."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from shest.core import console
from shest.labels.training_set import TrainingSet
from shest.systems import zinb
from shest.systems.base import Prediction, System
from shest.systems.numerics import autocast, ensemble_moments
from shest.systems.shest.heads import HEADS, Settings, build_heads
from shest.systems.shest.training import Fit, fit


class Shest(System):
    """Two heads on standardised embeddings, and as many seeds of both as the settings say.

    Attributes
    ----------
    members
        For each member: classifier and reconstructor.
    mean, std
        (dim,) moments that embeddings are standardised by.
    """

    expression_unit = "expected counts per cell, (1 - pi) mu of the zero-inflated negative binomial, mean over members"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self.config, self.device = Settings.of(settings), torch.device("cpu")

    def steps(self) -> int:
        return self.config.members * self.config.epochs

    def fit(self, data: TrainingSet, advance: Callable[[int], None]) -> list[dict[str, Any]]:
        device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
        console.log.info(f"training on {device}")
        self.fitted_on = str(device)
        found = fit(data, self.config, device, advance)
        self.assemble(found, data.source.dim, len(data.classes), len(data.genes))
        return found.rows

    def assemble(self, found: Fit, dim: int, classes: int, genes: int) -> None:
        """Make the heads of trained states."""
        self.members = []
        for states in found.members:
            heads = build_heads(dim, classes, genes, self.config)
            for name, head in heads.items():
                head.load_state_dict(states[name])
                head.to(self.device).eval()
            self.members.append(heads)
        self.mean, self.std = (torch.as_tensor(x, dtype=torch.float32).to(self.device) for x in (found.mean, found.std))

    def tensors(self) -> dict[str, np.ndarray]:
        """``input_mean``, ``input_std``, ``member{k}.classifier.*`` and ``member{k}.reconstructor.*``."""
        named = {"input_mean": self.mean, "input_std": self.std}
        for k, heads in enumerate(self.members):
            for name in HEADS:
                named |= {f"member{k}.{name}.{key}": value for key, value in heads[name].state_dict().items()}
        return {name: value.cpu().numpy() for name, value in named.items()}

    def restore(self, tensors: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> None:
        members = [{name: _below(tensors, f"member{k}.{name}.") for name in HEADS} for k in range(self.config.members)]
        self.fitted_on = info["device"]
        found = Fit(tensors["input_mean"], tensors["input_std"], members)
        self.assemble(found, info["dim"], len(info["classes"]), len(info["genes"]))

    def describe(self) -> dict[str, Any]:
        return {"members": len(self.members), "device": self.fitted_on}

    def predict(self, x: np.ndarray, expression: bool = True) -> Prediction:
        """Predict a block of units; memory grows with n x genes."""
        standard = self._standardise(x)
        with torch.inference_mode(), autocast(self.device, self.config.precision):
            logits = torch.stack([heads["classifier"](standard).float() for heads in self.members]).cpu().numpy()
        return Prediction(logits, *self._expression(standard)) if expression else Prediction(logits)

    def draw(self, x: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Draw each unit's counts from one member, chosen by its key: together, draws of the ensemble's mixture."""
        standard, member = self._standardise(x), (keys % np.uint64(len(self.members))).astype(int)
        counts = np.empty((len(x), self.members[0]["reconstructor"].mean.out_features), np.uint16)
        for k, heads in enumerate(self.members):
            rows = np.flatnonzero(member == k)
            with torch.inference_mode(), autocast(self.device, self.config.precision):
                logits = heads["reconstructor"](standard[rows])
            with torch.inference_mode():
                counts[rows] = zinb.draw(*logits, keys[rows], self.config.seed)
        return counts

    def _standardise(self, x: np.ndarray) -> torch.Tensor:
        return (torch.from_numpy(np.ascontiguousarray(x)).to(self.device).float() - self.mean) / self.std

    def _expression(self, x: torch.Tensor) -> list[np.ndarray]:
        """Expected counts and both variances, (n, genes) float32."""

        def by_member() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            for heads in self.members:
                with autocast(self.device, self.config.precision):
                    logits = heads["reconstructor"](x)
                yield zinb.mean_variance(*logits)

        with torch.inference_mode():
            return ensemble_moments(by_member())


def _below(tensors: Mapping[str, np.ndarray], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): torch.tensor(v) for key, v in tensors.items() if key.startswith(prefix)}
