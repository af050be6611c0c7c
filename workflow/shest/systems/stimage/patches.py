"""What members see of patches: features of one frozen backbone, or each what its own network says."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shest.systems.backbone import OnBackbone, make
from shest.systems.colour import Colours
from shest.systems.numerics import autocast
from shest.systems.patch_training import parameters, read_ahead, to_device

AT_ONCE = 64  # patches that a network looks at where nothing is learnt


class Networks:
    """Networks on one kind of backbone.

    Attributes
    ----------
    modules
        One that gives its features, where the backbone is frozen; else one a member, which gives its logits.
    colours
        What is done to the colours of each sample first.
    """

    def __init__(self, settings: Mapping[str, Any], device: torch.device) -> None:
        self.settings, self.device, self.colours = settings, device, Colours(settings)
        self.modules: list[OnBackbone] = []

    def add(self, outputs: int, seed: int, weights: bool = True) -> OnBackbone:
        """Add a network with so many outputs; 0: it gives its features. ``weights``: load those of the backbone."""
        torch.manual_seed(seed)
        backbone = make(self.settings, weights)
        head = nn.Linear(backbone.num_features, outputs) if outputs else nn.Identity()
        module = OnBackbone(backbone, head, self.settings["trained"], raw=self.settings["input"] == "raw")
        self.modules.append(module.to(self.device, memory_format=torch.channels_last).eval())
        return module

    def run(self, number: int, x: Any) -> Tensor:
        """Return what a network says of :class:`shest.tiles.patch.Taken`, (n, outputs) float32 on the device."""
        found, samples = [], x.samples
        for start in range(0, len(x), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            found.append(self._look(number, to_device(x[part], self.device), samples[part]))
        return torch.cat(found)

    def features(self, source: Any) -> "Features":
        """Return the features of all units of a source of patches, each looked at once."""
        rows, samples = np.arange(len(source.units)), [sample for sample, _ in source.units]
        found = [
            self._look(0, x, [samples[row] for row in part]).cpu().numpy()
            for part, x in read_ahead(source, rows, AT_ONCE, self.device)
        ]
        return Features(np.concatenate(found))

    def _look(self, number: int, x: Tensor, samples: Sequence[str]) -> Tensor:
        with torch.inference_mode(), autocast(self.device, self.settings["precision"]):
            return self.modules[number](self.colours.apply(x, samples)).float()

    def tensors(self) -> dict[str, np.ndarray]:
        """``network.{number}.*``, and what is done to colours."""
        found = self.colours.tensors()
        for k, module in enumerate(self.modules):
            found |= {f"network.{k}.{name}": value.cpu().numpy() for name, value in module.state_dict().items()}
        return found

    def restore(self, tensors: Mapping[str, np.ndarray], networks: int, outputs: int) -> None:
        """Become what was saved."""
        for k in range(networks):
            start, module = f"network.{k}.", self.add(outputs, 0, weights=False)
            own = {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
            module.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in own.items()})
        self.colours.restore(tensors)

    def sizes(self) -> dict[str, int]:
        """Return numbers of parameters: of all networks, and those that are trained."""
        counted = {"networks": False, "networks trained": True}
        return {name: sum(parameters(m, trained) for m in self.modules) for name, trained in counted.items()}


class Features:
    """Features in memory, (n, d) float32, read as embeddings are."""

    fingerprint, orientation_invariant = "", True

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.dim = values, values.shape[1]

    def take(self, units: np.ndarray, views: np.ndarray | int = 0) -> np.ndarray:
        """Return those of some units."""
        return self.values[units]
