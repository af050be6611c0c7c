"""Which genes a cell of each kind expresses: the marker table, panels, and the subtypes of the types."""

import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from shest.core.errors import InputError

SUBTYPES: dict[str, dict[str, float]] = {
    "Alveolar_cell": {"Alveolar cell type 1": 0.35, "Alveolar cell type 2": 0.65},
    "Tumor_cell_LUAD": {
        "Tumor cells LUAD": 0.6,
        "Tumor cells LUAD EMT": 0.1,
        "Tumor cells LUAD MSLN": 0.1,
        "Tumor cells LUAD NE": 0.05,
        "Tumor cells LUAD mitotic": 0.15,
    },
    "Macrophage": {"Macrophage": 1.0},
    "Endothelial_cell": {
        "Endothelial cell arterial": 0.2,
        "Endothelial cell capillary": 0.4,
        "Endothelial cell lymphatic": 0.1,
        "Endothelial cell venous": 0.3,
    },
    "Fibroblast": {"Fibroblast adventitial": 0.25, "Fibroblast alveolar": 0.3, "Fibroblast peribronchial": 0.45},
    "Lymphocyte": {
        "Plasma cell": 0.12,
        "B cell": 0.22,
        "T cell regulatory": 0.08,
        "T cell CD4": 0.22,
        "T cell CD8 activated": 0.07,
        "T cell CD8 effector memory": 0.1,
        "T cell CD8 naive": 0.05,
        "T cell CD8 terminally exhausted": 0.05,
        "T cell NK-like": 0.04,
        "NK cell": 0.05,
    },
}
"""The paper's types, the LuCA subtypes that they gather (Table S1), and our share of each within its type."""

OUTSIDE = ("Mast cell", "Neutrophils", "Ciliated", "Club", "Pericyte", "Mesothelial")
"""Subtypes of the reference that belong to no type."""

TYPES = tuple(SUBTYPES)
OTHER = "other"
KIND_OF = {subtype: kind for kind, subtypes in SUBTYPES.items() for subtype in subtypes} | {s: OTHER for s in OUTSIDE}
ALL_SUBTYPES = tuple(KIND_OF)
BASE_LEVEL = 0.03


@dataclass(frozen=True)
class Profiles:
    """Mean counts of a cell of depth 1 (``levels``: subtypes × genes) and what links genes to the nucleus.

    ``size`` and ``stain`` (genes,) are the weights with which a gene follows the size and the haematoxylin of its
    nucleus where the link is not 0.
    """

    symbols: np.ndarray
    levels: np.ndarray
    size: np.ndarray
    stain: np.ndarray

    def take(self, genes: np.ndarray) -> "Profiles":
        """Return the profiles of some genes, by position."""
        return Profiles(self.symbols[genes], self.levels[:, genes], self.size[genes], self.stain[genes])

    def seen_through(self, factors: np.ndarray) -> "Profiles":
        """Return the profiles as a platform shows them that multiplies genes by ``factors`` (genes,)."""
        return replace(self, levels=self.levels * factors)


def read_markers(path: str | Path) -> pd.DataFrame:
    """Read the marker table (TSV): symbol, panels, program, a level for each type, levels of single subtypes.

    Raises
    ------
    InputError
        Where a column lacks, a symbol occurs twice, or a subtype is unknown.
    """
    table = pd.read_csv(path, sep="\t", keep_default_na=False)
    lacking = [c for c in ("symbol", "panels", "program", *TYPES, "subtypes") if c not in table]
    if lacking:
        raise InputError(path, f"lacks the columns {', '.join(lacking)}", "Take the table of the project")
    if twice := sorted(table.symbol[table.symbol.duplicated()]):
        raise InputError(path, f"names {twice[0]} twice", "Keep one row a symbol")
    for text in table.subtypes:
        for name in _subtype_levels(text):
            if name not in KIND_OF:
                raise InputError(path, f"unknown subtype {name!r}", f"Known are: {', '.join(ALL_SUBTYPES)}")
    return table


def full_profiles(markers: pd.DataFrame, difficulty: float) -> Profiles:
    """Return the levels of every subtype for every gene of the table.

    Difficulty shrinks the fold changes between subtypes towards each gene's geometric mean (by up to 70 %).
    A fixed jitter a subtype and gene, the same on every slide, keeps subtypes of one type from being identical.
    """
    levels = np.full((len(ALL_SUBTYPES), len(markers)), BASE_LEVEL)
    by_type = markers[list(TYPES)].to_numpy(float)
    outside = np.where((by_type > 0.25).all(axis=1), by_type.mean(axis=1), BASE_LEVEL)  # what every cell expresses
    for row, subtype in enumerate(ALL_SUBTYPES):
        kind = KIND_OF[subtype]
        levels[row] = outside if kind == OTHER else markers[kind]
    for column, text in enumerate(markers.subtypes):
        for name, level in _subtype_levels(text).items():
            levels[ALL_SUBTYPES.index(name), column] = level
    jitter = np.random.default_rng(zlib.crc32(b"subtype jitter")).normal(0, 0.15, levels.shape)
    log = np.log(levels) + jitter
    log = log.mean(axis=0) + (log - log.mean(axis=0)) * (1 - 0.7 * difficulty)
    program = markers.program.to_numpy()
    return Profiles(markers.symbol.to_numpy(str), np.exp(log), (program == "size") * 1.0, (program == "stain") * 1.0)


def with_fillers(profiles: Profiles, number: int) -> Profiles:
    """Add ``number`` made-up genes (``SIM0001``, …) that hardly tell subtypes apart; the n-th is always the same."""
    if number <= 0:
        return profiles
    kinds = len(ALL_SUBTYPES)
    z = np.random.default_rng(zlib.crc32(b"fillers")).normal(size=(number, kinds + 2))
    levels = np.exp(np.log(0.12) + 0.9 * z[:, :1] + 0.35 * z[:, 1 : kinds + 1]).T
    return Profiles(
        np.concatenate([profiles.symbols, [f"SIM{i + 1:04d}" for i in range(number)]]),
        np.concatenate([profiles.levels, levels], axis=1),
        np.concatenate([profiles.size, np.where(z[:, -1] > 1.6, 0.7, 0.0)]),
        np.concatenate([profiles.stain, np.zeros(number)]),
    )


def panel_profiles(markers: pd.DataFrame, panel: str, genes: int, difficulty: float) -> Profiles:
    """Return the profiles of a panel's first ``genes`` genes, in alphabetical order; made-up genes fill it up.

    Raises
    ------
    InputError
        Where the table knows no such panel.
    """
    on_panel = np.array([panel in text.split(";") for text in markers.panels])
    if not on_panel.any():
        known = sorted({p for text in markers.panels for p in text.split(";")})
        raise InputError(f"simulate: panel {panel}", "no gene is on it", f"Known panels are: {', '.join(known)}")
    profiles = full_profiles(markers, difficulty).take(np.flatnonzero(on_panel)[:genes])
    profiles = with_fillers(profiles, genes - len(profiles.symbols))
    return profiles.take(np.argsort(profiles.symbols, kind="stable"))


def _subtype_levels(text: str) -> dict[str, float]:
    pairs = [part.rsplit("=", 1) for part in text.split(";") if part]
    return {name: float(level) for name, level in pairs}
