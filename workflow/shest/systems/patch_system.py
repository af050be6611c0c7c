"""What systems that train a network on patches have in common: they predict expression, on a scale of logarithms."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shest.labels.training_set import TrainingSet, shuffled
from shest.systems.base import Prediction, System
from shest.systems.colour import Colours
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
    colours
        What is done to the colours of each sample before the network sees them.
    """

    module: nn.Module
    median: float
    fitted_on: str

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self.device = device_of()
        self.colours = Colours(settings)

    def survey(self, x: Any) -> None:
        """Look at the colours of samples that it was not trained on, by patches of the units to be predicted."""
        self.colours.survey(x)

    def choose(self, data: TrainingSet) -> TrainingSet:
        return shuffled(data, self.settings["seed"]) if self.settings["shuffle"] else data

    def predict(self, x: Any, expression: bool = True) -> Prediction:
        """Predict for :class:`shest.tiles.patch.Taken`, a batch at a time; below 0 no logarithm of 1 + x can be.

        A control (``shuffle``) gives each unit what it says of another of them.
        """
        if not expression:
            return Prediction()
        self.survey(x)
        found, samples, size = [], x.samples, self.settings["batch"]
        with torch.inference_mode(), autocast(self.device, self.settings["precision"]):
            for start in range(0, len(x), size):
                part = slice(start, start + size)
                patches = self.colours.apply(to_device(x[part], self.device), samples[part])
                found.append(self.look(patches).float().cpu().numpy())
        expected = np.maximum(np.concatenate(found), 0)
        if self.settings["shuffle"]:
            expected = expected[np.random.default_rng(self.settings["seed"]).permutation(len(expected))]
        return Prediction(expected=expected)

    @abstractmethod
    def look(self, x: Tensor) -> Tensor:
        """Return what the network says of patches, (k, 3, px, px) of 0 to 1, once their colours are changed."""

    def coloured(self, source: Any, x: Tensor, rows: np.ndarray) -> Tensor:
        """Return training patches with their colours changed; ``rows``: their places in the source."""
        return self.colours.apply(x, [source.units[row][0] for row in rows])

    def tensors(self) -> dict[str, np.ndarray]:
        """``network.*``, and what is done to colours."""
        network = {f"network.{name}": value.cpu().numpy() for name, value in self.module.state_dict().items()}
        return network | self.colours.tensors()

    def restore_network(self, tensors: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> None:
        """Put weights into the module, and back what :meth:`describe` said."""
        below = {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
        self.module.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in below.items()})
        self.module.to(self.device, memory_format=torch.channels_last).eval()
        self.colours.restore(tensors)
        self.median, self.fitted_on = info["library_median"], info["device"]

    def describe(self) -> dict[str, Any]:
        return {"library_median": self.median, "device": self.fitted_on, "coloured": sorted(self.colours.of)}
