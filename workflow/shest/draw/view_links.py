"""Where the report leads into the viewers: samples, confusions, the cells behind doubts, what figures show.

A link is a page's address with what it shows (``docs/viewer.md``): the reader sees the cells, and the page counts them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from shest.score.evaluation import Evaluation, TypeScores

CONFUSIONS = 5  # of a system on a sample, that the report leads to
DRAWN_CONFUSIONS = 3  # in figure S2
UNSURE = 0.5  # probability of a type, up to which a cell is one that the system is unsure of
DOUBTFUL = {
    "bare_glass": "nuclei that lie on bare glass",
    "disagrees": "cells whose table and expression say different types",
}
"""Reasons for leaving that are a doubt, and what the cells are that left for them."""
Link = tuple[str, str]
"""What is said of a view, and its address."""


@dataclass(frozen=True)
class Pages:
    """What the viewers of a run show.

    Attributes
    ----------
    units
        Units of each sample: the first has the page ``index.html``.
    systems
        That are shown.
    protocol
        Of their predictions.
    """

    units: Mapping[str, Sequence[str]]
    systems: Collection[str]
    protocol: str

    def of(self, evaluations: Iterable[Evaluation], sample: str) -> list[Evaluation]:
        """Return the evaluations of the types that a sample's page of cells shows."""
        return [
            e
            for e in evaluations
            if (e.sample, e.protocol, e.unit) == (sample, self.protocol, "cells")
            and e.types
            and e.system in self.systems
            and sample in self.units
        ]


def address(sample: str, *view: tuple[str, str], unit: str | None = None) -> str:
    """Return the address of a view from the report; ``unit``: of a page that is not the sample's first."""
    page = f"viewer/{quote(sample)}/{unit or 'index'}.html"
    return f"{page}#{urlencode(view)}" if view else page


def sample_links(pages: Pages, evaluations: Sequence[Evaluation]) -> list[Link]:
    """Lead to each sample, and to its most frequent confusions by each system."""
    links = [("all samples", "viewer/index.html")]
    for sample, units in pages.units.items():
        links.append((sample, address(sample)))
        links += [(f"{sample}: its {unit}", address(sample, unit=unit)) for unit in units[1:]]
        for e in pages.of(evaluations, sample):
            links += [
                (f"{sample}: {label} called {predicted} by {e.system} ({number:,} of the scored cells)", where)
                for number, label, predicted, where in confusions(e)[:CONFUSIONS]
            ]
    return links


def confusions(evaluation: Evaluation) -> list[tuple[int, str, str, str]]:
    """Return number, label, predicted type and address of each confusion, the most frequent first."""
    shown = f"predicted.{evaluation.system}"
    return [
        (
            *found,
            address(
                evaluation.sample, ("left", shown), ("only", f"annotated~{found[1]}"), ("only", f"{shown}~{found[2]}")
            ),
        )
        for found in _pairs(evaluation.types)
    ]


def _pairs(scores: TypeScores) -> list[tuple[int, str, str]]:
    """Return number, label and predicted type of each confusion that there is, the most frequent first."""
    pairs = [
        (number, label, predicted)
        for label, row in zip(scores.types, scores.counts, strict=True)
        for predicted, number in zip(scores.types, row, strict=True)
        if number and label != predicted
    ]
    return sorted(pairs, key=lambda pair: -pair[0])


def doubt_links(pages: Pages, evaluations: Sequence[Evaluation], reasons: Mapping[str, Collection[str]]) -> list[Link]:
    """Lead to the cells behind doubts: off tissue, labels that disagree, unsure, typed otherwise than annotated.

    ``reasons``: why cells of each sample left, those that occur.
    """
    links = []
    for sample in pages.units:
        links += [
            (f"{sample}: {what}", address(sample, ("left", "reason"), ("only", f"reason~{reason}")))
            for reason, what in DOUBTFUL.items()
            if reason in reasons.get(sample, ())
        ]
        for e in pages.of(evaluations, sample):
            unsure, agree = f"probability.{e.system}", f"agree.{e.system}"
            links += [
                (
                    f"{sample}: cells that {e.system} is unsure of (probability up to {UNSURE:g})",
                    address(sample, ("left", f"predicted.{e.system}"), ("between", f"{unsure}~0~{UNSURE:g}")),
                ),
                (
                    f"{sample}: cells that {e.system} types otherwise than annotated",
                    address(sample, ("left", f"predicted.{e.system}"), ("only", f"{agree}~another type")),
                ),
            ]
    return links


def figure_links(
    number: str,
    samples: Sequence[str],
    pages: Pages,
    evaluations: Sequence[Evaluation],
    system: str,
    markers: Mapping[str, str],
    measured: Mapping[str, Collection[str]],
) -> list[Link]:
    """Lead to what a figure's panels show: maps of types, of markers' expression, and confusions.

    Parameters
    ----------
    number
        Of the figure.
    samples
        Whose results it shows.
    system
        Whose predictions it shows.
    markers
        Gene of each type that its maps show; of genes that the system predicts.
    measured
        Genes of each sample that are predicted and measured.
    """
    if system not in pages.systems:
        return []
    links, shown = [], f"predicted.{system}"
    for sample in (name for name in samples if pages.units.get(name, [""])[0] == "cells"):
        if number in ("5", "S1"):
            links.append((f"{sample}, predicted types", address(sample, ("left", shown))))
        if number == "6":
            view = ("left", "annotated"), ("right", shown), ("swipe", "0.5")
            links.append((f"{sample}, annotated beside predicted", address(sample, *view)))
        if number in ("7", "S3"):
            for cell_type, gene in markers.items():
                expected, only = f"gene:{gene}|expected.{system}", ("only", f"annotated~{cell_type}")
                beside = ("left", f"gene:{gene}|measured"), ("right", expected), ("swipe", "0.5")
                both = gene in measured.get(sample, ())
                view, words = (beside, "measured beside expected") if both else ((("left", expected),), "expected")
                links.append((f"{gene}, {words}", address(sample, *view)))
                links.append((f"{gene} of {cell_type}", address(sample, *view, only)))
        if number == "S2":
            for e in (e for e in pages.of(evaluations, sample) if e.system == system):
                first: dict[str, Link] = {}
                for _, label, predicted, where in confusions(e):
                    first.setdefault(label, (f"{label} called {predicted}", where))
                links += list(first.values())[:DRAWN_CONFUSIONS]
    return links
