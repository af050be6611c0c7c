"""Colours of a sample brought to those of another: the cast is removed, then the stains are normalised.

The cast (HistoSPACE, section 4.2): each channel is scaled so that its 99th percentile is white. Stains: their vectors
by Macenko's method, which is what the project segments by, or by Vahadane's, and their 99th percentiles. All is linear
in optical density once estimated: a sample is three gains, and a matrix.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shest.labels.training_set import TrainingSet
from shest.tiles.haematoxylin import RGB_FROM_HED
from shest.tissue.segment import stain

PERCENTILE = 99
LOOKED_AT = 128  # patches of a sample that its colours are estimated by
KINDS = ("none", "cast", "macenko", "vahadane")
SPARSITY = 0.02  # of Vahadane's codes; the published 0.1 pulls planted vectors some 4° towards each other, this 1°
PIXELS, BATCH = 8000, 256  # that Vahadane's dictionary is learnt from, and of a step


@dataclass(frozen=True)
class Colour:
    """What is done to the pixels of a sample: gains (3,) of the channels, and a matrix (3, 3) of optical densities."""

    gain: np.ndarray
    matrix: np.ndarray

    @classmethod
    def none(cls) -> "Colour":
        """Nothing is done."""
        return cls(np.ones(3, np.float32), np.eye(3, dtype=np.float32))

    def apply(self, x: Tensor) -> Tensor:
        """Change patches (k, 3, h, w) of 0 to 1."""
        gain, matrix = (torch.from_numpy(value).to(x) for value in (self.gain, self.matrix))
        x = (x * gain.view(1, 3, 1, 1)).clamp(0, 1)
        density = -torch.log((x * 255 + 1) / 256)
        density = torch.einsum("khwc,cd->khwd", density.permute(0, 2, 3, 1), matrix).permute(0, 3, 1, 2)
        return ((torch.exp(-density) * 256 - 1) / 255).clamp(0, 1)


@dataclass(frozen=True)
class Stains:
    """Vectors (3, 3) of haematoxylin, eosin and the rest, in optical density, and the full densities of the two."""

    vectors: np.ndarray
    full: np.ndarray


def cast(pixels: np.ndarray) -> np.ndarray:
    """Return the gains that make each channel's 99th percentile white; pixels (n, 3) uint8."""
    return (255 / np.maximum(np.percentile(pixels, PERCENTILE, axis=0), 1)).astype(np.float32)


def vahadane(pixels: np.ndarray) -> np.ndarray | None:
    """Return the vectors of haematoxylin and eosin, (2, 3), by Vahadane et al. 2016; None where there are too few.

    Optical densities are taken apart into two stains and how much of each a pixel has, none of it below 0 and as many
    of the amounts as can be 0: a dictionary of two words, learnt from pixels (n, 3) uint8 by scikit-learn, from the
    usual vectors on.
    """
    from sklearn.decomposition import MiniBatchDictionaryLearning

    stained = pixels[stain.stained(pixels)]
    if len(stained) < stain.LEAST_PIXELS:
        return None
    chosen = np.random.default_rng(0).permutation(len(stained))[:PIXELS]
    usual = RGB_FROM_HED[:2] / np.linalg.norm(RGB_FROM_HED[:2], axis=1, keepdims=True)
    model = MiniBatchDictionaryLearning(
        2,
        alpha=SPARSITY,
        max_iter=1,
        batch_size=BATCH,
        fit_algorithm="cd",
        positive_code=True,
        positive_dict=True,
        dict_init=usual,
        shuffle=False,
        max_no_improvement=None,
        tol=0,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # codes of single pixels need not converge to the last digit
        found = model.fit(stain.optical_density()[stained[chosen]]).components_
    length = np.linalg.norm(found, axis=1, keepdims=True)
    if (length < 1e-6).any():
        return None
    found = found / length
    found = found[np.argsort(found[:, 1] / np.maximum(found[:, 0], 1e-6))]  # haematoxylin takes more of the red
    return found if found[0] @ found[1] < 0.995 and found[0] @ usual[0] > stain.ALIKE else None


def estimate(pixels: np.ndarray, kind: str = "macenko") -> Stains:
    """Estimate the stains of pixels (n, 3) uint8 whose cast was removed; fixed vectors where that fails."""
    pair = vahadane(pixels) if kind == "vahadane" else None
    if pair is None:
        found = stain.estimate(pixels) if kind == "macenko" else stain.fixed(pixels)
        pair = np.array([found.haematoxylin, found.eosin])
    rest = np.cross(*pair)
    vectors = np.vstack([pair, rest / np.linalg.norm(rest)])
    stained = pixels[stain.stained(pixels)]
    if not len(stained):
        return Stains(vectors, np.ones(2))
    density = stain.optical_density()[stained] @ np.linalg.inv(vectors)
    return Stains(vectors, np.maximum(np.percentile(density[:, :2], PERCENTILE, axis=0), 1e-3))


def between(own: Stains, template: Stains) -> np.ndarray:
    """Return the matrix, (3, 3) float32, that turns optical densities of one pair of stains into those of another.

    Amounts of both stains are scaled so that their full densities agree; what is neither stain stays.
    """
    scale = np.diag([*(template.full / own.full), 1.0])
    return (np.linalg.inv(own.vectors) @ scale @ template.vectors).astype(np.float32)


def colour_of(pixels: np.ndarray, kind: str, template: Stains | None) -> tuple[Colour, Stains | None]:
    """Return what is to be done to a sample, by some of its pixels (n, 3) uint8, and its stains.

    Parameters
    ----------
    kind
        One of :data:`KINDS`.
    template
        Stains that it is brought to; None: its own.
    """
    if kind == "none":
        return Colour.none(), None
    gain = cast(pixels)
    if kind == "cast":
        return Colour(gain, np.eye(3, dtype=np.float32)), None
    own = estimate(np.clip(np.rint(pixels * gain), 0, 255).astype(np.uint8), kind)
    return Colour(gain, between(own, template or own)), own


def spread(rows: np.ndarray, most: int = LOOKED_AT) -> np.ndarray:
    """Return at most ``most`` of some rows, evenly among them."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int))]


class Colours:
    """The colours of all samples that a system sees.

    Parameters
    ----------
    settings
        Of the system: ``stain``, one of :data:`KINDS`; ``stain_target``, the training sample whose stains are the
        template, None: the first of the fold.

    Attributes
    ----------
    template
        Stains that all samples are brought to; None where they are left.
    of
        What is done to each sample that was looked at.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.kind, self.target = settings["stain"], settings["stain_target"]
        self.template: Stains | None = None
        self.of: dict[str, Colour] = {}

    @property
    def first(self) -> str | None:
        """The sample whose stains are the template: its own are left as they are."""
        unchanged = (name for name, own in self.of.items() if np.allclose(own.matrix, np.eye(3), atol=1e-5))
        return next(unchanged, None) if self.template else None

    def learn(self, data: TrainingSet) -> None:
        """Look at the colours of every sample, by patches of its training units; the target comes first.

        In a fold that holds the target out the first sample stands in for it: nothing is learnt of what will be scored.
        """
        if self.kind == "none":
            return
        samples = np.array([sample for sample, _ in data.source.units])
        names = list(dict.fromkeys(samples[data.train]))
        for name in sorted(names, key=lambda name: name != self.target):  # stable: else in their order
            rows = data.train[samples[data.train] == name]
            self._look_at(name, data.source.take(spread(rows))[:])

    def survey(self, x: Any) -> None:
        """Look at samples that it was not trained on, by :class:`shest.tiles.patch.Taken` to be predicted."""
        if self.kind == "none":
            return
        samples = np.array(x.samples)
        for name in dict.fromkeys(x.samples):
            if name not in self.of:
                self._look_at(name, x[spread(np.flatnonzero(samples == name))])

    def _look_at(self, sample: str, patches: np.ndarray) -> None:
        """Keep what is to be done to a sample's pixels; its stains are the template where there is none yet."""
        self.of[sample], own = colour_of(patches.reshape(-1, 3), self.kind, self.template)
        self.template = self.template or own

    def apply(self, x: Tensor, samples: Sequence[str]) -> Tensor:
        """Change patches (k, 3, h, w) of 0 to 1, each as its sample wants it."""
        if self.kind == "none":
            return x
        out, names = torch.empty_like(x), np.array(samples)
        for name in dict.fromkeys(samples):
            rows = torch.from_numpy(names == name).to(x.device)
            out[rows] = self.of[name].apply(x[rows])
        return out

    def stages(self, sample: str, patches: np.ndarray) -> dict[str, np.ndarray]:
        """Return patches, uint8 (k, px, px, 3), as they stand and after each step, by its name."""
        own, steps = self.of[sample], {"as it stands": Colour.none()}
        steps["cast removed"] = Colour(own.gain, Colour.none().matrix)
        if self.template:
            steps["stains changed"] = own
        x = torch.from_numpy(patches).permute(0, 3, 1, 2).float() / 255
        shown = {name: (255 * step.apply(x)).round().byte() for name, step in steps.items()}
        return {name: values.permute(0, 2, 3, 1).numpy() for name, values in shown.items()}

    def tensors(self) -> dict[str, np.ndarray]:
        """``colour.{sample}.gain`` and ``.matrix``, and the template's stains."""
        found = {}
        for name, colour in self.of.items():
            found |= {f"colour.{name}.gain": colour.gain, f"colour.{name}.matrix": colour.matrix}
        if self.template:
            found |= {"template.vectors": self.template.vectors, "template.full": self.template.full}
        return found

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Take back what :meth:`tensors` returned, among other tensors."""
        for name in (key[len("colour.") : -len(".gain")] for key in tensors if key.endswith(".gain")):
            self.of[name] = Colour(*(tensors[f"colour.{name}.{part}"] for part in ("gain", "matrix")))
        if "template.vectors" in tensors:
            self.template = Stains(tensors["template.vectors"], tensors["template.full"])
