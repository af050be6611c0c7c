"""What a system is: it learns from training units, and predicts types, expression, or both.

A system is a folder beside this file, or a package installed from elsewhere with an entry point of its kind in the
group ``shest.systems``. Its ``__init__`` holds ``SPEC``, a :class:`SystemSpec`, which names the class that does the
work. Splits, scores, figures and the report know no kind of system: they know this page.
"""

import importlib
import json
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from shest.core.errors import InputError, did_you_mean, one_line
from shest.core.files import atomic_write, read_json, write_json
from shest.io.tensors import write_tensors
from shest.labels.training_set import TrainingSet
from shest.systems import uncertainty

FORMAT = 2
RECORD = "record"  # of the header of the weights
GROUP = "shest.systems"
Reads = Literal["nothing", "embeddings", "patches", "slide"]


@dataclass(frozen=True)
class SystemSpec:
    """What the workflow must know of a kind of system before anything of it is imported.

    Attributes
    ----------
    implementation
        ``module:Class`` of a :class:`System`.
    reads
        What it is given of a unit: ``embeddings`` of its encoder; ``patches``, pixels around it of the size that its
        settings ``side_um`` and ``px`` say (:func:`patch_settings`); ``slide``, the paths of the sample's image,
        outlines and registration; or ``nothing``.
    patches_with
        Setting with which it reads patches instead: :meth:`reading`.
    units
        What it can predict for: ``cells``, ``spots``.
    window_um
        Side of what it sees around a unit, µm; None: of its patches, else of the tiles, ``tiles.window_um``.
    train_keys
        Keys of the config's section ``train`` that are its settings.
    settings
        JSON schema of further settings, by key: ``systems.NAME.settings`` of the config.
    outlines
        Whether, once fitted, it finds nuclei itself (:meth:`System.segment`): what ``segment.method: trained`` takes.
    fit_seconds
        Called with its settings, threads, and whether there is a GPU: about how long a fit takes, s. Where it is, or
        returns, None: no longer than two heads with its settings on cached embeddings.
    """

    implementation: str
    reads: Reads = "embeddings"
    patches_with: str | None = None
    units: tuple[str, ...] = ("cells",)
    window_um: float | None = None
    train_keys: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    outlines: bool = False
    fit_seconds: Callable[[Mapping[str, Any], int, bool], float | None] | None = None

    @property
    def module(self) -> str:
        """Module of the implementation."""
        return self.implementation.partition(":")[0]

    def window(self, settings: Mapping[str, Any], tile_um: float) -> float:
        """Return the side of what a system with these settings sees around a unit, µm; ``tile_um``: of the tiles."""
        if self.window_um is not None:
            return self.window_um
        return float(settings["side_um"]) if self.reading(settings) == "patches" else tile_um

    def reading(self, settings: Mapping[str, Any]) -> Reads:
        """Return what a system with these settings reads."""
        return "patches" if self.patches_with and settings.get(self.patches_with) is not None else self.reads

    def create(self, settings: Mapping[str, Any]) -> "System":
        """Make an unfitted system."""
        return getattr(importlib.import_module(self.module), self.implementation.partition(":")[2])(settings)


def patch_settings(side_um: float, px: int) -> dict[str, Any]:
    """Return the settings that a system which reads patches has among its own, with these defaults."""
    return {
        "side_um": {
            "type": "number",
            "exclusiveMinimum": 0,
            "default": side_um,
            "description": "Side of the window around a unit, µm: split.gap_um auto keeps units of different parts as "
            "far apart.",
        },
        "px": {
            "type": "integer",
            "minimum": 16,
            "default": px,
            "description": "Side of the patch, px, that the window is resampled to.",
        },
    }


@cache
def kinds() -> dict[str, SystemSpec]:
    """Return every kind of system: the folders beside this file, and what is installed from elsewhere."""
    folder = str(Path(__file__).parent)
    own = [module.name for module in pkgutil.iter_modules([folder]) if module.ispkg]
    found = {name: importlib.import_module(f"shest.systems.{name}").SPEC for name in sorted(own)}
    return found | {point.name: point.load() for point in entry_points(group=GROUP)}


def spec_of(kind: str) -> SystemSpec:
    """Return the spec of a kind of system.

    Raises
    ------
    InputError
        There is no such kind.
    """
    if kind not in kinds():
        raise InputError("systems", f"no kind of system {kind}", did_you_mean(kind, kinds()))
    return kinds()[kind]


@dataclass
class Prediction:
    """What a system says of ``n`` units; None for what it does not predict.

    Attributes
    ----------
    type_logits
        (members, n, classes): logits, or logarithms of probabilities, of each member of an ensemble.
    expected
        (n, genes): expected expression, in :attr:`System.expression_unit`.
    aleatoric, epistemic
        (n, genes): variance of the data around it, and of the members' expectations.
    """

    type_logits: np.ndarray | None = None
    expected: np.ndarray | None = None
    aleatoric: np.ndarray | None = None
    epistemic: np.ndarray | None = None


class Diverged(RuntimeError):
    """A fit became NaN or infinite; ``good``: the last good weights by name, to be kept beside the log."""

    def __init__(self, message: str, good: Mapping[str, np.ndarray]) -> None:
        super().__init__(message)
        self.good = good


class System(ABC):
    """Something that learns and predicts; made with its settings, then fitted or restored.

    Parameters
    ----------
    settings
        What :attr:`SystemSpec.train_keys` and :attr:`SystemSpec.settings` name.
    """

    expression_unit = "expected counts per {unit}"
    """Of :attr:`Prediction.expected`; ``{unit}`` stands for cell or spot."""
    scratch: Path | None = None
    """Folder for what is needed only while it is fitted: one that was cut off left there what the next goes on from."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = dict(settings)

    def choose(self, data: TrainingSet) -> TrainingSet:
        """Return what it will be fitted on: of the training set some genes and units, or all, as by default.

        It knows and predicts the genes that are chosen, no others.
        """
        return data

    @abstractmethod
    def fit(self, data: TrainingSet, advance: Callable[[int], None]) -> list[dict[str, Any]]:
        """Learn; return the rows of ``training.csv``, see :data:`HISTORY`.

        ``advance`` takes how many of :meth:`steps` are done. Raises :class:`Diverged`.
        """

    def survey(self, x: Any) -> None:  # noqa: B027
        """Look at all units that will be predicted, once, before they are asked for in parts; by default nothing.

        Who reads the slide passes over it here: the parts are in no order of place.
        """

    def embed(self, x: Any) -> np.ndarray:
        """Return what it sees of some units, (n, d) float16: what it reads, where that are embeddings."""
        return np.asarray(x)

    def sweep(
        self, scales: Sequence[Any], mpp: tuple[float, float], block_px: int, threads: int
    ) -> tuple[Any, np.ndarray, Any]:
        """Find the nuclei of a slide and what it sees of each, in one pass; of systems whose spec says ``outlines``.

        Parameters as of :meth:`segment`.

        Returns
        -------
        Polygons and regions as of :meth:`segment`; between them (n, d) float16, which :meth:`predict` takes.
        """
        raise NotImplementedError(f"{type(self).__name__} finds no nuclei")

    def segment(self, scales: Sequence[Any], mpp: tuple[float, float], block_px: int, threads: int) -> tuple[Any, Any]:
        """Find the nuclei of a slide, by block; of systems whose spec says ``outlines``.

        Parameters
        ----------
        scales
            (3, height, width) uint8 arrays, full size first.
        mpp
            µm per full-size px along x and y.
        block_px, threads
            Side of a block, full-size px; cores to use.

        Returns
        -------
        Polygons (n,) in H&E px by centroid (y, then x), and :class:`shest.tissue.segment.regions.Regions`.
        """
        raise NotImplementedError(f"{type(self).__name__} finds no nuclei")

    @abstractmethod
    def predict(self, x: Any, expression: bool = True) -> Prediction:
        """Predict for some units; ``x``: what was read of them; without ``expression``, types alone will do."""

    def draw(self, x: Any, keys: np.ndarray) -> np.ndarray | None:
        """Draw counts from the predicted distribution, (n, genes) uint16; None where no distribution is predicted.

        Expectations are smoother in space than counts are, and say nothing of how often a gene is seen at all.
        ``keys``: (n,) of :func:`unit_keys`; what is drawn for a unit depends on it and on the settings alone.
        """
        return None

    @abstractmethod
    def tensors(self) -> dict[str, np.ndarray]:
        """Return everything that was learnt, by name."""

    @abstractmethod
    def restore(self, tensors: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> None:
        """Become what was saved; ``info``: content of ``model.json``."""

    def steps(self) -> int:
        """Return how many steps a fit takes, for the progress that a person sees."""
        return 1

    def describe(self) -> dict[str, Any]:
        """Return further facts for ``model.json``."""
        return {}


def unit_keys(sample: str, ids: Iterable[str]) -> np.ndarray:
    """Return a number for each unit of a sample, (n,) uint64, that depends on its name alone."""
    digests = (blake2b(f"{sample}/{name}".encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(b"".join(digests), "<u8")


HISTORY = ("part", "member", "step", "train_loss", "val_loss", "val_score", "gradient_norm", "best", "learning_rate")
"""Columns of ``training.csv``: what was fitted (a head, a regression), which member of an ensemble, the epoch or the
strength of a penalty, losses on training and validation units, what was chosen by where that is no loss (a segmenter's
panoptic quality), the norm of the gradients, whether this state was the best so far, and the learning rate, where a
system tells it."""


@dataclass
class Trained:
    """A fitted system and what ``model.json`` says of it."""

    system: System
    info: dict[str, Any]

    @property
    def genes(self) -> list[str]:
        """Genes in the order of the predicted columns; none where no expression is predicted."""
        return self.info["genes"]

    @property
    def classes(self) -> list[str]:
        """Types in the order of the predicted probabilities; none where no types are predicted."""
        return self.info["classes"]

    def check_fingerprint(self, fingerprint: str, path: str | Path) -> None:
        """Raise :class:`InputError` where embeddings are of another encoder than the one it was fitted with."""
        own = self.info["fingerprint"]
        if own != fingerprint:
            raise InputError(
                path,
                f"encoded with fingerprint {fingerprint[:12]}, but the model was trained on {own[:12]}",
                "Predict with the encoder, weights and precision that the model was trained with, or train again",
            )


def save(tensors: str | Path, record: str | Path, trained: Trained) -> None:
    """Write what was learnt (safetensors) and what it is (JSON; the same is in the header of the first)."""
    info = {"format": FORMAT} | trained.info | trained.system.describe()
    with atomic_write(tensors) as tmp_path:
        write_tensors(tmp_path, trained.system.tensors(), {RECORD: json.dumps(info)})
    write_json(record, info)


def load(tensors: str | Path, record: str | Path | None = None) -> Trained:
    """Read a fitted system; without ``record``, by what the header of its weights says.

    Raises
    ------
    InputError
        The format is another, there is no such kind, or weights and record do not belong together.
    """
    remedy = "Train the model again"
    info = read_json(record) if record is not None else _record_within(tensors)
    record = record or tensors
    if info.get("format") != FORMAT:
        raise InputError(record, f"model format {info.get('format')}, not {FORMAT}", remedy)
    system = spec_of(info["kind"]).create(info["settings"])
    try:
        system.restore(load_file(tensors), info)
    except (KeyError, RuntimeError, ValueError, OSError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(tensors, f"not the weights that {record} describes ({first})", remedy) from None
    return Trained(system, info)


def _record_within(tensors: str | Path) -> dict[str, Any]:
    """Return what :func:`save` wrote into the header of the weights."""
    try:
        with safe_open(tensors, "numpy") as opened:
            return json.loads((opened.metadata() or {})[RECORD])
    except (KeyError, OSError, SafetensorError) as error:
        remedy = "Name model.safetensors of a trained system, or segmenter.safetensors of a package"
        raise InputError(tensors, f"no weights of a system ({one_line(error)})", remedy) from None


def calibrate(system: System, data: TrainingSet, block: int = 4096) -> dict[str, Any]:
    """Fit the temperature of the type probabilities on the validation units.

    Returns
    -------
    dict
        ``temperature``, number of ``cells``, and the expected calibration error before and after; the errors are
        None without validation units, all is None where no types are predicted.
    """
    parts = [data.val[start : start + block] for start in range(0, max(len(data.val), 1), block)]
    logits = [system.predict(data.source.take(part), expression=False).type_logits for part in parts]
    if logits[0] is None:
        return {"temperature": None, "cells": len(data.val), "ece_before": None, "ece_after": None}
    joined, label = np.concatenate(logits, axis=1), data.label[data.val]
    temperature = uncertainty.fit_temperature(joined, label)
    errors = [
        uncertainty.calibration_error(uncertainty.ensemble(joined, t), label) if len(label) else None
        for t in (1.0, temperature)
    ]
    return {"temperature": temperature, "cells": len(label), "ece_before": errors[0], "ece_after": errors[1]}


class Nothing:
    """What a system without any view of the units reads: rows of no columns."""

    dim, fingerprint, orientation_invariant = 0, "", True

    def take(self, units: np.ndarray, views: np.ndarray | int = 0) -> np.ndarray:
        """Return (k, 0) float16."""
        return np.empty((len(units), 0), np.float16)


def settings_of(entry: Mapping[str, Any], train: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an entry of the config's ``systems``: its own over those of section ``train``."""
    spec = spec_of(entry["kind"])
    own = {key: part["default"] for key, part in spec.settings.items() if "default" in part}
    return {key: train[key] for key in spec.train_keys} | own | dict(entry.get("settings", {}))


def largest_window(entries: Sequence[Mapping[str, Any]], tile_um: float) -> float:
    """Return the largest window of some systems with their settings filled in, µm; ``tile_um``: of the tiles."""
    return max((spec_of(e["kind"]).window(e["settings"], tile_um) for e in entries), default=tile_um)
