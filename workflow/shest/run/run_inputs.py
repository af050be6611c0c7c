"""Where a run's input lies: what must be there when the workflow is parsed, before any rule could say it well."""

import difflib
from dataclasses import dataclass
from pathlib import Path

from shest.core.errors import nearest
from shest.run import config as settings

BUNDLE_FILES = (
    "experiment.xenium",
    "cells.parquet",
    "cells.zarr.zip",
    "cell_feature_matrix.h5",
    "nucleus_boundaries.parquet",
)
HE_IMAGE, ALIGNMENT = "he_image.ome.tif", "he_imagealignment.csv"
COLUMNS = ("path", "he_image", "alignment", "annotation", "nuclei")
NUCLEI_REMEDY = (
    "Detect cells in QuPath (Analyze > Cell detection, or the StarDist extension) and export them (File > Export "
    "objects as GeoJSON), or run CellViT with --geojson; name the file in column nuclei"
)


@dataclass
class Run:
    """Config with defaults, resolver of its paths, rows of the sheet by sample (paths resolved), the reference.

    ``comparators``: settings of every comparator that has a file for a sample, its ``path`` resolved, by sample and
    name.
    """

    config: dict
    paths: settings.Paths
    samples: dict[str, dict]
    reference: str
    comparators: dict[str, dict[str, dict]]


def load(config: dict, config_file: Path) -> tuple[Run | None, list[str]]:
    """Check config, sheet and the places of their files.

    Returns
    -------
    run : Run, or None where there is a problem
    problems : one sentence each; all of them
    """
    filled, problems = settings.check_config(config, str(config_file))
    fetched, more = _fetched_folder(filled, str(config_file))
    problems += more
    paths = settings.Paths(config_file.resolve().parent, str(filled.get("results", "results")).rstrip("/"), fetched)
    reference = filled.get("reference")
    named = {
        "samples": filled.get("samples"),
        "reference.path": reference.get("path") if isinstance(reference, dict) else None,
    }
    texts = {name: text for name, text in named.items() if isinstance(text, str)}
    places, more = paths.resolve_all(texts, str(config_file))
    problems += more
    problems += paths.resolve_all(_weights(filled), str(config_file))[1]
    if "reference.path" in places:
        text = texts["reference.path"]
        problems += _unfetched(text, "reference.path", filled)
        problems += [] if _made(text) else _file(places["reference.path"], "reference.path", "the reference")
    rows, more = settings.read_sheet(Path(places["samples"])) if "samples" in places else ([], [])
    problems += more
    samples = {}
    for row in rows:
        given = _published(row, filled) | {column: row[column] for column in COLUMNS if row.get(column)}
        found, more = paths.resolve_all(given, f"{places['samples']}, sample {row.get('sample')}")
        problems += more + _row_problems(row | found, {k: v for k, v in given.items() if k in found}, filled)
        samples[row.get("sample")] = row | found
    if problems:
        return None, problems
    problems = _figure_problems(filled["figures"], samples)
    if problems:
        return None, problems
    beside, problems = _comparators(filled["evaluate"]["comparators"], samples, paths)
    if problems:
        return None, problems
    return Run(filled, paths, samples, places["reference.path"], beside), []


def _comparators(entries: dict, samples: dict[str, dict], paths: settings.Paths) -> tuple[dict, list[str]]:
    """Settings of the comparators by sample and name, with defaults and resolved paths, and what is wrong with them."""
    parts = settings.load_schema("config")["properties"]["evaluate"]["properties"]["comparators"]
    by_sample: dict[str, dict] = {sample: {} for sample in samples}
    said = []
    for name, entry in entries.items():
        filled = settings.with_defaults(entry, parts["additionalProperties"])
        common = {key: filled[key] for key in ("format", "radius_um", "scale")}
        common["types"] = {str(group): kind for group, kind in entry["types"].items()}
        for sample, text in entry["files"].items():
            who = f"evaluate.comparators.{name}.files"
            if sample not in samples:
                said.append(f"{who}: no sample {sample} in the sheet. {nearest(sample, samples)}")
            elif samples[sample]["role"] == "predict":
                said.append(f"{who}: sample {sample} has the role predict and is not scored. Leave it out")
            else:
                found, more = paths.resolve_all({sample: text}, who)
                said += more or ([] if _made(text) else _file(found[sample], f"comparator {name}", f"{who}.{sample}"))
                by_sample[sample][name] = common | {"path": found.get(sample)}
    return by_sample, said


def _figure_problems(shown: dict, samples: dict[str, dict]) -> list[str]:
    """List the samples that figures should show and cannot."""
    wanted = [("training", name, "train") for name in [shown.get("training")] if name]
    wanted += [("external", name, "validation") for name in shown.get("external", [])]
    said = []
    for key, name, role in wanted:
        if name not in samples:
            said.append(f"figures.{key}: no sample {name} in the sheet. {nearest(name, samples)}")
        elif samples[name]["role"] != role:
            said.append(f"figures.{key}: sample {name} has the role {samples[name]['role']}. Name one of role {role}")
    return said


def _weights(config: dict) -> dict[str, str]:
    """Paths of local weights of encoders, by what they are."""
    entries = [entry for entry in config.get("encoders") or [] if isinstance(entry, dict)]
    given = {f"encoders: {entry.get('name')}": str(entry.get("weights", "hub:")) for entry in entries}
    return {name: text for name, text in given.items() if not text.startswith(("hub:", "random"))}


def _made(text: str) -> bool:
    """Tell whether a path, as written, is within the results or what is fetched: rules make it."""
    return text.startswith(("{results}", "{fetched}"))


def _fetched_folder(config: dict, where: str) -> tuple[str, list[str]]:
    """Return the folder of what is fetched, environment variables put in."""
    fetch = config.get("fetch")
    text = fetch.get("dir") if isinstance(fetch, dict) else None
    text = text if isinstance(text, str) else "data"
    try:
        return settings.expand(text).rstrip("/"), []
    except KeyError as error:
        return text, [
            f"{where}: fetch.dir needs the environment variable {error.args[0]}, which is not set. "
            f"Say: export {error.args[0]}=FOLDER"
        ]


def _fetches(config: dict, kind: str) -> dict:
    """Entries of ``fetch.files`` or ``fetch.bundles``."""
    fetch = config.get("fetch")
    entries = fetch.get(kind) if isinstance(fetch, dict) else None
    return entries if isinstance(entries, dict) else {}


def _published(row: dict, config: dict) -> dict[str, str]:
    """H&E image and alignment of a bundle that is fetched, as they are published."""
    name = str(row.get("path", "")).removeprefix("{fetched}/").rstrip("/")
    entry = _fetches(config, "bundles").get(name)
    if not isinstance(entry, dict) or not str(row["path"]).startswith("{fetched}/"):
        return {}
    parts = settings.published_parts(entry)
    names = {part: settings.published_name(parts[part].get("url", "")) for part in ("he_image", "alignment")}
    return {part: f"{{fetched}}/{name}/{file}" for part, file in names.items()}


def _unfetched(text: str, who: str, config: dict) -> list[str]:
    """One problem where a path is in the folder of what is fetched, and nothing of the config fetches it."""
    if not text.startswith("{fetched}"):
        return []
    name = text.removeprefix("{fetched}").strip("/")
    known = [*_fetches(config, "files"), *_fetches(config, "bundles")]
    for bundle in _fetches(config, "bundles"):
        known += _published({"path": f"{{fetched}}/{bundle}"}, config).values()
    known = [entry.removeprefix("{fetched}/") for entry in known]
    if name in known:
        return []
    return [
        f"{text}: {who}: neither fetch.files nor fetch.bundles has {name}. "
        + (nearest(name, known) if known else "Add it there")
    ]


def _row_problems(row: dict, given: dict, config: dict) -> list[str]:
    """List what is not where a row of the sheet says."""
    who = f"sample {row.get('sample')}"
    said = [sentence for text in given.values() for sentence in _unfetched(text, who, config)]
    for column in ("he_image", "alignment", "annotation", "nuclei"):
        if column in given and not _made(given[column]):
            said += _file(row[column], who, f"{column} of the sheet")
    if "path" not in given:
        return said
    if _made(given["path"]):
        return said + _slide_problems(given["path"], who, config)
    if row.get("platform") == "slide":
        said += _file(row["path"], who, "the slide")
        if "nuclei" not in given:
            said.append(f"{row['path']}: {who} is a plain slide without outlines of nuclei. {NUCLEI_REMEDY}")
        return said
    return said + bundle_problems(Path(row["path"]), who, "he_image" in given, "alignment" in given)


def _slide_problems(text: str, who: str, config: dict) -> list[str]:
    """A path among the simulated slides must name one of them."""
    if text.startswith("{fetched}"):
        return []
    simulate = config.get("simulate") or {}
    folder = f"{{results}}/{simulate.get('folder', 'simulated')}/"
    slides = list(simulate.get("slides", {}))
    name = text.removeprefix(folder).rstrip("/")
    if not text.startswith(folder) or name in slides:
        return []
    known = nearest(name, slides) if slides else "simulate.slides is empty."
    return [f"{text}: {who}: no slide {name} in simulate.slides. {known}"]


def _file(path: str, who: str, what: str) -> list[str]:
    """One problem where a file is not there, with the nearest name beside it."""
    place = Path(path)
    if place.is_file():
        return []
    if place.is_dir():
        return [f"{path}: {who}: {what} is a folder. Name the file"]
    return [f"{path}: {who}: {what} is not there. {_beside(place)}"]


def _beside(path: Path) -> str:
    if not path.parent.is_dir():
        return f"There is no folder {path.parent}"
    close = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()], n=1)
    return f"Did you mean {close[0]}?" if close else "Correct the path, or put the file there"


def bundle_problems(bundle: Path, who: str, he_given: bool, alignment_given: bool) -> list[str]:
    """List which files of a bundle are not there, or not there once.

    Parameters
    ----------
    he_given, alignment_given
        Whether the sheet names the H&E image and its alignment; else the bundle must hold one of each.
    """
    if not bundle.is_dir():
        return [f"{bundle}: {who}: no such folder. {_beside(bundle)}"]
    if not (bundle / BUNDLE_FILES[0]).is_file():
        return [f"{bundle}: {who}: no Xenium bundle: {BUNDLE_FILES[0]} is not there. Name the folder that holds it"]
    said = [sentence for name in BUNDLE_FILES for sentence in _file(str(bundle / name), who, "a file of the bundle")]
    wanted = [(HE_IMAGE, "H&E image", "he_image", he_given), (ALIGNMENT, "alignment", "alignment", alignment_given)]
    for pattern, what, column, given in wanted:
        found = sorted(p.name for p in bundle.glob(f"*{pattern}"))
        if given or len(found) == 1:
            continue
        if found:
            said.append(
                f"{bundle}: {who}: {len(found)} candidates for the {what} ({', '.join(found[:3])}). "
                f"Name one in column {column} of the sheet"
            )
        else:
            others = sorted(p.name for p in bundle.glob(f"*{Path(pattern).suffix}"))[:4]
            hint = f" (there are {', '.join(others)})" if others else ""
            said.append(
                f"{bundle}: {who}: no {what}: no file named *{pattern}{hint}. "
                f"Name yours in column {column} of the sheet"
            )
    return said
