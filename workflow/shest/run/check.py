"""Checks everything that a run reads, at once, and says what it will need: ``python -m shest.run.check CONFIG``.

One line for each sample, estimate, warning and problem; exit status 1 where there is a problem. Nothing is written.
Files that the run itself makes are estimated from their settings; files that are to be fetched, by their servers.
"""

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from shest.core.disk import free_bytes, total_memory, used_bytes
from shest.core.errors import Findings, one_line
from shest.core.units import format_bytes, format_seconds
from shest.encode.spec import MORPHOMETRICS, EncoderSpec, from_hub, spec_of
from shest.encode.weights import cached_weights, find_weights, manual_hint
from shest.fetch import plan
from shest.io import detections
from shest.io.genes import describe
from shest.io.header import SampleHeader
from shest.io.image import AGAIN
from shest.io.sample_checks import check_sample
from shest.io.spot_arrays import PLATFORMS
from shest.labels import checks
from shest.labels.annotate import group_owners
from shest.labels.checks import ReferenceHeader
from shest.run import estimate, fetch_estimate, packages, run_inputs
from shest.run.estimate import EncoderCost, SampleSize
from shest.run.run_inputs import RunInputs
from shest.simulate.spec import pixels, reference_from_config, slide_from_config
from shest.tissue import agreement

NUCLEI_A_MM2 = 4000  # of a slide whose nuclei are yet to be found; tissue seldom covers all of it
SIMULATED_DETECTED = 0.15  # share of a simulated sample's counts that are above 0, about


@dataclass
class CheckedRun:
    """What the checks saw of a run.

    ``headers`` of the samples whose files are there; ``sizes`` of all samples, None where nothing says it; the
    ``reference``'s header, empty where it is not there yet; ``fetched``: what is to be fetched, see
    :func:`shest.fetch.plan.plan`; ``needs``: see :func:`shest.run.estimate.run_needs`, None where a size is unknown.
    """

    headers: dict[str, SampleHeader] = field(default_factory=dict)
    sizes: dict[str, SampleSize | None] = field(default_factory=dict)
    reference: ReferenceHeader = field(default_factory=ReferenceHeader)
    fetched: dict[str, dict] = field(default_factory=dict)
    needs: dict[str, Any] | None = None


def check_run(inputs: RunInputs, findings: Findings, say: Callable[[str], Any] = lambda line: None) -> CheckedRun:
    """Check every input file of a run, and note all problems and warnings.

    Parameters
    ----------
    say
        Called with a line on each thing that was looked at, as it comes.
    """
    config, run = inputs.config, CheckedRun()
    run.fetched = _check_fetched(inputs, findings, say)
    for name, row in inputs.samples.items():
        if is_present(inputs.files(name)):
            known = len(findings.problems)
            to_find = row["platform"] == "xenium" and row["aligned"] and not is_present([row["alignment"]])
            run.headers[name] = header = check_sample(row | ({"alignment": None} if to_find else {}), findings)
            run.sizes[name] = _size(row, header)
            say(_describe_header(name, row, header))
            if row["platform"] == "xenium" and not to_find and len(findings.problems) == known:
                check_alignment(name, row, config, findings, say)
        else:
            run.sizes[name] = _size_to_come(inputs, name, run.fetched)
            say(_describe_size(name, row["role"], run.sizes[name], _origin(inputs, row["path"])))
    if inputs.package:
        findings.attempt(inputs.model, packages.PACK_AGAIN, packages.open_package, inputs.model)
        types, genes = (len(inputs.package[key]) for key in ("classes", "genes"))
        say(f"package {inputs.package['system']}: {types} types, {genes:,} genes")
    if inputs.reference:
        run.reference = _check_reference(inputs, findings, say)
        genes = {name: header.genes for name, header in run.headers.items() if header.genes}
        least = config["reference"]["min_shared_genes"]
        for name, joined in checks.check_genes(inputs.reference, run.reference.genes, least, genes, findings).items():
            say(f"{name} and the reference: {describe(joined)}")
    if inputs.markers:
        _check_markers(inputs, findings, say)
    check_tables(inputs, run.headers, findings)
    for comparators in inputs.comparators.values():
        detections.check({k: v for k, v in comparators.items() if is_present([v["path"]])}, findings)
    costs = check_encoders(config["encoders"], findings)
    if None not in run.sizes.values():
        run.needs = estimate.run_needs(run.sizes, costs, config, run.reference.values)
        check_room(inputs.paths.results, run.needs, findings)
    return run


def check_alignment(
    name: str, row: Mapping[str, Any], config: Mapping[str, Any], findings: Findings, say: Callable[[str], Any]
) -> None:
    """Check whether the H&E of a bundle, whose files are sound, shows nuclei where the alignment puts them."""
    known = len(findings.problems)
    found = findings.attempt(row["he_image"], AGAIN, agreement.agree_bundle, row, config["resources"]["threads"])
    if len(findings.problems) > known:
        return
    agreement.note(found, row["alignment"], config["register"]["insist"], findings)
    if found is not None:
        share, null = found.match.share, found.match.null
        say(f"{name}: {share:.0%} of the nuclei lie where the H&E shows one, {null:.0%} would by chance")


def is_present(paths: Sequence[str]) -> bool:
    """Tell whether all of some files are there."""
    return all(Path(path).exists() for path in paths)


def _origin(inputs: RunInputs, path: str) -> str:
    """Say how a file that is not there comes to be there."""
    return "to be fetched" if path.startswith(f"{inputs.paths.made['{fetched}']}/") else "made by the run"


def _check_fetched(inputs: RunInputs, findings: Findings, say: Callable[[str], Any]) -> dict[str, dict]:
    """Ask the servers of what is to be fetched and not there yet; return what they say of each file."""
    folder = Path(inputs.paths.made["{fetched}"])
    planned = plan.plan(inputs.config["fetch"], folder, findings)
    if all(item["present"] for item in planned.values()):
        return planned
    plan.check_disk(planned, folder, findings)
    for line in plan.describe(planned, folder):
        say(line)
    return planned


def _size(row: Mapping[str, Any], header: SampleHeader) -> SampleSize:
    """Return the size of a sample as its header says."""
    cells = header.cells_with_nucleus or (len(header.cell_ids) if header.cell_ids is not None else 0)
    mpp = float(np.mean(header.mpp)) if header.mpp else 0.25
    if row["platform"] == "slide" and header.cell_ids is None and header.he_shape:
        cells = round(np.prod(header.he_shape, dtype=float) * mpp**2 / 1e6 * NUCLEI_A_MM2)
    return SampleSize(row["role"], cells, len(header.genes), header.values, header.he_shape or (0, 0), mpp)


def _size_to_come(inputs: RunInputs, name: str, planned: Mapping[str, dict]) -> SampleSize | None:
    """Return the size of a sample that is simulated or fetched first, or None where nothing says it."""
    row, simulate = inputs.samples[name], inputs.config.get("simulate", {})
    folder = Path(inputs.paths.results, simulate.get("folder", "simulated"))
    slide = Path(row["path"]).name
    if Path(row["path"]).parent == folder and slide in simulate.get("slides", {}):
        spec = slide_from_config(slide, simulate)
        side = int(pixels(spec) ** 0.5)
        values = int(spec.cells * spec.genes * SIMULATED_DETECTED)
        return SampleSize(row["role"], spec.cells, spec.genes, values, (side, side), spec.mpp)
    return fetch_estimate.size(planned, row, inputs.config["fetch"], Path(inputs.paths.made["{fetched}"]))


def _describe_header(name: str, row: Mapping[str, Any], header: SampleHeader) -> str:
    height, width = header.he_shape or (0, 0)
    version = ".".join(map(str, header.version)) if header.version else "(version unsaid)"
    what = f"Xenium {version}" if row["platform"] == "xenium" else "slide"
    if row["platform"] == "slide" and header.cell_ids is None:
        return f"{name} ({row['role']}, {what}): nuclei to be found, H&E {width:,} x {height:,} px"
    cells = 0 if header.cell_ids is None else len(header.cell_ids)
    if row["platform"] in PLATFORMS:
        found = f"{cells:,} spots with counts, {len(header.genes):,} genes, H&E {width:,} x {height:,} px"
        return f"{name} ({row['role']}, {row['platform']}): {found}"
    return (
        f"{name} ({row['role']}, {what}): {cells:,} cells, {header.nuclei or 0:,} nuclei, {len(header.genes):,} genes, "
        f"H&E {width:,} x {height:,} px"
    )


def _describe_size(name: str, role: str, size: SampleSize | None, origin: str) -> str:
    numbers = "size unknown" if size is None else f"{size.cells:,} cells, {size.genes:,} genes"
    return f"{name} ({role}, {origin}): {numbers}"


def _check_reference(inputs: RunInputs, findings: Findings, say: Callable[[str], Any]) -> ReferenceHeader:
    config = inputs.config
    if not is_present([inputs.reference]):
        origin = _origin(inputs, inputs.reference)
        if origin == "to be fetched":
            say(f"reference ({origin})")
            return ReferenceHeader()
        spec = reference_from_config(config["simulate"])
        say(f"reference ({origin}): {spec.cells:,} cells, {spec.genes:,} genes")
        return ReferenceHeader(values=int(spec.cells * spec.genes * SIMULATED_DETECTED))
    types = {name: entry["subtypes"] for name, entry in config["cell_types"].items()}
    prior = config["annotate"]["prior"]
    header = checks.check_reference(inputs.reference, config["reference"], types, prior, findings)
    numbers = header.summary()
    say(f"reference: {numbers['cells']:,} cells of {numbers['subtypes']} subtypes, {numbers['genes']:,} genes")
    return header


def _check_markers(inputs: RunInputs, findings: Findings, say: Callable[[str], Any]) -> None:
    """Check the databases of marker genes; those that are to be fetched are checked by the run."""
    files = [path for source in inputs.markers["databases"] for path in source["paths"]]
    if not is_present([*files, inputs.markers["categories"], inputs.markers["organs"]]):
        say("marker genes (to be fetched)")
        return
    seen = checks.check_markers(inputs.markers, inputs.config["cell_types"], findings)
    for name, numbers in seen.get("databases", {}).items():
        say(f"marker genes ({name}): {numbers['genes']:,} genes, {numbers['entries']:,} entries")
    unknown = seen.get("names_not_known", {})
    if unknown:
        first = ", ".join(f"{name} {n:,}" for name, n in list(unknown.items())[:5])
        say(f"marker genes: {len(unknown):,} names of cell types belong to no category, with their entries: {first}")


def check_tables(inputs: RunInputs, headers: Mapping[str, SampleHeader], findings: Findings) -> None:
    """Check the pathologists' tables that are there, and whether they give two types enough cells to train on."""
    owners, counts = group_owners(inputs.config["cell_types"]), {}
    for name, header in headers.items():
        path = inputs.samples[name]["annotation"]
        if path and is_present([path]):
            groups = checks.check_table(path, header.cell_ids, owners, findings)
            if groups is not None:
                counts[name] = groups
    trained = [name for name, row in inputs.samples.items() if row["role"] == "train" and row["platform"] == "xenium"]
    if trained and set(trained) <= set(counts):
        tables = {inputs.samples[name]["annotation"]: counts[name] for name in trained}
        checks.check_enough(tables, list(inputs.config["cell_types"]), inputs.config["train"]["min_cells"], findings)


def check_encoders(entries: Sequence[Mapping[str, Any]], findings: Findings) -> list[EncoderCost]:
    """Check that the weights of each encoder (entry of the config, completed) are there; nothing is fetched.

    Weights of the hub that its local cache lacks are a warning, or a problem where HF_HUB_OFFLINE forbids to fetch.
    """
    costs = []
    for entry in entries:
        weights = None
        if entry["name"] != MORPHOMETRICS:
            spec = spec_of(entry)
            if from_hub(entry):
                weights = cached_weights(spec.weights.removeprefix("hub:"))
                if weights is None:
                    _note_uncached(spec, findings)
            else:
                weights = findings.attempt(spec.weights, "Correct the path", find_weights, spec)
        costs.append(estimate.encoder_cost(entry, weights.stat().st_size if weights else 0))
    return costs


def _note_uncached(spec: EncoderSpec, findings: Findings) -> None:
    lacking = f"the weights of {spec.name} are not in the hub's local cache"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        findings.problem(spec.weights, f"{lacking}, and HF_HUB_OFFLINE is set", manual_hint(spec))
    else:
        remedy = f"They will be fetched (the licence may ask for HF_TOKEN). Offline: {manual_hint(spec)}"
        findings.warn(spec.weights, lacking, remedy)


def check_room(folder: str | Path, needs: Mapping[str, Any], findings: Findings) -> None:
    """Note a disk or a memory that is too small; what earlier runs wrote into the folder counts as done."""
    free, wanted = free_bytes(folder), sum(needs["disk"].values())
    if wanted > free and wanted - used_bytes(folder) > free:
        findings.problem(
            folder,
            f"the run will write about {format_bytes(wanted)}, and {format_bytes(free)} are free",
            "Free some, or set results to a larger disk",
        )
    peak = max(needs["memory"].values())
    if peak > total_memory():
        findings.warn(
            "memory",
            f"a stage may need {format_bytes(peak)}, and this machine has {format_bytes(total_memory())}",
            "Lower tiles.block_px or resources.threads",
        )


def describe_needs(needs: Mapping[str, Any] | None, results: str) -> list[str]:
    """Say in lines what a run will need."""
    if needs is None:
        return ["what the run will need can be said once the bundles are there"]
    stage, seconds = max(needs["memory"], key=needs["memory"].get), needs["seconds"]
    wanted, free = format_bytes(sum(needs["disk"].values())), format_bytes(free_bytes(results))
    lines = [
        f"disk: about {wanted} in {results}; free: {free}",
        f"memory: about {format_bytes(needs['memory'][stage])} ({stage}); this machine: {format_bytes(total_memory())}",
    ]
    for name, count in needs["passes"].items():
        lines.append(
            f"passes through {name}: {count['once']:,} and at most {count['further']:,} of further views "
            f"(encoding every draw of every epoch would take {count['authors']:,})"
        )
    lines.append(
        f"time: roughly {format_seconds(seconds['cpu'])} on {needs['threads']} CPU cores, "
        f"{format_seconds(seconds['gpu'])} with a GPU"
    )
    return lines


def read_config(path: Path, findings: Findings) -> dict:
    """Read a config file; empty where it cannot be read, which is noted."""
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        findings.problem(path, f"no config that can be read ({one_line(error)})", "Name a YAML file")
        return {}
    if not isinstance(config, dict):
        findings.problem(path, "no config: it has no keys", "Start from config/template.yaml")
        return {}
    return config


def main() -> None:
    """Print what the checks find in the config that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("config", type=Path, help="config file, as snakemake is given it")
    path = parser.parse_args().config
    warnings.simplefilter("ignore")  # of libraries: what they warn of is checked here, or no concern of a user
    logging.disable()
    findings = Findings()
    config = read_config(path, findings)
    inputs = run_inputs.load(config, path, findings) if config else None
    if inputs is not None:
        run = check_run(inputs, findings, lambda line: print(line, flush=True))
        for line in describe_needs(run.needs, inputs.paths.results):
            print(line)
    for warning in findings.warnings:
        print(f"WARNING {warning}")
    for problem in findings.problems:
        print(f"PROBLEM {problem}")
    print("no problem" if not findings.problems else f"problems: {len(findings.problems)}")
    sys.exit(bool(findings.problems))


if __name__ == "__main__":
    main()
