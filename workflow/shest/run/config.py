"""Config and sample sheet: defaults filled in, every mistake found at once."""

import csv
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from shest.core.errors import Findings, did_you_mean
from shest.encode.spec import complete
from shest.fetch.sources import published_name, published_parts
from shest.run import systems

RENAMED = {"figures.encoder": "figures.system"}
"""Keys of earlier versions, and what stands in their place."""
PANNUKE = {
    "Neoplastic": {"colour": "red"},
    "Epithelial": {"colour": "orange"},
    "Inflammatory": {"colour": "green"},
    "Connective": {"colour": "blue"},
}
"""Types of a run by marker genes that names none of its own."""
BY_REFERENCE, BY_MARKERS = ("tacco", "mixture"), ("markers", "aucell", "ucell", "top_down")
FOREIGN = {
    "xenium": ("nuclei",),
    "visium": ("alignment", "annotation", "nuclei"),
    "st": ("annotation", "nuclei"),
    "slide": ("he_image", "alignment", "annotation"),
}
"""Columns of the sheet that a platform has no use for."""
NEEDED = {
    "visium": {"he_image": "the image in full size that Space Ranger was given"},
    "st": {"he_image": "the image in full size", "alignment": "the spot selection (x, y, pixel_x, pixel_y)"},
}
"""Columns that it cannot do without, and what stands there."""
SCHEMAS = Path(__file__).resolve().parent / "schemas"


def load_schema(name: str) -> dict:
    """Read a schema of ``schemas`` by its first name (config, samples)."""
    return yaml.safe_load((SCHEMAS / f"{name}.schema.yaml").read_text(encoding="utf-8"))


def with_defaults(value: Any, schema: dict) -> Any:
    """Return a copy of ``value`` in which every absent key that has a default is filled in."""
    if not isinstance(value, dict) or "properties" not in schema:
        return value
    filled = dict(value)
    for key, part in schema["properties"].items():
        if key not in filled and "default" in part:
            filled[key] = part["default"]
        if key in filled:
            filled[key] = with_defaults(filled[key], part)
    return filled


def _labelled_by(config: dict, methods: Iterable[str]) -> bool:
    """Tell whether labels come of one of some methods, or are compared with it."""
    annotate = config.get("annotate")
    annotate = annotate if isinstance(annotate, dict) else {}
    compared = annotate.get("compare")
    asked = [annotate.get("method", "tacco"), *(compared if isinstance(compared, list) else [])]
    return any(method in asked for method in methods)


def needs_reference(config: dict) -> bool:
    """Tell whether a run reads a single-cell reference."""
    return _labelled_by(config, BY_REFERENCE)


def needs_markers(config: dict) -> bool:
    """Tell whether a run reads databases of marker genes."""
    return _labelled_by(config, BY_MARKERS)


def check_schema(value: Any, schema: dict, where: str, findings: Findings) -> None:
    """Note everything in ``value`` that the schema does not allow.

    Parameters
    ----------
    value
        The parsed config, or one row of the sheet.
    schema
        JSON schema.
    where
        What is checked, for the messages: ``config/config.yaml``, ``samples.tsv, row 3``.
    """
    errors = Draft202012Validator(schema).iter_errors(value)
    for error in sorted(errors, key=_keys):
        _note(error, where, findings)


def _keys(error: Any) -> list[str]:
    return [str(part) for part in error.absolute_path]


def _note(error: Any, where: str, findings: Findings) -> None:
    """Put an error of the schema's validator into words."""
    place, about = ".".join(_keys(error)), error.schema.get("description", "")
    prefix = f"{place}." if place else ""
    properties = error.schema.get("properties", {})
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        for key in error.instance:
            if f"{prefix}{key}" in RENAMED:
                findings.problem(
                    where, f"{prefix}{key} is a key of an earlier version", f"Use {RENAMED[f'{prefix}{key}']} instead"
                )
            elif key not in properties:
                findings.problem(where, f"unknown key {prefix}{key}", did_you_mean(key, properties))
    elif error.validator == "required":
        key = re.match(r"'(.+?)' is a required", error.message)[1]
        about = properties.get(key, {}).get("description") or "See config/README.md"
        findings.problem(where, f"{prefix}{key} is missing", about)
    elif error.validator in ("oneOf", "anyOf"):
        findings.problem(where, f"{place or 'value'}: {error.instance!r} is not allowed", about)
    else:
        findings.problem(where, f"{place or 'value'}: {error.message}", about or "See config/README.md")


def check_config(config: dict, where: str, findings: Findings, cells: bool = True) -> dict:
    """Return a parsed config with every default filled in and its encoders completed, and note what is wrong with it.

    Parameters
    ----------
    where
        The config's file, for the messages.
    cells
        Whether any sample has cells: without, nothing is labelled, and neither types nor a reference are needed.
    """
    schema, known = load_schema("config"), len(findings.problems)
    if not cells:
        schema["required"].remove("cell_types")
        config = {"cell_types": {}} | config
        schema["properties"]["cell_types"].pop("minProperties")
    elif needs_reference(config) and "model" not in config:
        schema["required"].append("reference")
    elif "cell_types" not in config:
        config = config | {"cell_types": PANNUKE}
    check_schema(config, schema, where, findings)
    filled = with_defaults(config, schema)
    if len(findings.problems) > known:
        return filled  # further checks would stumble over the same keys
    remedy = "Use a known name"
    entries = [findings.attempt(f"encoders: {entry}", remedy, complete, entry) for entry in filled["encoders"]]
    filled["encoders"] = [entry for entry in entries if entry is not None]
    _cross_check(filled, where, findings, cells)
    _check_fetch(filled["fetch"], where, findings)
    systems.check(filled, where, findings)
    if len(findings.problems) == known:
        filled["systems"] = systems.fill(filled, "cells" if cells else "spots")
    return filled


def _cross_check(config: dict, where: str, findings: Findings, cells: bool) -> None:
    """Note what a schema cannot say: keys that must agree with each other."""
    if config["cells"]["min_um"] >= config["cells"]["max_um"]:
        findings.problem(where, "cells.min_um must be less than cells.max_um", "Correct one of them")
    diameter, pitch = (config["spots"].get(key) for key in ("diameter_um", "pitch_um"))
    if (diameter is None) != (pitch is None):
        findings.problem(where, "spots.diameter_um and spots.pitch_um go together", "Give both, or neither")
    elif diameter is not None and pitch < diameter:
        findings.problem(where, "spots.pitch_um is less than spots.diameter_um: spots would overlap", "Correct one")
    if cells:
        _check_types(config, where, findings)
    for name, entry in config["evaluate"]["comparators"].items():
        if entry["format"] != "h5ad":
            if "types" not in entry:
                remedy = "Name every class in its files"
                findings.problem(where, f"evaluate.comparators.{name}.types is missing", remedy)
            for key in ("unit", "trained_on"):
                if key in entry:
                    findings.problem(where, f"evaluate.comparators.{name}.{key} is for h5ad alone", "Leave it out")
        for group, cell_type in entry.get("types", {}).items():
            if cell_type is not None and cell_type not in config["cell_types"]:
                findings.problem(
                    where,
                    f"evaluate.comparators.{name}.types.{group}: {cell_type} is not a type of cell_types",
                    did_you_mean(cell_type, config["cell_types"]),
                )
    for name in _twice(entry["name"] for entry in config["encoders"]):
        findings.problem(where, f"encoders: {name} stands there twice", "Name it once")


def _check_types(config: dict, where: str, findings: Findings) -> None:
    """Note types that gather nothing, and members that belong to two of them."""
    types = config["cell_types"]
    for name, entry in types.items():
        if needs_reference(config) and "subtypes" not in entry:
            findings.problem(where, f"cell_types.{name}.subtypes is missing", "Name the reference's subtypes")
    for key, what in (("subtypes", "subtype"), ("categories", "category"), ("groups", "group")):
        owner: dict[str, str] = {}
        for name, entry in types.items():
            own = [name] if key == "groups" or (key == "categories" and key not in entry) else []
            for member in dict.fromkeys([*own, *entry.get(key, [])]):
                if member in owner:
                    problem = f"{what} {member} belongs to {owner[member]} and to {name}"
                    findings.problem(where, problem, "Name it once")
                owner[member] = name


def _twice(names: Iterable[str | None]) -> list[str]:
    """Return the names that are there more than once, sorted."""
    return sorted(name for name, count in Counter(names).items() if name and count > 1)


def _check_fetch(fetch: dict, where: str, findings: Findings) -> None:
    """Note files to fetch that have no address, or no name of their own among the downloads."""
    addresses = [entry["url"] for entry in fetch["files"].values()]
    for name, entry in fetch["bundles"].items():
        for part, source in published_parts(entry).items():
            if "url" in source:
                addresses.append(source["url"])
            else:
                findings.problem(where, f"fetch.bundles.{name}: no address of {part}", f"Give url, or {part}.url")
    for name in _twice(published_name(address) for address in dict.fromkeys(addresses)):
        findings.problem(where, f"fetch: two addresses end in {name}", "Fetch one of them by hand, under another name")
    for name in sorted(set(fetch["files"]) & set(fetch["bundles"])):
        findings.problem(where, f"fetch: {name} is a file and a bundle", "Give each a name of its own")


def read_sheet(path: Path, findings: Findings, trains: bool = True) -> list[dict]:
    """Read the sample sheet; return its rows with defaults filled in, none where its columns are wrong.

    ``trains``: whether systems are trained, so that there must be a training sample; else there must be none.
    """
    if not path.is_file():
        findings.problem(path, "the sample sheet is not there", "Set samples in the config to the path of a TSV")
        return []
    schema = load_schema("samples")
    with open(path, encoding="utf-8-sig", newline="") as handle:
        lines = [line for line in handle if line.strip() and not line.startswith("#")]
    reader = csv.DictReader(lines, delimiter="\t")
    columns, known = reader.fieldnames or [], list(schema["properties"])
    unknown = [column for column in columns if column not in known]
    missing = [column for column in schema["required"] if column not in columns]
    for column in unknown:
        findings.problem(path, f"unknown column {column}", did_you_mean(column, known))
    for column in missing:
        findings.problem(path, f"column {column} is missing", schema["properties"][column]["description"])
    if unknown or missing:
        return []
    rows = []
    for number, raw in enumerate(reader, start=2):
        row = {k: v.strip() for k, v in raw.items() if isinstance(v, str) and v.strip()}
        check_schema(row, schema, f"{path}, row {number}", findings)
        rows.append(with_defaults(row, schema))
    if not rows:
        findings.problem(path, "no samples", "Write one row a sample below the header")
    _check_sheet(path, rows, trains, findings)
    return rows


def has_cells(path: Path) -> bool:
    """Tell whether a sheet has a sample with cells; True where it cannot be read, which :func:`read_sheet` will say."""
    rows = read_sheet(path, Findings()) if path.is_file() else []
    return not rows or any(row.get("platform") not in NEEDED for row in rows)


def _check_sheet(path: Path, rows: list[dict], trains: bool, findings: Findings) -> None:
    """Note rows that contradict each other or themselves."""
    for name in _twice(row.get("sample") for row in rows):
        findings.problem(path, f"sample {name} stands there twice", "Give every row a name of its own")
    for row in rows:
        who, platform = f"sample {row.get('sample')}", row.get("platform")
        if platform == "slide" and row.get("role") in ("train", "validation"):
            findings.problem(
                path, f"{who} is a plain slide, without counts to train on or to be scored by", "Its role is predict"
            )
        for column in FOREIGN.get(platform, ()):
            if row.get(column):
                findings.problem(path, f"{who}: column {column} is not used for platform {platform}", "Leave it empty")
        for column, what in NEEDED.get(platform, {}).items():
            if not row.get(column):
                findings.problem(path, f"{who}: column {column} is empty", f"Platform {platform} needs {what} there")
        if platform in NEEDED and not trains:
            problem = f"{who} is measured in spots, and the config names a trained model, which is of cells"
            findings.problem(path, problem, "Leave the sample out")
    if not trains:
        for row in rows:
            if row.get("role") == "train":
                problem = f"sample {row.get('sample')} is to be trained on, and the config names a trained model"
                findings.problem(path, problem, "Set its role to validation or predict, or leave model out")
    elif rows and not any(row.get("role") == "train" and row.get("platform") != "slide" for row in rows):
        findings.problem(path, "no training sample", "Give at least one Xenium bundle the role train")


def expand(text: str) -> str:
    """Put environment variables and the home folder into a path; a variable that is not set is a KeyError."""
    return os.path.expanduser(re.sub(r"\$\{?(\w+)\}?", lambda match: os.environ[match.group(1)], text))


class Paths:
    """Resolves the paths of config and sheet.

    Parameters
    ----------
    base
        Folder of the config file, which relative inputs start from.
    results
        Folder of the results; ``{results}`` in an input path stands for it.
    fetched
        Folder of what is fetched; ``{fetched}`` stands for it.
    """

    def __init__(self, base: Path, results: str, fetched: str = "data") -> None:
        self.base, self.results = base, results
        self.made = {"{results}": results, "{fetched}": fetched}

    def resolve(self, text: str) -> str:
        """Return the path that ``text`` means.

        Raises
        ------
        KeyError
            An environment variable in it is not set.
        """
        for start, folder in self.made.items():
            if text.startswith(start):
                return folder + text.removeprefix(start)
        return os.path.normpath(os.path.join(self.base, expand(text)))

    def resolve_all(self, texts: dict[str, str], where: str, findings: Findings) -> dict[str, str]:
        """Resolve named paths; a variable that is not set is a problem and leaves the path out."""
        resolved = {}
        for name, text in texts.items():
            try:
                resolved[name] = self.resolve(text)
            except KeyError as error:
                unset(where, name, error.args[0], findings)
        return resolved


def unset(where: str | Path, key: str, variable: str, findings: Findings) -> None:
    """Note a path that names an environment variable which is not set."""
    findings.problem(
        where, f"{key} needs the environment variable {variable}, which is not set", f"Say: export {variable}=FOLDER"
    )
