"""What a run reads: config, sheet, and where their files lie; all that must be right when the workflow is parsed."""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shest.core.errors import Findings, did_you_mean
from shest.encode.spec import local_weights
from shest.fetch.sources import published_name, published_parts
from shest.io.cohort import REMEDY, read_cohort
from shest.io.geojson import NUCLEI_REMEDY
from shest.io.regions import REMEDY as REGIONS_REMEDY
from shest.io.regions import read_regions
from shest.io.spot_arrays import visium_files
from shest.io.transcripts import REMEDY as TRANSCRIPTS_REMEDY
from shest.io.transcripts import read_transcripts
from shest.io.xenium_files import ALIGNMENT, BUNDLE_FILES, HE_IMAGE
from shest.labels.split import group_of
from shest.run import config as settings
from shest.run import packages, systems
from shest.systems import base

COLUMNS = ("path", "he_image", "alignment", "annotation", "nuclei")
BY_WEIGHTS = ("torchscript", "trained")  # methods of segment that need weights
RESOURCES = Path(__file__).resolve().parents[3] / "resources"
IN_BUNDLE = {"he_image": (HE_IMAGE, "H&E image"), "alignment": (ALIGNMENT, "alignment")}
"""Columns that a bundle fills where the sheet does not: the end of the file's name, and what it is."""
VISIUM_REMEDY = "Name the folder that Space Ranger wrote (outs; not Visium HD), with its folder spatial"
FOUND = "Or leave column alignment empty and let it be found (register.method: estimate)"


@dataclass
class RunInputs:
    """Everything that a run reads, with resolved paths.

    Attributes
    ----------
    config
        With defaults; encoders completed.
    paths
        Resolver of the config's paths.
    samples
        Rows of the sheet by sample; ``he_image`` and ``alignment`` of every bundle, which may yet be to be made.
    reference
        Path of the single-cell reference; None where the run needs none.
    markers
        Section ``annotate.markers``, its databases as ``format`` and ``paths``, all paths resolved; None where the run
        reads no marker genes.
    comparators
        Settings of every comparator that has a file for a sample, its ``path`` among them, by sample and name.
    model, package
        Folder of the package that is applied, and what it says of itself; None where systems are trained.
    cohort
        Path of the cohort's table; None where there is none.
    """

    config: dict
    paths: settings.Paths
    samples: dict[str, dict]
    reference: str | None
    comparators: dict[str, dict[str, dict]]
    markers: dict | None = None
    model: str | None = None
    package: dict | None = None
    cohort: str | None = None

    def files(self, sample: str) -> list[str]:
        """Paths of the files that are read of a sample: a bundle's, or a slide's.

        A pathologist's table is none of them, nor an alignment that is to be found.
        """
        row = self.samples[sample]
        if row["platform"] == "slide":
            return [row["path"], *filter(None, [row["nuclei"]])]
        if row["platform"] in settings.NEEDED:
            own = visium_files(row["path"]).values() if row["platform"] == "visium" else [row["path"]]
            return [*own, *(row[column] for column in settings.NEEDED[row["platform"]])]
        alignment = [] if row["aligned"] else [row["alignment"]]
        return [row["he_image"], *alignment, *(f"{row['path']}/{name}" for name in BUNDLE_FILES)]


def load(config: dict, config_file: Path, findings: Findings) -> RunInputs | None:
    """Check config, sheet and the places of their files; None where there is a problem, and all are noted."""
    where, known = str(config_file), len(findings.problems)
    results = str(config.get("results", "results")).rstrip("/")
    model = package = None
    if config.get("model"):
        model = (
            settings.Paths(config_file.resolve().parent, results)
            .resolve_all({"model": str(config["model"])}, where, findings)
            .get("model")
        )
        package = model and findings.attempt(model, packages.PACK_AGAIN, packages.read_record, model)
        if package is None:
            return None
        config = packages.configure(config, Path(model), package, where, findings)
    filled = settings.check_config(config, where, findings, _has_cells(config, config_file, results))
    _check_results(results, findings)
    fetched = _fetched_folder(filled, where, findings)
    paths = settings.Paths(config_file.resolve().parent, results, fetched)
    places = _resolve_own(filled, paths, where, findings)
    rows = settings.read_sheet(Path(places["samples"]), findings, model is None) if "samples" in places else []
    samples = {}
    for row in rows:
        row["aligned"] = _aligned(row, filled)
        if row.get("mpp") and row.get("platform") == "xenium" and not row["aligned"]:
            problem = f"sample {row.get('sample')}: column mpp is not used for platform xenium with an alignment"
            findings.problem(places["samples"], problem, "Leave it empty")
        given = _published(row, filled) | {column: row[column] for column in COLUMNS if row.get(column)}
        if row["aligned"]:
            given["alignment"] = f"{{results}}/samples/{row.get('sample')}/{ALIGNMENT}"
        resolved = paths.resolve_all(given, f"{places['samples']}, sample {row.get('sample')}", findings)
        _check_row(row | resolved, {k: v for k, v in given.items() if k in resolved}, filled, findings)
        samples[row.get("sample")] = _with_nuclei(_with_files(row | resolved), filled, findings)
    if len(findings.problems) > known:
        return None
    _check_figures(filled["figures"], samples, list(filled["systems"]), findings)
    _check_viewer(filled["viewer"], list(filled["systems"]), findings)
    _check_explain(filled, samples, findings)
    if model is None:
        systems.check_units(filled, samples, findings)
        _check_packed(filled, findings)
    _check_groups(filled, samples, findings)
    _check_prior(filled["annotate"], samples, findings)
    cohort = _cohort(filled, samples, paths, findings)
    _resolve_transcripts(filled["evaluate"], paths, findings)
    _resolve_regions(filled["figures"], samples, paths, findings)
    markers = _markers(filled, paths, findings) if settings.needs_markers(filled) else None
    comparators = _comparators(filled["evaluate"]["comparators"], samples, list(filled["systems"]), paths, findings)
    if len(findings.problems) > known:
        return None
    if filled["segment"]["method"] in BY_WEIGHTS:
        filled["segment"] = filled["segment"] | {"weights": places["segment.weights"]}
    for entry in filled["encoders"]:
        if local_weights(entry):
            entry["weights"] = paths.resolve(entry["weights"])
    labelled = [name for name, row in samples.items() if row["role"] != "predict" and row["platform"] == "xenium"]
    if labelled and settings.needs_reference(filled) and "reference.path" not in places:
        findings.problem(where, f"no reference, and {', '.join(labelled)} cannot be labelled", "Give reference.path")
        return None
    return RunInputs(filled, paths, samples, places.get("reference.path"), comparators, markers, model, package, cohort)


def _cohort(config: dict, samples: dict[str, dict], paths: settings.Paths, findings: Findings) -> str | None:
    """Return the path of the cohort's table, and note all that is wrong with it: slides take hours, and come first."""
    if "cohort" not in config:
        return None
    if "model" not in config:
        findings.problem("cohort", "is read where a package is applied, and none is", "Leave it out, or name model")
        return None
    path = paths.resolve_all({"cohort.table": config["cohort"]["table"]}, "cohort.table", findings).get("cohort.table")
    if path:
        known = len(findings.problems)
        _check_file(path, "cohort.table", "the table of patients", findings)
        if len(findings.problems) == known:
            slides = [name for name, row in samples.items() if row["platform"] == "slide"]
            findings.attempt(path, REMEDY, read_cohort, path, slides)
    return path


def _resolve_transcripts(evaluate: dict, paths: settings.Paths, findings: Findings) -> None:
    """Resolve the path of the table of transcripts in place, and note all that is wrong with it."""
    if "transcripts" not in evaluate:
        return
    key = "evaluate.transcripts"
    path = paths.resolve_all({key: evaluate["transcripts"]}, key, findings).get(key)
    if path:
        evaluate["transcripts"] = path
        findings.attempt(path, TRANSCRIPTS_REMEDY, read_transcripts, path)


def _resolve_regions(figures: dict, samples: dict[str, dict], paths: settings.Paths, findings: Findings) -> None:
    """Resolve the paths of tables of regions in place, and note samples that are not there and tables that are none."""
    for name in figures["regions"]:
        if name not in samples:
            key = f"figures.regions.{name}"
            findings.problem(key, f"no sample {name} in the sheet", did_you_mean(name, samples))
    figures["regions"] = paths.resolve_all(figures["regions"], "figures.regions", findings)
    for path in figures["regions"].values():
        findings.attempt(path, REGIONS_REMEDY, read_regions, path)


def _has_cells(config: dict, config_file: Path, results: str) -> bool:
    """Tell whether any sample of the sheet has cells; True where there is no sheet to look into."""
    try:
        path = settings.Paths(config_file.resolve().parent, results).resolve(str(config.get("samples")))
    except KeyError:
        return True
    return settings.has_cells(Path(path))


def _markers(config: dict, paths: settings.Paths, findings: Findings) -> dict:
    """Return the section ``annotate.markers`` with resolved paths, and note files that are not there."""
    section, who = config["annotate"]["markers"], "annotate.markers"
    embedded = {"databases": "marker_genes.tsv", "categories": "marker_categories.tsv", "organs": "marker_organs.tsv"}

    def resolved(text: str, key: str) -> str:
        if text == "embedded":
            return str(RESOURCES / embedded[key])
        path = paths.resolve_all({key: text}, who, findings).get(key, text)
        _check_fetched(text, f"{who}.{key}", config, findings)
        if not _made(text):
            _check_file(path, f"{who}.{key}", "a table of marker genes", findings)
        return path

    databases = []
    for entry in section["databases"]:
        texts = [entry["path"]] if isinstance(entry["path"], str) else entry["path"]
        databases.append({"format": entry["format"], "paths": [resolved(text, "databases") for text in texts]})
    return section | {"databases": databases} | {key: resolved(section[key], key) for key in ("categories", "organs")}


def _check_results(results: str, findings: Findings) -> None:
    """Note a folder of the results that cannot be one, or that an earlier version has written."""
    existing = next(path for path in (Path(results), *Path(results).absolute().parents) if path.exists())
    if not existing.is_dir():
        findings.problem(results, f"results: {existing} is a file", "Set results to the path of a folder")
    elif Path(results, "preflight.json").exists():
        findings.problem(
            results,
            "was written by an earlier version with another layout",
            "Set results to another folder, or move it away",
        )


def _fetched_folder(config: dict, where: str, findings: Findings) -> str:
    """Return the folder of what is fetched, environment variables put in."""
    fetch = config.get("fetch")
    text = fetch.get("dir") if isinstance(fetch, dict) else None
    text = text if isinstance(text, str) else "data"
    try:
        return settings.expand(text).rstrip("/")
    except KeyError as error:
        settings.unset(where, "fetch.dir", error.args[0], findings)
        return text


def _resolve_own(config: dict, paths: settings.Paths, where: str, findings: Findings) -> dict[str, str]:
    """Resolve the paths that the config itself names, and note a reference that is not there."""
    reference = config.get("reference")
    named = {
        "samples": config.get("samples"),
        "reference.path": reference.get("path")
        if isinstance(reference, dict) and settings.needs_reference(config)
        else None,
    }
    segment = config.get("segment")
    if isinstance(segment, dict) and segment.get("method") in BY_WEIGHTS:
        named["segment.weights"] = _weights_file(segment)
    texts = {name: text for name, text in named.items() if isinstance(text, str)}
    places = paths.resolve_all(texts, where, findings)
    entries = [entry for entry in config.get("encoders") or [] if isinstance(entry, dict)]
    weights = {f"encoders: {entry.get('name')}": local_weights(entry) for entry in entries}
    paths.resolve_all({name: text for name, text in weights.items() if text}, where, findings)
    if "reference.path" in places:
        text = texts["reference.path"]
        _check_fetched(text, "reference.path", config, findings)
        if not _made(text):
            _check_file(places["reference.path"], "reference.path", "the reference", findings)
    if "segment.weights" in places and _made(texts["segment.weights"]):
        _check_trained(texts["segment.weights"], config, findings)
    elif "segment.weights" in places:
        _check_file(places["segment.weights"], "segment.weights", "the network", findings)
    return places


def _weights_file(segment: dict) -> str | None:
    """Return the path of what finds nuclei, as written; of a trained system's folder, its weights."""
    text = segment.get("weights")
    if segment["method"] == "trained" and isinstance(text, str) and not text.endswith(".safetensors"):
        return f"{text.rstrip('/')}/model.safetensors"
    return text


def _check_trained(text: str, config: dict, findings: Findings) -> None:
    """Note a model of this run by which nuclei shall be found, and which no system of the config makes."""
    entries = config.get("systems") if isinstance(config.get("systems"), dict) else {}
    finding = [name for name, entry in entries.items() if _finds_nuclei(entry)]
    name = (text.removeprefix("{results}/models/").split("/") or [""])[0]
    if name not in finding:
        remedy = did_you_mean(name, finding) if finding else "Add one of kind nuclei to systems"
        findings.problem("segment.weights", f"{text}: no system {name} that finds nuclei in systems", remedy)


def _finds_nuclei(entry: Any) -> bool:
    spec = base.kinds().get(entry.get("kind")) if isinstance(entry, dict) else None
    return spec is not None and spec.outlines


def _made(text: str) -> bool:
    """Tell whether a path, as written, is within the results or what is fetched: rules make it."""
    return text.startswith(("{results}", "{fetched}"))


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
    parts = published_parts(entry)
    return {part: f"{{fetched}}/{name}/{published_name(parts[part].get('url', ''))}" for part in IN_BUNDLE}


def _with_files(row: dict) -> dict:
    """Fill in H&E image and alignment of a bundle: the only match in it, or the name that it will have once made."""
    if row.get("platform") != "xenium" or "path" not in row:
        return row
    bundle = Path(row["path"])
    for column, (pattern, _) in IN_BUNDLE.items():
        present = sorted(bundle.glob(f"*{pattern}"))
        row[column] = row.get(column) or str(present[0] if present else bundle / f"{bundle.name}_{pattern}")
    return row


def _aligned(row: dict, config: dict) -> bool:
    """Tell whether the alignment of a bundle's H&E is to be found."""
    register = config.get("register")
    method = register.get("method") if isinstance(register, dict) else None
    return method == "estimate" and row.get("platform") == "xenium" and not row.get("alignment")


def _with_nuclei(row: dict, config: dict, findings: Findings) -> dict:
    """Say in column ``segment`` where a sample's outlines come from; a file that is not used is not read."""
    segment = config.get("segment")
    method = segment.get("method", "auto") if isinstance(segment, dict) else "auto"
    slide, who = row.get("platform") == "slide", f"sample {row.get('sample')}"
    if row.get("platform") in settings.NEEDED:
        return row | {"segment": None, "nuclei": None}
    if method == "auto":
        method = "bundle" if not slide else "file" if row.get("nuclei") else "classical"
    elif method == "trained" and row.get("role") == "train":
        method = "bundle"  # what it learnt from
    elif method == "bundle" and slide:
        findings.problem("segment.method", f"bundle, and {who} is a plain slide", "Set it to auto or classical")
    elif method == "file" and not slide:
        findings.problem("segment.method", f"file, and {who} is a Xenium bundle", "Set it to auto")
    elif method == "file" and not row.get("nuclei"):
        findings.problem("segment.method", f"file, and {who} has no outlines of nuclei", NUCLEI_REMEDY)
    return row | {"segment": method, "nuclei": row.get("nuclei") if method == "file" else None}


def _check_groups(config: dict, samples: dict[str, dict], findings: Findings) -> None:
    """Note training samples of which none could be held out as a whole, of each unit that a system predicts for."""
    by, rows = config["split"]["by"], {name: row for name, row in samples.items() if row["role"] == "train"}
    laid = config["spots"].get("diameter_um") is not None
    of_unit = {
        "cells": [name for name, row in rows.items() if row["platform"] == "xenium"],
        "spots": [name for name, row in rows.items() if row["platform"] != "xenium" or laid],
    }
    wanted = {entry["unit"] for entry in config["systems"].values()}
    few = [u for u in of_unit if u in wanted and len({group_of(n, rows[n], by) for n in of_unit[u]}) < 2]
    what = f"{by} with spots" if few == ["spots"] else by
    if by != "block" and few:
        findings.problem(
            "split.by",
            f"there is one {what} to train on, and none is left where it is held out",
            "Add training samples, or set split.by to block",
        )


def _check_prior(annotate: dict, samples: dict[str, dict], findings: Findings) -> None:
    """Note samples without the table that their prior should come from."""
    labelled = [n for n, row in samples.items() if row["role"] != "predict" and row["platform"] == "xenium"]
    without = [n for n in labelled if not samples[n].get("annotation")]
    if annotate["prior"] == "table" and annotate["method"] == "tacco" and without:
        findings.problem(
            "annotate.prior",
            f"table, and there is none for {', '.join(without)}",
            "Set it to auto or estimated, or name a table in column annotation",
        )


def _check_figures(figures: dict, samples: dict[str, dict], systems: list[str], findings: Findings) -> None:
    """Note samples and systems that figures should show and cannot."""
    if figures.get("system", systems[0]) not in systems:
        findings.problem(
            "figures.system", f"no system {figures['system']} in systems", did_you_mean(figures["system"], systems)
        )
    wanted = [("training", name, "train") for name in [figures.get("training")] if name]
    wanted += [("external", name, "validation") for name in figures.get("external", [])]
    for key, name, role in wanted:
        if name not in samples:
            findings.problem(f"figures.{key}", f"no sample {name} in the sheet", did_you_mean(name, samples))
        elif samples[name]["role"] != role:
            findings.problem(
                f"figures.{key}", f"sample {name} has the role {samples[name]['role']}", f"Name one of role {role}"
            )


def _check_viewer(viewer: dict, systems: list[str], findings: Findings) -> None:
    """Note systems that the viewer should show and that there are not."""
    for name in viewer.get("systems", []):
        if name not in systems:
            findings.problem("viewer.systems", f"no system {name} in systems", did_you_mean(name, systems))


def _check_explain(config: dict, samples: dict[str, dict], findings: Findings) -> None:
    """Note a sample that is not there, and a system whose predictions cannot be explained."""
    if "explain" not in config:
        return
    explain, systems = config["explain"], config["systems"]
    known = [name for name, entry in systems.items() if _sees_cells(entry)]
    with_cells = [name for name, row in samples.items() if row["platform"] in ("xenium", "slide")]
    if "model" in config:
        findings.problem("explain", "is done where systems are trained, and a package is applied", "Leave it out")
    elif explain["sample"] not in with_cells:
        problem = f"no sample {explain['sample']} with cells in the sheet"
        findings.problem("explain.sample", problem, did_you_mean(explain["sample"], with_cells))
    elif not known:
        findings.problem("explain", "no system reads embeddings of cells", "Leave it out, or add one to systems")
    elif explain.setdefault("system", known[0]) not in known:
        problem = f"no system {explain['system']} that reads embeddings of cells"
        findings.problem("explain.system", problem, did_you_mean(explain["system"], known))


def _sees_cells(entry: dict) -> bool:
    """Tell whether a system reads embeddings of cells."""
    return base.spec_of(entry["kind"]).reading(entry["settings"]) == "embeddings" and entry["unit"] == "cells"


def _check_packed(config: dict, findings: Findings) -> None:
    """Note systems that should be packed and are of spots: a package predicts cells of a slide."""
    for name in config["package"].get("systems", []):
        if config["systems"].get(name, {}).get("unit") == "spots":
            findings.problem("package.systems", f"{name} predicts spots, and packages are of cells", "Leave it out")


def _comparators(
    entries: dict, samples: dict[str, dict], systems: list[str], paths: settings.Paths, findings: Findings
) -> dict:
    """Settings of the comparators by sample and name, with defaults and resolved paths."""
    parts = settings.load_schema("config")["properties"]["evaluate"]["properties"]["comparators"]
    by_sample: dict[str, dict] = {sample: {} for sample in samples}
    for name, entry in entries.items():
        filled = settings.with_defaults(entry, parts["additionalProperties"])
        common = {key: filled[key] for key in ("format", "radius_um", "scale")}
        common["types"] = {str(group): cell_type for group, cell_type in entry.get("types", {}).items()}
        if entry["format"] == "h5ad":
            if name in systems:
                findings.problem(f"evaluate.comparators.{name}", "a system has this name", "Give it another")
            common |= {key: entry.get(key) for key in ("unit", "trained_on")}
        who = f"evaluate.comparators.{name}.files"
        for sample, text in entry["files"].items():
            if sample not in samples:
                findings.problem(who, f"no sample {sample} in the sheet", did_you_mean(sample, samples))
            elif samples[sample]["role"] == "predict":
                findings.problem(who, f"sample {sample} has the role predict and is not scored", "Leave it out")
            else:
                path = paths.resolve_all({sample: text}, who, findings).get(sample)
                if path and not _made(text):
                    _check_file(path, f"comparator {name}", f"{who}.{sample}", findings)
                by_sample[sample][name] = common | {"path": path}
    return by_sample


def _check_fetched(text: str, who: str, config: dict, findings: Findings) -> None:
    """Note a path in the folder of what is fetched that nothing of the config fetches."""
    if not text.startswith("{fetched}"):
        return
    name = text.removeprefix("{fetched}").strip("/")
    known = [*_fetches(config, "files"), *_fetches(config, "bundles")]
    for bundle in _fetches(config, "bundles"):
        known += _published({"path": f"{{fetched}}/{bundle}"}, config).values()
    known = [entry.removeprefix("{fetched}/") for entry in known]
    if name not in known:
        remedy = did_you_mean(name, known) if known else "Add it there"
        findings.problem(text, f"{who}: neither fetch.files nor fetch.bundles has {name}", remedy)


def _check_row(row: dict, given: dict, config: dict, findings: Findings) -> None:
    """Note what is not where a row of the sheet says.

    Parameters
    ----------
    row
        With resolved paths.
    given
        Its paths as they are written.
    """
    who = f"sample {row.get('sample')}"
    for text in given.values():
        _check_fetched(text, who, config, findings)
    for column in COLUMNS[1:]:
        if column in given and not _made(given[column]):
            _check_file(row[column], who, f"{column} of the sheet", findings, column)
    if "path" not in given:
        return
    slide = row.get("platform") in ("slide", "st")
    if _made(given["path"]):
        _check_simulated(given["path"], who, config, findings)
    elif slide:
        _check_file(row["path"], who, "the slide" if row["platform"] == "slide" else "the table of counts", findings)
    elif row.get("platform") == "visium":
        if not Path(row["path"]).is_dir():
            findings.problem(row["path"], f"{who}: no such folder", _nearest(Path(row["path"])))
            return
        for what, path in visium_files(row["path"]).items():
            if not Path(path).is_file():
                findings.problem(path, f"{who}: no {what.removeprefix('the ')} of Space Ranger", VISIUM_REMEDY)
    else:
        check_bundle(Path(row["path"]), who, [column for column in IN_BUNDLE if column in given], findings)


def _check_simulated(text: str, who: str, config: dict, findings: Findings) -> None:
    """Note a path among the simulated slides that names none of them."""
    simulate = config.get("simulate") or {}
    folder = f"{{results}}/{simulate.get('folder', 'simulated')}/"
    slides = list(simulate.get("slides", {}))
    name = text.removeprefix(folder).rstrip("/")
    if text.startswith(folder) and name not in slides:
        remedy = did_you_mean(name, slides) if slides else "simulate.slides is empty"
        findings.problem(text, f"{who}: no slide {name} in simulate.slides", remedy)


def _check_file(path: str, who: str, what: str, findings: Findings, column: str = "") -> None:
    """Note a file that is not there, with the nearest name in its folder; ``column``: of the sheet."""
    if Path(path).is_dir():
        findings.problem(path, f"{who}: {what} is a folder", "Name the file")
    elif not Path(path).is_file():
        findings.problem(path, f"{who}: {what} is not there", _or_found(_nearest(Path(path)), column))


def _nearest(path: Path) -> str:
    if not path.parent.is_dir():
        return f"There is no folder {path.parent}"
    close = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()], n=1)
    return f"Did you mean {close[0]}?" if close else "Correct the path, or put the file there"


def _or_found(remedy: str, column: str) -> str:
    """Add what else can be done where an alignment is missing."""
    if column != "alignment":
        return remedy
    return f"{remedy}{'' if remedy.endswith('?') else '.'} {FOUND}"


def check_bundle(bundle: Path, who: str, given: list[str], findings: Findings) -> None:
    """Note files of a bundle that are not there, or not there once.

    Parameters
    ----------
    given
        Which of ``he_image`` and ``alignment`` the sheet names; of the others the bundle must hold one each.
    """
    if not bundle.is_dir():
        findings.problem(bundle, f"{who}: no such folder", _nearest(bundle))
        return
    if not (bundle / BUNDLE_FILES[0]).is_file():
        problem = f"{who}: no Xenium bundle: {BUNDLE_FILES[0]} is not there"
        findings.problem(bundle, problem, "Name the folder that holds it")
        return
    for name in BUNDLE_FILES:
        _check_file(str(bundle / name), who, "a file of the bundle", findings)
    for column, (pattern, what) in IN_BUNDLE.items():
        present = sorted(p.name for p in bundle.glob(f"*{pattern}"))
        if column in given or len(present) == 1:
            continue
        if present:
            problem = f"{who}: {len(present)} candidates for the {what} ({', '.join(present[:3])})"
            findings.problem(bundle, problem, f"Name one in column {column} of the sheet")
        else:
            others = sorted(p.name for p in bundle.glob(f"*{Path(pattern).suffix}"))[:4]
            hint = f" (there are {', '.join(others)})" if others else ""
            problem = f"{who}: no {what}: no file named *{pattern}{hint}"
            findings.problem(bundle, problem, _or_found(f"Name yours in column {column} of the sheet", column))
