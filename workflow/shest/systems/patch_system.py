"""What systems that train a network on patches have in common: they predict expression, on a scale of logarithms."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shest.labels.training_set import TrainingSet, shuffled
from shest.systems.base import Prediction, System
from shest.systems.numerics import autocast
from shest.systems.patch_training import device_of, to_device


class PatchSystem(System):
    """A network on patches; it predicts no types.

    Attributes
    ----------
    module
        The network; made by :meth:`fit` and :meth:`restore`.
    median
        Of the sums of the training units' counts.
    """

    module: nn.Module
    median: float
    fitted_on: str

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self.device = device_of()

    def choose(self, data: TrainingSet) -> TrainingSet:
        return shuffled(data, self.settings["seed"]) if self.settings["shuffle"] else data

    def predict(self, x: Any, expression: bool = True) -> Prediction:
        """Predict for :class:`shest.tiles.patch.Taken`, a batch at a time; below 0 no logarithm of 1 + x can be.

        A control (``shuffle``) gives each unit what it says of another of them.
        """
        if not expression:
            return Prediction()
        found, samples, size = [], x.samples, self.settings["batch"]
        with torch.inference_mode(), autocast(self.device, self.settings["precision"]):
            for start in range(0, len(x), size):
                part = slice(start, start + size)
                found.append(self.look(to_device(x[part], self.device), samples[part]).float().cpu().numpy())
        expected = np.maximum(np.concatenate(found), 0)
        if self.settings["shuffle"]:
            expected = expected[np.random.default_rng(self.settings["seed"]).permutation(len(expected))]
        return Prediction(expected=expected)

    @abstractmethod
    def look(self, x: Tensor, samples: Sequence[str]) -> Tensor:
        """Return what the network says of patches as they stand in the slide, (k, 3, px, px) of 0 to 1."""

    def tensors(self) -> dict[str, np.ndarray]:
        """``network.*``."""
        return {f"network.{name}": value.cpu().numpy() for name, value in self.module.state_dict().items()}

    def restore_network(self, tensors: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> None:
        """Put weights into the module, and back what :meth:`describe` said."""
        below = {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
        self.module.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in below.items()})
        self.module.to(self.device, memory_format=torch.channels_last).eval()
        self.median, self.fitted_on = info["library_median"], info["device"]

    def describe(self) -> dict[str, Any]:
        return {"library_median": self.median, "device": self.fitted_on}
