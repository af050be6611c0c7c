"""``evaluation/{system}/{protocol}/{sample}.{unit}.json``: how good a system's predictions of one sample are."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from shest.core.files import read_json, write_json

PROGRAM = "program:"
"""Before the name of another program, in the column of ``scored.parquet`` with the types that it gives to cells."""


@dataclass
class TypeScores:
    """Scores of one set of predicted types.

    Attributes
    ----------
    weighted, macro, balanced_accuracy
        Means over the types with at least one scored unit: of F1, weighted by their number or not, and of recall.
    per_class
        F1 by type; None for a type without a scored unit.
    types, counts
        The confusion: types of rows (label) and columns (predicted), and numbers of units.
    """

    weighted: float
    macro: float
    per_class: dict[str, float | None]
    balanced_accuracy: float
    types: list[str]
    counts: list[list[int]]

    def as_json(self) -> dict[str, Any]:
        """Return the keys of the contract: f1, balanced_accuracy, confusion."""
        return {
            "f1": {"weighted": self.weighted, "macro": self.macro, "per_class": self.per_class},
            "balanced_accuracy": self.balanced_accuracy,
            "confusion": {"types": self.types, "counts": self.counts},
        }

    def macro_of(self, types: list[str]) -> float | None:
        """Return the mean F1 over some types, of those with at least one scored unit; None where there are none."""
        f1 = [value for name in types if (value := self.per_class.get(name)) is not None]
        return sum(f1) / len(f1) if f1 else None

    @classmethod
    def of_json(cls, data: dict[str, Any]) -> "TypeScores | None":
        """Read what :meth:`as_json` returned; None where no types were scored."""
        if data.get("f1") is None:
            return None
        f1 = {name: data["f1"][name] for name in ("weighted", "macro", "per_class")}
        return cls(**f1, balanced_accuracy=data["balanced_accuracy"], **data["confusion"])


@dataclass
class Matched:
    """Another program's labels of the same H&E, scored over the scored units that it found.

    Attributes
    ----------
    n_objects, counts
        Objects in its file, and how many of them are of each type (those of ignored classes are in the first alone).
    n_matched, share_matched, radius_um
        Scored units with a partner of a type within the radius, and their share.
    scores, system
        Its scores, and those of this evaluation's system on the same units; None where nothing matched.
    nameable
        Types that its classes stand for: it can be right about no other. The file holds both macro F1 over these
        types beside those over all (``macro_nameable``).
    detection
        How well it finds and types nuclei (:mod:`shest.score.typed_nuclei`); None where not all labelled cells are
        scored.
    """

    n_objects: int
    n_matched: int
    share_matched: float
    radius_um: float
    counts: dict[str, int]
    nameable: list[str]
    scores: TypeScores | None = None
    system: TypeScores | None = None
    detection: dict[str, Any] | None = None

    def macro_nameable(self) -> tuple[float | None, float | None]:
        """Return macro F1 over the types that it can name, its own and the system's, on the matched units."""
        return tuple(scores and scores.macro_of(self.nameable) for scores in (self.scores, self.system))


@dataclass
class Evaluation:
    """One evaluation.

    Attributes
    ----------
    system, kind, encoder, protocol, sample, unit, role
        What was scored; ``encoder`` is None for a system that uses none.
    scored_on, n
        Which units are scored, in words, and how many.
    types
        Scores of types; None where the system predicts none.
    pearson, spearman
        ``median`` over all measured genes, ``share_above_0.3``, ``within_type`` (None of spots) and ``csv``, the file
        with every gene; of simulated tissue also ``ceiling`` and ``ceiling_within_type``, what the true expectation
        reaches; None where no expression is scored. Also ``n_above_0.3`` with its ``null`` (predictions moved along the
        tissue), and ``top``: the median of the genes that are best in the other folds. So with ``genes`` (scored,
        unmeasured, not_in_model, not_chosen, constant) and ``moran`` (``bivariate``: predictions against what
        neighbours measure).
    iou, auc, unitwise
        Medians over genes of the overlap of high places (``high``), of its ``chance``, and of the low places
        (``low``, the index that was published); of the AUC of telling units in which the gene is high by what is
        predicted; the median over units of R across genes.
    expression_unit, common
        What the predicted expression is given in, which ``pearson``, ``spearman`` and ``moran`` are of: counts are
        brought to it. And scores of it brought to a scale that all units share (:mod:`shest.score.common_scale`):
        ``unit``, ``pearson``, ``within_type``, ``by_unit``, ``genes_above``, ``genes_above_null``; None where no
        expression is scored, or what is predicted is none.
    gene_sets
        Of a model that names sets of genes: for each its number of scored genes, and their mean ``pearson``.
    properties
        Which properties of genes go with their R (:func:`shest.score.properties.go_with`); None where no expression is
        scored.
    distances
        Between types, annotated against predicted.
    calibration
        Of the predicted type's probability: temperature, ece_before, ece_after, reliability, coverage.
    intervals
        95 % intervals of weighted, macro, balanced_accuracy, ece, of the scores of expression
        (:data:`shest.score.evaluate.SCALES`), and of pearson_common and share_above_common; ``n_blocks`` behind them;
        ``without``:
        each of these scores without each block, in the order of the blocks, for differences between systems.
    folds
        Each fold's scores where cells are held out in folds: fold, n, weighted, macro; ``spread``: their standard
        deviation.
    table
        Where there is a pathologist's table: number of all its units that are kept, and scores against its label alone.
    comparators
        Other programs' labels by name.
    unrefined
        Where refinement decided what is scored: the number of all units of the test part, and scores over them.
    reasons
        Units by why they are kept or labelled, or not.
    ground
        ``all``: every unit and gene that there is; ``shared``: those that other programs have too.
    units_digest, genes_digest
        Of the scored units and genes: scores of the same are compared.
    apart
        Why another program's predictions cannot be compared; nothing else is said of them then.
    """

    system: str
    kind: str
    encoder: str | None
    protocol: str
    sample: str
    unit: str
    role: str
    scored_on: str
    n: int
    types: TypeScores | None = None
    pearson: dict[str, Any] | None = None
    spearman: dict[str, Any] | None = None
    genes: dict[str, Any] | None = None
    moran: dict[str, Any] | None = None
    iou: dict[str, Any] | None = None
    auc: dict[str, Any] | None = None
    unitwise: dict[str, Any] | None = None
    expression_unit: str = ""
    common: dict[str, Any] | None = None
    gene_sets: dict[str, dict[str, Any]] = field(default_factory=dict)
    properties: dict[str, dict[str, Any]] | None = None
    distances: list[dict[str, Any]] = field(default_factory=list)
    calibration: dict[str, Any] | None = None
    intervals: dict[str, Any] = field(default_factory=dict)
    comparators: dict[str, Matched] = field(default_factory=dict)
    unrefined: tuple[int, TypeScores] | None = None
    table: tuple[int, TypeScores] | None = None
    folds: list[dict[str, Any]] = field(default_factory=list)
    spread: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, dict[str, int]] = field(default_factory=dict)
    ground: str = "all"
    units_digest: str = ""
    genes_digest: str = ""
    apart: str | None = None
    model_sha256: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    def interval(self, score: str) -> tuple[float, float] | None:
        """Return the interval of a score, None where there is none."""
        found = self.intervals.get(score)
        return tuple(found) if found else None

    def without_types(self) -> None:
        """Leave out what is said within types: these units have none."""
        self.intervals.pop("pearson_within_type", None)
        self.intervals.get("without", {}).pop("pearson_within_type", None)
        for scores in filter(None, (self.pearson, self.common)):
            scores["within_type"] = None

    def write(self, path: str | Path) -> None:
        """Write it as JSON, by the keys of the contract."""
        nested = ("types", "comparators", "unrefined", "table")
        data = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in nested}
        data |= _types_json(self.types)
        data["comparators"] = {name: _matched_json(found) for name, found in self.comparators.items()}
        for name in ("unrefined", "table"):
            found = getattr(self, name)
            data[name] = None if found is None else {"n": found[0]} | found[1].as_json()
        write_json(path, data)

    @classmethod
    def read(cls, path: str | Path) -> "Evaluation":
        """Read what :meth:`write` wrote."""
        data = read_json(path)
        types, others = TypeScores.of_json(data), {name: data.pop(name) for name in ("unrefined", "table")}
        for key in ("f1", "balanced_accuracy", "confusion"):
            data.pop(key, None)
        data["comparators"] = {name: _matched(found) for name, found in data["comparators"].items()}
        others = {k: (v["n"], TypeScores.of_json(v)) if v else None for k, v in others.items()}
        return cls(**data, types=types, **others)


def _types_json(scores: TypeScores | None) -> dict[str, Any]:
    return scores.as_json() if scores else {"f1": None, "balanced_accuracy": None, "confusion": None}


def _matched_json(found: Matched) -> dict[str, Any]:
    data = {k: v for k, v in asdict(found).items() if k not in ("scores", "system")} | _types_json(found.scores)
    data["system"] = found.system.as_json() if found.system else None
    for part, macro in zip((data, data["system"]), found.macro_nameable(), strict=True):
        if part and part["f1"]:
            part["f1"]["macro_nameable"] = macro
    return data


def _matched(data: dict[str, Any]) -> Matched:
    plain = {k: data[k] for k in (f.name for f in fields(Matched)) if k not in ("scores", "system")}
    system = TypeScores.of_json(data["system"]) if data["system"] else None
    return Matched(**plain, scores=TypeScores.of_json(data), system=system)
