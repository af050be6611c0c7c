"""The segmenter as a system: a network on the training samples' outlines, then types and expression of what it saw.

Types and expression are regressions on the features that the network pools over a nucleus, fitted on the training
units after it; penalties are chosen on the validation units.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from shest.core import console
from shest.core.errors import InputError
from shest.labels.training_set import TrainingSet
from shest.systems.base import Prediction, System
from shest.systems.nuclei import SPEC, WINDOW_UM, network, passes, targets, training
from shest.systems.regression import EXPRESSION_UNIT, counts_of, fit_logistic, fit_ridge

LEARNT = ("mean", "std", "type_weight", "type_bias", "ridge_weight", "ridge_bias")
LIMIT = 8.0  # standard deviations of a feature on other tissue, beyond which it only says that the tissue is other
COUNTER = "num_batches_tracked"  # of batch normalisation: means nothing once the network is trained


class Nuclei(System):
    """A network and two regressions on its features; ``d`` of them, ``c`` classes, ``g`` genes.

    Attributes
    ----------
    module
        The network.
    mean, std
        (d,) moments of the training units' features.
    type_weight, type_bias, ridge_weight, ridge_bias
        (d, c), (c,), (d, g), (g,).
    """

    expression_unit = EXPRESSION_UNIT

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__({key: part["default"] for key, part in SPEC.settings.items()} | {"seed": 42} | dict(settings))
        self.device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
        self.seen: dict[Path, tuple[pd.Index, np.ndarray]] = {}

    def steps(self) -> int:
        return self.settings["steps"]

    def fit(self, data: TrainingSet, advance: Callable[[int], None]) -> list[dict[str, Any]]:
        """Train the network, pass over the slides, fit the regressions.

        Raises
        ------
        InputError
            No patch meets no nucleus that is held out.
        """
        console.log.info(f"training on {self.device}")
        classes, units = len(data.classes), data.source.units
        with tempfile.TemporaryDirectory(prefix="shest-nuclei-") as folder:
            fields = self._fields(data, Path(folder))
            if not len(targets.all_places(fields, targets.TRAIN)):
                raise InputError(
                    "training patches",
                    f"none of {self.settings['patch_px']} px lies on training cells and off the others",
                    "Lower the system's setting patch_px, or raise split.block_um",
                )
            self.module, rows = training.train(fields, classes, self.settings, self.device, self.scratch, advance)
        self.survey(data.source.take(np.r_[data.train, data.val]))
        x, x_val = (self.features([units[i] for i in part], data.source.samples) for part in (data.train, data.val))
        self.mean, std = x.mean(axis=0), x.std(axis=0)
        self.std = np.where(std > 1e-4, std, 1).astype(np.float32)
        x, x_val = self._standardise(x), self._standardise(x_val)
        labels = data.label[data.train], data.label[data.val]
        found = fit_logistic(x, labels[0], x_val, labels[1], classes, self.settings["seed"])
        self.type_weight, self.type_bias, more = found
        self.ridge_weight, self.ridge_bias, most = fit_ridge(x, x_val, data)
        return rows + more + most

    def _fields(self, data: TrainingSet, folder: Path) -> list[targets.Field]:
        """Make what the network is taught of each sample."""
        parts: dict[str, dict[str, str]] = {name: {} for name in data.source.samples}
        labels: dict[str, dict[str, int]] = {name: {} for name in data.source.samples}
        units = data.source.units
        for part, rows in ((targets.TRAIN, data.train), (targets.VAL, data.val)):
            for i in rows:
                sample, name = units[i]
                parts[sample][name] = part
                if part == targets.TRAIN or data.held_out is not None:  # a patch of val is its own, or there is none
                    labels[sample][name] = int(data.label[i])
        for sample, name in data.held_out or []:
            parts[sample][name] = targets.TEST
        fields = []
        for number, (sample, slide) in enumerate(data.source.samples.items()):
            known = targets.outlined(slide.outlines, parts[sample] if data.held_out is not None else {}, labels[sample])
            path = folder / f"{number}.pixels"
            fields.append(targets.make_field(slide, known, self.settings, WINDOW_UM, path))
            places = ", ".join(f"{len(found):,} for {part}" for part, found in fields[-1].origins.items())
            console.log.info(f"{sample}: places of patches: {places}")
        return fields

    def looking(self, threads: int | None = None) -> passes.Looking:
        """Set the network to work."""
        return passes.Looking(self.module, self.device, self.settings["precision"], threads or torch.get_num_threads())

    def survey(self, x: Any) -> None:
        """Pass over the slides of some units (:class:`shest.systems.sources.Places`) and keep what was seen of them."""
        ids: dict[str, list[str]] = {}
        for sample, name in x.units:
            ids.setdefault(sample, []).append(name)
        for sample, names in ids.items():
            slide = x.samples[sample]
            found = passes.features(self.looking(), slide, names, self.settings["mpp"])
            self.seen[slide.outlines] = pd.Index(names), found

    def features(self, units: Sequence[tuple[str, str]], samples: Mapping[str, Any]) -> np.ndarray:
        """Return what was seen of some units, (n, d) float32, in their order."""
        table = pd.DataFrame(units, columns=["sample", "id"])
        found = np.empty((len(units), self._width()), np.float32)
        for sample, rows in table.groupby("sample"):
            names, values = self.seen[samples[sample].outlines]
            found[rows.index] = values[names.get_indexer(rows["id"])]
        return found

    def _width(self) -> int:
        return passes.width_of(self.module.features, self.module.branches.types.out_channels)

    def _standardise(self, features: np.ndarray) -> np.ndarray:
        return np.clip((features - self.mean) / self.std, -LIMIT, LIMIT)

    def embed(self, x: Any) -> np.ndarray:
        """Return what was seen of :class:`shest.systems.sources.Places`; those not yet surveyed are passed over now."""
        known = {path: names for path, (names, _) in self.seen.items()}
        if any(name not in known.get(x.samples[sample].outlines, ()) for sample, name in x.units):
            self.survey(x)
        return self.features(x.units, x.samples)

    def predict(self, x: Any, expression: bool = True) -> Prediction:
        """Predict for :class:`shest.systems.sources.Places`, or by what :meth:`sweep` or :meth:`embed` gave of them."""
        return self.of_features(x if isinstance(x, np.ndarray) else self.embed(x), expression)

    def of_features(self, features: np.ndarray, expression: bool = True) -> Prediction:
        """Predict for nuclei by their pooled features, (n, d)."""
        standard = self._standardise(np.asarray(features, np.float32))
        logits = (standard @ self.type_weight + self.type_bias)[None]
        if not expression:
            return Prediction(logits)
        return Prediction(logits, counts_of(standard @ self.ridge_weight + self.ridge_bias))

    def sweep(
        self, scales: Sequence[Any], mpp: tuple[float, float], block_px: int, threads: int
    ) -> tuple[Any, np.ndarray, Any]:
        found = passes.sweep(self.looking(threads), scales, mpp, block_px, self.settings["mpp"], pool=True)
        polygons, rows, regions = found
        return polygons, np.empty((0, self._width()), np.float16) if rows is None else rows, regions

    def segment(self, scales: Sequence[Any], mpp: tuple[float, float], block_px: int, threads: int) -> tuple[Any, Any]:
        polygons, _, regions = passes.sweep(
            self.looking(threads), scales, mpp, block_px, self.settings["mpp"], pool=False
        )
        return polygons, regions

    def tensors(self) -> dict[str, np.ndarray]:
        """``network.*`` and the regressions."""
        state = {k: v.cpu().numpy() for k, v in self.module.state_dict().items() if not k.endswith(COUNTER)}
        return {f"network.{key}": value for key, value in state.items()} | {k: getattr(self, k) for k in LEARNT}

    def restore(self, tensors: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> None:
        self.module = network.build(self.settings, len(info["classes"]), weights=False)
        state = self.module.state_dict()
        state |= {
            k.removeprefix("network."): torch.from_numpy(v) for k, v in tensors.items() if k.startswith("network.")
        }
        self.module.load_state_dict(state)
        self.module.eval()
        for name in LEARNT:
            setattr(self, name, tensors[name])

    def describe(self) -> dict[str, Any]:
        return {"network": {"weights": sum(p.numel() for p in self.module.parameters())}}
