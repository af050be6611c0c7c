"""A network in training that goes on after a fit that was cut off."""

from pathlib import Path

import torch
from torch import Tensor, nn

from shest.core.files import atomic_write


class Resumable:
    """What a checkpoint holds of a network in training.

    Attributes
    ----------
    module, optimiser
        Both are kept with their state.
    noted
        Names of the further attributes that are kept.
    """

    module: nn.Module
    optimiser: torch.optim.Optimizer
    noted: tuple[str, ...]

    def state(self) -> dict[str, Tensor]:
        """Copy the weights: a reference would go on changing, on a CPU."""
        return {name: value.detach().cpu().clone() for name, value in self.module.state_dict().items()}

    def keep(self, path: Path, key: str) -> None:
        """Write a checkpoint; ``key`` tells which fit it is of."""
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = {name: getattr(self, name) for name in self.noted}
        kept |= {"key": key, "module": self.state(), "optimiser": self.optimiser.state_dict()}
        with atomic_write(path) as tmp_path:
            torch.save(kept, tmp_path)

    def resume(self, path: Path, key: str) -> bool:
        """Go on from a checkpoint of the same fit; tell whether there is one."""
        if not path.is_file():
            return False
        try:
            kept = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, ValueError):
            return False
        if kept.pop("key") != key:
            return False
        self.module.load_state_dict(kept.pop("module"))
        self.optimiser.load_state_dict(kept.pop("optimiser"))
        for name, value in kept.items():
            setattr(self, name, value)
        return True
