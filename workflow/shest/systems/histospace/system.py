"""HistoSPACE: both stages fitted, kept as safetensors, and at work."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shest.core import console
from shest.io.expression import LOG10_CP10K
from shest.labels.training_set import TrainingSet, without_zeros
from shest.systems.base import Prediction
from shest.systems.histospace.colour import Colour, Stains, colour_of
from shest.systems.histospace.network import AutoEncoder, Encoder, Predictor, expression_loss
from shest.systems.patch_system import PatchSystem
from shest.systems.patch_training import Plan, Targets, Work, digest, evaluate, parameters, read_ahead, train

PUBLISHED_ZEROS = 0.5
LOOKED_AT = 128  # patches of a sample that its colours are estimated by


class HistoSpace(PatchSystem):
    """A predictor on a frozen encoder.

    Attributes
    ----------
    template
        Stains that all samples are brought to; None where they are left.
    colours
        Of the samples that were looked at.
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
        self.template: Stains | None = None
        self.colours: dict[str, Colour] = {}
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
        self._learn_colours(data)
        key, published = digest(data, self.settings), self.settings["as_published"]
        torch.manual_seed(self.settings["seed"])
        whole = AutoEncoder(self.settings["autoencoder"], published)
        self.module = Predictor(Encoder(self.settings["autoencoder"]), self.settings["px"], len(data.genes), published)
        if not published:
            with torch.no_grad():
                self.module.head[-1].bias.copy_(torch.from_numpy(targets.mean()))

        def prepared(x: Tensor, rows: np.ndarray) -> Tensor:
            return self._prepare(x, [data.source.units[row][0] for row in rows])

        def rebuilding(module: nn.Module, x: Tensor, rows: np.ndarray) -> Tensor:
            x = prepared(x, rows)
            return nn.functional.mse_loss(module(x).float(), x)

        def predicting(module: nn.Module, x: Tensor, rows: np.ndarray) -> Tensor:
            target, measured = targets.place(rows, self.device)
            return expression_loss(self.settings["loss"], module(prepared(x, rows)).float(), target, measured)

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
            x = self._prepare(x, [work.source.units[row][0] for row in part])
            plain += float(((x - x.mean(dim=(2, 3), keepdim=True)) ** 2).mean()) * len(part)
            number += len(part)
        return {"rebuilding_error": evaluate(module, work, rows), "mean_colour_error": plain / number}

    def _learn_colours(self, data: TrainingSet) -> None:
        """Look at the colours of every sample, by patches of its training units; the first sample is the template."""
        samples = np.array([sample for sample, _ in data.source.units])
        for name in dict.fromkeys(samples[data.train]):
            rows = data.train[samples[data.train] == name]
            self.template = self._look_at(name, data.source.take(spread(rows))[:]) or self.template

    def _look_at(self, sample: str, patches: np.ndarray) -> Stains | None:
        """Keep what is to be done to a sample's pixels; return its stains, where there is no template yet."""
        pixels = patches.reshape(-1, 3)
        self.colours[sample], own = colour_of(pixels, self.settings["stain"], self.template)
        return None if self.template else own

    def _prepare(self, x: Tensor, samples: Sequence[str]) -> Tensor:
        """Bring patches of 0 to 1 to the network's input, -1 to 1, each by the colours of its sample."""
        out, names = torch.empty_like(x), np.array(samples)
        for name in dict.fromkeys(samples):
            rows = torch.from_numpy(names == name).to(x.device)
            out[rows] = self.colours[name].apply(x[rows]) if self.settings["stain"] != "none" else x[rows]
        return (out - 0.5) / 0.5

    def survey(self, x: Any) -> None:
        """Look at the colours of samples that it was not trained on, by patches of the units to be predicted."""
        samples = np.array(x.samples)
        for name in dict.fromkeys(samples):
            if name not in self.colours:
                rows = spread(np.flatnonzero(samples == name))
                self._look_at(name, x[rows])

    def predict(self, x: Any, expression: bool = True) -> Prediction:
        if not expression:
            return Prediction()
        self.survey(x)
        return super().predict(x)

    def look(self, x: Tensor, samples: Sequence[str]) -> Tensor:
        return self.module(self._prepare(x, samples))

    def tensors(self) -> dict[str, np.ndarray]:
        """``network.*``, ``colour.{sample}.gain`` and ``.matrix``, and the template's stains."""
        found = super().tensors()
        for name, colour in self.colours.items():
            found |= {f"colour.{name}.gain": colour.gain, f"colour.{name}.matrix": colour.matrix}
        if self.template:
            found |= {"template.vectors": self.template.vectors, "template.full": self.template.full}
        return found

    def restore(self, tensors: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> None:
        encoder = Encoder(self.settings["autoencoder"])
        self.module = Predictor(encoder, self.settings["px"], len(info["genes"]), self.settings["as_published"])
        self.restore_network(tensors, info)
        self.facts, self.filters = info["autoencoder"], info["filters"]
        for name in info["coloured"]:
            self.colours[name] = Colour(*(tensors[f"colour.{name}.{part}"] for part in ("gain", "matrix")))
        if "template.vectors" in tensors:
            self.template = Stains(tensors["template.vectors"], tensors["template.full"])

    def describe(self) -> dict[str, Any]:
        counted = {
            "encoder": parameters(self.module.encoder),
            "head": parameters(self.module.head),
            "trained": parameters(self.module, trained=True),
        }
        return super().describe() | {
            "parameters": counted,
            "autoencoder": self.facts,
            "coloured": sorted(self.colours),
            "filters": self.filters,
        }


def spread(rows: np.ndarray) -> np.ndarray:
    """Return at most :data:`LOOKED_AT` of some rows, evenly among them."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), LOOKED_AT)).astype(int))]
