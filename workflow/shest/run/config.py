"""Config and sample sheet: defaults filled in, every mistake found at once."""

import csv
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml
from jsonschema import Draft202012Validator

from shest.core.errors import nearest

PUBLISHED = {"outs": "outs.zip", "he_image": "he_image.ome.tif", "alignment": "he_imagealignment.csv"}
"""Files of a published bundle, by the ends of their names."""
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


def problems(value: Any, schema: dict, where: str) -> list[str]:
    """List everything in ``value`` that the schema does not allow, one sentence each.

    Parameters
    ----------
    value
        The parsed config, or one row of the sheet.
    schema
        JSON schema.
    where
        What is checked, for the messages: ``config/config.yaml``, ``samples.tsv, line 3``.
    """
    errors = Draft202012Validator(schema).iter_errors(value)
    return [f"{where}: {sentence}" for error in sorted(errors, key=_place) for sentence in _sentences(error)]


def _place(error: Any) -> list[str]:
    return [str(part) for part in error.absolute_path]


def _sentences(error: Any) -> list[str]:
    place = ".".join(_place(error))
    prefix = f"{place}." if place else ""
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = list(error.schema.get("properties", {}))
        return [f"unknown key {prefix}{key}. {nearest(key, known)}" for key in error.instance if key not in known]
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        said = re.match(r"'(.+?)' is a required", error.message)
        key = said.group(1) if said else missing[0]
        about = error.schema.get("properties", {}).get(key, {}).get("description", "")
        return [f"{prefix}{key} is missing. {about}".strip()]
    about = error.schema.get("description", "")
    if error.validator in ("oneOf", "anyOf"):
        return [f"{place or 'value'}: {error.instance!r} is not allowed. {about}".strip()]
    return [f"{place or 'value'}: {error.message}. {about}".strip()]


def check_config(config: dict, where: str) -> tuple[dict, list[str]]:
    """Fill in the defaults and list the problems of a parsed config."""
    schema = load_schema("config")
    found = problems(config, schema, where)
    filled = with_defaults(config, schema)
    if not found:
        found += [f"{where}: {sentence}" for sentence in _cross_checks(filled)]
    return filled, found


def _cross_checks(config: dict) -> list[str]:
    """What a schema cannot say: keys that must agree with each other."""
    said = []
    if config["cells"]["min_um"] >= config["cells"]["max_um"]:
        said.append("cells.min_um must be less than cells.max_um.")
    owner: dict[str, str] = {}
    for name, entry in config["cell_types"].items():
        for subtype in entry["subtypes"]:
            if subtype in owner:
                said.append(f"subtype {subtype} belongs to {owner[subtype]} and to {name}. Name it once.")
            owner[subtype] = name
    for name, entry in config["evaluate"]["comparators"].items():
        for group, kind in entry["types"].items():
            if kind is not None and kind not in config["cell_types"]:
                said.append(
                    f"evaluate.comparators.{name}.types.{group}: {kind} is not a type of cell_types. "
                    f"{nearest(kind, config['cell_types'])}"
                )
    names = [encoder if isinstance(encoder, str) else encoder["name"] for encoder in config["encoders"]]
    said += [f"encoders: {name} stands there twice." for name in sorted({n for n in names if names.count(n) > 1})]
    return said + _fetch_checks(config["fetch"])


def published_name(url: str) -> str:
    """Return the last part of an address: the name that its file was published under."""
    return unquote(PurePosixPath(urlsplit(url).path).name)


def published_parts(entry: dict) -> dict[str, dict]:
    """Return address and known bytes of each file of a published bundle; one without an address has no ``url``."""
    start = entry.get("url")
    guessed = {part: {"url": f"{start}_{ending}"} if start else {} for part, ending in PUBLISHED.items()}
    return {part: guessed[part] | entry.get(part, {}) for part in PUBLISHED}


def _fetch_checks(fetch: dict) -> list[str]:
    """What the schema cannot say of files to fetch: each has an address, and a name of its own among the downloads."""
    said, addresses = [], [entry["url"] for entry in fetch["files"].values()]
    for name, entry in fetch["bundles"].items():
        parts = published_parts(entry)
        said += [
            f"fetch.bundles.{name}: no address of {part}. Give url, or {part}.url."
            for part in parts
            if "url" not in parts[part]
        ]
        addresses += [source["url"] for source in parts.values() if "url" in source]
    names = [published_name(address) for address in dict.fromkeys(addresses)]
    twice = sorted({name for name in names if names.count(name) > 1})
    said += [f"fetch: two addresses end in {name}. Fetch one of them by hand, under another name." for name in twice]
    both = sorted(set(fetch["files"]) & set(fetch["bundles"]))
    return said + [f"fetch: {name} is a file and a bundle. Give each a name of its own." for name in both]


def read_sheet(path: Path) -> tuple[list[dict], list[str]]:
    """Read the sample sheet; return its rows with defaults filled in, and its problems.

    An unreadable or empty sheet gives no rows and one problem.
    """
    if not path.is_file():
        return [], [f"{path}: the sample sheet is not there. Set samples in the config to the path of a TSV."]
    schema = load_schema("samples")
    with open(path, encoding="utf-8-sig", newline="") as handle:
        lines = [line for line in handle if line.strip() and not line.startswith("#")]
    reader = csv.DictReader(lines, delimiter="\t")
    columns = reader.fieldnames or []
    known = list(schema["properties"])
    found = [f"{path}: unknown column {c}. {nearest(c, known)}" for c in columns if c not in known]
    found += [
        f"{path}: column {c} is missing. {schema['properties'][c]['description']}"
        for c in schema["required"]
        if c not in columns
    ]
    if found:
        return [], found
    rows = []
    for number, raw in enumerate(reader, start=2):
        row = {k: v.strip() for k, v in raw.items() if isinstance(v, str) and v.strip()}
        found += problems(row, schema, f"{path}, row {number}")
        rows.append(with_defaults(row, schema))
    if not rows:
        found.append(f"{path}: no samples. Write one row a sample below the header.")
    return rows, found + _sheet_checks(path, rows)


def _sheet_checks(path: Path, rows: list[dict]) -> list[str]:
    names = [row.get("sample") for row in rows]
    said = [
        f"{path}: sample {name} stands there twice. Give every row a name of its own."
        for name in sorted({n for n in names if n and names.count(n) > 1})
    ]
    reserved = {
        "cache",
        "embeddings",
        "models",
        "refinement",
        "predictions",
        "evaluation",
        "figures",
        "tables",
        "logs",
        "benchmarks",
        "simulated",
        "preflight",
    }
    said += [
        f"{path}: sample {name} has the name of a results folder. Choose another." for name in names if name in reserved
    ]
    for row in rows:
        who, slide = f"{path}: sample {row.get('sample')}", row.get("platform") == "slide"
        if slide and row.get("role") in ("train", "validation"):
            said.append(f"{who} is a plain slide, without counts to train on or to be scored by. Its role is predict.")
        foreign = ("he_image", "alignment", "annotation") if slide else ("nuclei", "mpp")
        said += [
            f"{who}: column {column} is not used for platform {row.get('platform')}. Leave it empty."
            for column in foreign
            if row.get(column)
        ]
    if rows and not any(row.get("role") == "train" and row.get("platform") == "xenium" for row in rows):
        said.append(f"{path}: no training sample. Give at least one Xenium bundle the role train.")
    return said


def expand(text: str) -> str:
    """Put environment variables and the home folder into a path; a variable that is not set is a KeyError."""
    return os.path.expanduser(re.sub(r"\$\{?(\w+)\}?", lambda found: os.environ[found.group(1)], text))


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

    def resolve_all(self, texts: dict[str, str], where: str) -> tuple[dict[str, str], list[str]]:
        """Resolve named paths; a variable that is not set is a problem and leaves the path out."""
        done, found = {}, []
        for name, text in texts.items():
            try:
                done[name] = self.resolve(text)
            except KeyError as error:
                found.append(
                    f"{where}: {name} needs the environment variable {error.args[0]}, which is not set. "
                    f"Say: export {error.args[0]}=FOLDER"
                )
        return done, found
