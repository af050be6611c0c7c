"""Genes of two panels joined: by Ensembl id, and where none joins them, by symbol.

Symbols change between releases, ids hardly do. The rule, in this order: a gene joins the one with the same id,
whatever the version behind its dot; genes that no id has joined join by symbol, also where their ids differ or lack.
An id or a symbol that stands more than once on either side joins nothing: which gene is meant cannot be told. Where
ids and symbols contradict each other in most genes, the ids are numbers of each panel's own that look like Ensembl's:
then all is joined by symbol.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

ENSEMBL = r"(ENS[A-Z]*\d{6,})(?:\.\d+)?"
FEWEST_JUDGED = 10  # genes joined by both that are enough to judge the ids by the symbols
ID_COLUMNS = ("gene_ids", "gene_id", "ensembl_id", "ensembl", "feature_id")
"""Columns of ``var`` that hold Ensembl ids by custom of scanpy, of the 10x readers and of CELLxGENE."""


@dataclass(frozen=True)
class Genes:
    """Genes of a panel: ``symbols`` and ``ids``, of one length; the id is "" where none is known."""

    symbols: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, symbols: Sequence[str], ids: Sequence[str] | None = None) -> "Genes":
        """Gather symbols and what stands beside them; what is no Ensembl id is none, and versions are cut off."""
        symbols = [str(symbol) for symbol in symbols]
        if ids is None or not len(ids):
            return cls(symbols, [""] * len(symbols))
        found = pd.Series(list(ids), dtype=object).astype(str).str.extract(f"^{ENSEMBL}$")[0]
        return cls(symbols, found.fillna("").tolist())

    def __len__(self) -> int:
        return len(self.symbols)


def of_var(var: pd.DataFrame, symbols: Sequence[str] | None = None) -> Genes:
    """Return the genes of an AnnData's ``var``; ``symbols``: by default its index.

    Ids are taken from the index, or the first column of ``ID_COLUMNS``, where most values are Ensembl ids.
    """
    symbols = list(var.index if symbols is None else symbols)
    for values in (var.index, *(var[name] for name in ID_COLUMNS if name in var)):
        found = Genes.of(symbols, list(values))
        if sum(map(bool, found.ids)) > len(symbols) / 2:
            return found
    return Genes.of(symbols)


@dataclass(frozen=True)
class Pairs:
    """Joined genes: places in the first panel, ascending, and in the second (k,) int64; ``by_id`` of them were
    joined by id, the others by symbol."""

    first: np.ndarray
    second: np.ndarray
    by_id: int

    def summary(self, panel: int) -> dict[str, int]:
        """Return how many of a panel's genes were joined by id, by symbol, and not at all."""
        return {
            "panel": panel,
            "by_id": self.by_id,
            "by_symbol": len(self.first) - self.by_id,
            "not_joined": panel - len(self.first),
        }


def describe(joined: dict[str, int]) -> str:
    """Say a summary of :class:`Pairs` in words."""
    together = joined["by_id"] + joined["by_symbol"]
    return (
        f"{together:,} of {joined['panel']:,} genes joined: {joined['by_id']:,} by Ensembl id, "
        f"{joined['by_symbol']:,} by symbol; {joined['not_joined']:,} not"
    )


def pair(first: Genes, second: Genes) -> Pairs:
    """Join the genes of two panels, one to one, by the rule of this module."""
    partner, by_symbol = _partners(first.ids, second.ids), _partners(first.symbols, second.symbols)
    agree = [by_symbol[mine] == theirs for mine, theirs in partner.items() if mine in by_symbol]
    if len(agree) >= FEWEST_JUDGED and sum(agree) < len(agree) / 2:
        partner = {}
    by_id, taken = len(partner), set(partner.values())
    partner |= {mine: theirs for mine, theirs in by_symbol.items() if mine not in partner and theirs not in taken}
    joined = np.array(sorted(partner.items()), np.int64).reshape(-1, 2)
    return Pairs(joined[:, 0], joined[:, 1], by_id)


def _partners(first: Sequence[str], second: Sequence[str]) -> dict[int, int]:
    """Return the places of equal names: in the second by those in the first."""
    mine, theirs = _places(first), _places(second)
    return {place: theirs[name] for name, place in mine.items() if name in theirs}


def _places(names: Sequence[str]) -> dict[str, int]:
    """Return where each name stands that stands once."""
    names = pd.Series(names, dtype=object)
    once = names[(names != "") & ~names.duplicated(keep=False)]
    return dict(zip(once, once.index.tolist(), strict=True))


def named_as(own: Genes, known: Genes) -> list[str]:
    """Return how ``known`` names the genes of ``own``; one that it lacks keeps its symbol.

    A symbol that means another gene there gets its id behind it (or a prime, where it has none), so that it is not
    taken for that one.
    """
    pairs, names, taken = pair(own, known), list(own.symbols), set(known.symbols)
    joined: dict[int, int] = dict(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    for row, symbol in enumerate(own.symbols):
        if row in joined:
            names[row] = known.symbols[joined[row]]
        elif symbol in taken:
            names[row] = f"{symbol}_{own.ids[row]}" if own.ids[row] else f"{symbol}'"
    return names


def union(panels: Sequence[Genes]) -> tuple[Genes, list[list[str]]]:
    """Join several panels, one after the other.

    Returns the genes of all, in the order of the first panel, then what the next ones add, and how each panel's genes
    are named among them.
    """
    everything, named = Genes(), []
    for panel in panels:
        names = named_as(panel, everything)
        ids = dict(zip(everything.symbols, everything.ids, strict=True))
        for name, own in zip(names, panel.ids, strict=True):
            ids[name] = ids.get(name) or own
        everything = Genes(list(ids), list(ids.values()))
        named.append(names)
    return everything, named
