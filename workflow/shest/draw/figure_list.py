"""The paper's figures and tables that a run draws: the one list that rules, report and documentation go by."""

from dataclasses import dataclass, replace

MISSING = {
    "training": "no training sample in the sheet",
    "train": "no training sample in the sheet",
    "external": "no external sample in the sheet",
    "own_train": "no training sample of the system's unit in the sheet",
    "first": "no external sample in the sheet",
    "second": "no second external sample in the sheet",
    "own": "no sample whose units the system is scored on",
}
"""Whose results figures show, and what stands in a figure's place where there is no such sample: the training sample
that the config names, all of role train; those that a figure's own system is trained on; both external samples, the
first, the second; all that a figure's own system is scored on."""


@dataclass(frozen=True)
class Figure:
    """A figure of the paper.

    Attributes
    ----------
    caption
        What it shows.
    samples
        Whose results: a key of :data:`MISSING`.
    panels
        A letter each.
    reads
        Kinds of results that it reads of each of the samples; ``evaluations``: of every system and protocol.
    like
        Number of the figure that it is another of.
    kind
        Kind of system that it is of, and not of the one that is shown; a run without such a system does not draw it.
    """

    caption: str
    samples: str
    panels: str
    reads: tuple[str, ...]
    like: str | None = None
    kind: str | None = None

    @property
    def missing(self) -> str:
        """What stands in its place where there is no such sample."""
        return MISSING[self.samples]


FIGURES = {
    "2": Figure(
        "nuclei and tiles of the training sample; its cells before and after refinement",
        "training",
        "ABCDEFGHIJKLM",
        ("cells", "annotations", "refinements", "tiles"),
    ),
    "4": Figure(
        "internal test: types, and expression by gene and by marker",
        "train",
        "ABCDEF",
        ("scores", "genes", "markers", "scored", "predictions", "registrations", "stores", "evaluations"),
    ),
    "5": Figure(
        "types of the first external sample, beside other programs; distances between types",
        "first",
        "ABCDEFGH",
        ("scores", "scored", "embeddings", "registrations", "evaluations"),
    ),
    "6": Figure(
        "annotated types, predicted types and H&E of the external samples",
        "external",
        "ABCDEF",
        ("predictions", "annotations", "registrations", "stores"),
    ),
    "7": Figure(
        "expression of the first external sample: best genes, markers by type, maps",
        "first",
        "ABCDEFGHIJKL",
        ("genes", "markers", "scored", "predictions", "registrations", "stores"),
    ),
    "8": Figure(
        "Moran's I of the first external sample: of expected and of drawn counts, against measured",
        "first",
        "ABCD",
        ("scores", "genes", "markers"),
    ),
    "S2": Figure(
        "tiles of cells that were classified correctly and of those confused, of the first external sample",
        "first",
        "ABC",
        ("scores", "scored", "tiles"),
    ),
}
FIGURES["stimage"] = Figure(
    "STImage: two genes with what is uncertain of them, members and their ensemble, scores by sample and system",
    "own_train",
    "ABCDEFGHIJ",
    (
        "own_scored",
        "own_models",
        "own_records",
        "own_source",
        "own_store",
        "own_registration",
        "own_scores",
        "own_genes",
    ),
    kind="stimage",
)
FIGURES["H"] = Figure(
    "a system of kind histospace: maps of named genes, and two clusters of what is predicted against regions",
    "own",
    "ABCDEF",
    ("scored", "predictions", "registrations", "stores"),
    kind="histospace",
)
FIGURES["P"] = Figure(
    "systems of kind single_patch beside all others: R by gene set, augmentation, size and donor; what R goes with",
    "own",
    "ABCDEF",
    ("genes", "evaluations", "records"),
    kind="single_patch",
)
for _number, _same in (("S1", "5"), ("S3", "7"), ("S4", "8")):
    _caption = FIGURES[_same].caption.replace("first", "second")
    FIGURES[_number] = replace(FIGURES[_same], caption=f"{_caption}; as figure {_same}", samples="second", like=_same)
FIGURES = dict(sorted(FIGURES.items()))

TABLES = {"1": "data sets", "S1": "subtypes of each type"}
"""Tables by number, and what each holds."""
