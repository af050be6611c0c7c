"""The single-patch baseline: fitted, kept as safetensors, and at work."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shest.core import console
from shest.io.expression import LOG1P_MEDIAN, to_depth
from shest.labels.training_set import TrainingSet
from shest.systems.numerics import autocast
from shest.systems.patch_system import PatchSystem
from shest.systems.patch_training import Plan, Targets, Work, digest, measured_mean, parameters, read_ahead, train
from shest.systems.regression import fit_ridge
from shest.systems.single_patch.network import PUBLISHED_BLOCKS, build

SET = 50  # genes of the sets of the highest and the most variable
RIDGE = ("mean", "std", "weight", "bias")


def published(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the published code ran with; its rule of what is trained goes by the family."""
    family = settings["backbone"]
    trained = 0 if family.startswith("resnet") else "all" if family.startswith("efficientnet") else PUBLISHED_BLOCKS
    return dict(settings) | {"bgr": True, "schedule": "constant", "trained": trained}


class SinglePatch(PatchSystem):
    """A backbone and a head; or, with ``head: ridge``, a regression on what the frozen backbone gives."""

    expression_unit = LOG1P_MEDIAN

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(published(settings) if settings["as_published"] else settings)
        if self.settings["head"] == "ridge":
            self.settings["trained"] = 0
        self.sets: dict[str, list[str]] = {}

    def steps(self) -> int:
        return self.settings["epochs"]

    def fit(self, data: TrainingSet, advance: Callable[[int], None]) -> list[dict[str, Any]]:
        self.fitted_on = str(self.device)
        targets = Targets(data, LOG1P_MEDIAN)
        self.median, self.sets = targets.median, gene_sets(data, targets, self.settings["markers"])
        self.colours.learn(data)
        ridge = self.settings["head"] == "ridge"
        self.module = build(self.settings, 0 if ridge else len(data.genes))
        said = ", ".join(f"{part} {count:,}" for part, count in self.sizes().items())
        console.log.info(f"training {self.settings['backbone']} on {self.device}; parameters: {said}")
        if ridge:
            return self._fit_ridge(data, targets, advance)
        if not self.settings["as_published"]:
            with torch.no_grad():
                self.module.head[-1].bias.copy_(torch.from_numpy(targets.mean()))

        def loss(module: nn.Module, x: Tensor, rows: np.ndarray) -> Tensor:
            target, measured = targets.place(rows, self.device)
            found = module(self.coloured(data.source, x, rows))
            return measured_mean((found.float() - target) ** 2, measured)

        plan, key = Plan.of(self.settings), digest(data, self.settings)
        work = Work("network", data.source, data.train, data.val, loss, plan, self.device, self.scratch, key)
        return train(self.module, work, advance)

    def _fit_ridge(self, data: TrainingSet, targets: Targets, advance: Callable[[int], None]) -> list[dict[str, Any]]:
        """Fit the regression on the features; its log1p of counts is of counts at the common depth."""
        self.module.to(self.device, memory_format=torch.channels_last).eval()
        x, x_val = self._features(data.source, data.train), self._features(data.source, data.val)
        self.mean, std = x.mean(axis=0), x.std(axis=0)
        self.std = np.where(std > 1e-6, std, 1).astype(np.float32)
        scaled = to_depth(data.counts, targets.total, self.median)
        standard = ((part - self.mean) / self.std for part in (x, x_val))
        self.weight, self.bias, rows = fit_ridge(*standard, replace(data, counts=scaled))
        advance(self.steps())
        return rows

    def _features(self, source: Any, rows: np.ndarray) -> np.ndarray:
        found = [np.empty((0, self.module.backbone.num_features), np.float32)]
        with torch.inference_mode(), autocast(self.device, self.settings["precision"]):
            for part, x in read_ahead(source, rows, self.settings["batch"], self.device):
                found.append(self.module(self.coloured(source, x, part)).float().cpu().numpy())
        return np.concatenate(found)

    def look(self, x: Tensor) -> Tensor:
        found = self.module(x)
        if self.settings["head"] != "ridge":
            return found
        mean, std, weight, bias = (torch.from_numpy(np.array(getattr(self, name))).to(found) for name in RIDGE)
        return (found - mean) / std @ weight + bias

    def sizes(self) -> dict[str, int]:
        """Return numbers of parameters: of backbone and head, and those of each that are trained."""
        parts = {"backbone": self.module.backbone, "head": self.module.head}
        counted = {name: parameters(part) for name, part in parts.items()}
        return counted | {f"{name} trained": parameters(part, trained=True) for name, part in parts.items()}

    def tensors(self) -> dict[str, np.ndarray]:
        """``network.*``, and the regression where that is the head."""
        ridge = RIDGE if self.settings["head"] == "ridge" else ()
        return super().tensors() | {name: np.asarray(getattr(self, name), np.float32) for name in ridge}

    def restore(self, tensors: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> None:
        ridge = self.settings["head"] == "ridge"
        self.module = build(self.settings, 0 if ridge else len(info["genes"]), weights=False)
        self.restore_network(tensors, info)
        self.sets = info["gene_sets"]
        for name in RIDGE if ridge else ():
            setattr(self, name, tensors[name])

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"parameters": self.sizes(), "gene_sets": self.sets}


def gene_sets(data: TrainingSet, targets: Targets, markers: list[str]) -> dict[str, list[str]]:
    """Choose the sets of genes on the training units: ``HEG`` highest, ``HVG`` most variable, ``MG`` markers."""
    total, squares = np.zeros(len(data.genes)), np.zeros(len(data.genes))
    for start in range(0, len(data.train), 4096):
        values = targets.take(data.train[start : start + 4096]).astype(np.float64)
        total, squares = total + values.sum(axis=0), squares + (values**2).sum(axis=0)
    mean = total / max(len(data.train), 1)
    variance = squares / max(len(data.train), 1) - mean**2

    def most(values: np.ndarray) -> list[str]:
        return sorted(data.genes[k] for k in np.argsort(-values, kind="stable")[:SET])

    sets = {"HEG": most(mean), "HVG": most(variance), "MG": [gene for gene in markers if gene in set(data.genes)]}
    return {name: genes for name, genes in sets.items() if genes}
