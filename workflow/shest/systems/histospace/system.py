"""HistoSPACE: both stages fitted, kept as safetensors, and at work."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shest.core import console
from shest.io.expression import LOG10_CP10K
from shest.labels.training_set import TrainingSet, without_zeros
from shest.systems.histospace.network import AutoEncoder, Encoder, Predictor, expression_loss
from shest.systems.patch_system import PatchSystem
from shest.systems.patch_training import Plan, Targets, Work, digest, evaluate, parameters, read_ahead, train

PUBLISHED_ZEROS = 0.5


class HistoSpace(PatchSystem):
    """A predictor on a frozen encoder.

    Attributes
    ----------
    facts
        What ``model.json`` says of the fit.
    filters
        How many genes, and units of each part, there were and are learnt from; None where all are.
    """

    expression_unit = LOG10_CP10K

    def __init__(self, settings: Mapping[str, Any]) -> None:
        published = settings["as_published"] and settings["max_zeros"] == 1
        most = PUBLISHED_ZEROS if published else settings["max_zeros"]
        super().__init__(dict(settings) | {"max_zeros": most})
        self.filters: dict[str, dict[str, int]] | None = None
        self.facts: dict[str, Any] = {}

    def choose(self, data: TrainingSet) -> TrainingSet:
        """Leave out genes and units with too many zeros, where that is asked for."""
        if self.settings["max_zeros"] < 1:
            chosen = without_zeros(data, self.settings["max_zeros"])
            pairs = {name: (getattr(data, name), getattr(chosen, name)) for name in ("genes", "train", "val")}
            self.filters = {name: {"of": len(all_), "kept": len(kept)} for name, (all_, kept) in pairs.items()}
            said = ", ".join(f"{n['kept']:,} of {n['of']:,} {name}" for name, n in self.filters.items())
            console.log.info(f"share of zeros below {self.settings['max_zeros']:g}: {said}")
            data = chosen
        return super().choose(data)

    def steps(self) -> int:
        return self.settings["ae_epochs"] + self.settings["epochs"]

    def fit(self, data: TrainingSet, advance: Callable[[int], None]) -> list[dict[str, Any]]:
        self.fitted_on = str(self.device)
        console.log.info(f"training on {self.device}; stains: {self.settings['stain']}")
        targets = Targets(data, LOG10_CP10K)
        self.median = targets.median
        self.colours.learn(data)
        key, published = digest(data, self.settings), self.settings["as_published"]
        torch.manual_seed(self.settings["seed"])
        whole = AutoEncoder(self.settings["autoencoder"], published)
        self.module = Predictor(Encoder(self.settings["autoencoder"]), self.settings["px"], len(data.genes), published)
        if not published:
            with torch.no_grad():
                self.module.head[-1].bias.copy_(torch.from_numpy(targets.mean()))

        def rebuilding(module: nn.Module, x: Tensor, rows: np.ndarray) -> Tensor:
            x = self._scaled(data.source, x, rows)
            return nn.functional.mse_loss(module(x).float(), x)

        def predicting(module: nn.Module, x: Tensor, rows: np.ndarray) -> Tensor:
            target, measured = targets.place(rows, self.device)
            found = module(self._scaled(data.source, x, rows)).float()
            return expression_loss(self.settings["loss"], found, target, measured)

        first = Plan.of(
            self.settings,
            epochs=self.settings["ae_epochs"],
            batch=self.settings["ae_batch"],
            learning_rate=self.settings["ae_learning_rate"],
        )
        own = self.device, self.scratch, key
        work = Work("autoencoder", data.source, data.train, data.val, rebuilding, first, *own)
        history = train(whole, work, advance)
        self.facts = self._errors(whole, work)
        self.module.encoder.load_state_dict(whole.encoder.state_dict())
        second = Plan.of(self.settings)
        work = Work("predictor", data.source, data.train, data.val, predicting, second, *own)
        return history + train(self.module, work, advance)

    def _errors(self, module: nn.Module, work: Work) -> dict[str, Any]:
        """Return the error of rebuilding validation patches, beside that of showing each one's mean colour."""
        rows = work.val if len(work.val) else work.train
        plain, number = 0.0, 0
        for part, x in read_ahead(work.source, rows, work.plan.batch, self.device):
            x = self._scaled(work.source, x, part)
            plain += float(((x - x.mean(dim=(2, 3), keepdim=True)) ** 2).mean()) * len(part)
            number += len(part)
        return {"rebuilding_error": evaluate(module, work, rows), "mean_colour_error": plain / number}

    def _scaled(self, source: Any, x: Tensor, rows: np.ndarray) -> Tensor:
        """Bring training patches of 0 to 1 to the network's input, -1 to 1; ``rows``: their places in the source."""
        return self.coloured(source, x, rows) * 2 - 1

    def look(self, x: Tensor) -> Tensor:
        return self.module(x * 2 - 1)

    def restore(self, tensors: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> None:
        encoder = Encoder(self.settings["autoencoder"])
        self.module = Predictor(encoder, self.settings["px"], len(info["genes"]), self.settings["as_published"])
        self.restore_network(tensors, info)
        self.facts, self.filters = info["autoencoder"], info["filters"]

    def describe(self) -> dict[str, Any]:
        counted = {
            "encoder": parameters(self.module.encoder),
            "head": parameters(self.module.head),
            "trained": parameters(self.module, trained=True),
        }
        return super().describe() | {"parameters": counted, "autoencoder": self.facts, "filters": self.filters}
