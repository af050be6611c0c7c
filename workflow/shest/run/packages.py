"""A package: a trained system as one folder that works on another machine, and the probe that shows that it does.

``model.safetensors`` and ``model.json`` are those of the deployed model, the second with what else a prediction needs
(section ``package``); ``probe.safetensors`` holds some training tiles with the outputs that belong to them, and where
the training cells lie (:class:`shest.score.domain.Domain`); ``checksums.txt`` is what ``sha256sum -c`` reads.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from shest.core import files
from shest.core.errors import Findings, InputError, one_line
from shest.io.tensors import write_tensors

FORMAT = 1
MODEL, RECORD, CARD, PROBE, CHECKSUMS = (
    "model.safetensors",
    "model.json",
    "card.md",
    "probe.safetensors",
    "checksums.txt",
)
SEGMENTER, ENCODER = "segmenter.safetensors", "encoder.safetensors"
NEEDED = (MODEL, RECORD, CARD, PROBE)
PACK_AGAIN = "Copy the package again, or make it again where it was trained (make package)"
DOMAIN = "domain."
SETTLED = ("systems", "protocols", "cell_types", "cells")

TOLERANCE = {"embeddings": 0.02, "probabilities": 0.02, "expression": 0.02}
"""What the probe allows. ``embeddings``: largest relative distance of a tile's embedding; ``probabilities``: largest
difference; ``expression``: largest distance relative to the length of a tile's profile."""


@dataclass(frozen=True)
class Package:
    """A package whose files are what its checksums say.

    Attributes
    ----------
    folder
        Where it lies.
    info
        Content of ``model.json``.
    """

    folder: Path
    info: Mapping[str, Any]

    @property
    def system(self) -> str:
        """Name of its system."""
        return self.info["system"]

    @property
    def facts(self) -> Mapping[str, Any]:
        """Section ``package``: encoder, window_um, cells, cell_types, segment."""
        return self.info["package"]

    def path(self, name: str) -> Path:
        """Path of one of its files."""
        return self.folder / name

    def has(self, name: str) -> bool:
        """Tell whether it holds a file."""
        return self.path(name).is_file()


def read_record(folder: str | Path) -> dict[str, Any]:
    """Read what a package says of itself, without looking at its other files.

    Raises
    ------
    InputError
        The folder is no package, or one of another version.
    """
    record = Path(folder) / RECORD
    if not record.is_file():
        raise InputError(folder, f"no package: {RECORD} is not there", "Set model to a folder that make package wrote")
    try:
        info = files.read_json(record)
    except ValueError as error:
        raise InputError(record, f"cannot be read ({one_line(error)})", PACK_AGAIN) from None
    found = info.get("package") if isinstance(info, dict) else None
    if not isinstance(found, dict):
        raise InputError(folder, "a model, but no package", "Set model to a folder that make package wrote")
    if found.get("format") != FORMAT:
        raise InputError(
            folder, f"package format {found.get('format')}, not {FORMAT}", "Make it again with this version"
        )
    return info


def open_package(folder: str | Path) -> Package:
    """Open a package.

    Raises
    ------
    InputError
        As :func:`read_record`; a file is missing, or is not what its checksum says.
    """
    folder, info = Path(folder), read_record(folder)
    for name in (*NEEDED, CHECKSUMS):
        if not (folder / name).is_file():
            raise InputError(folder / name, "this file of the package is not there", PACK_AGAIN)
    for line in (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        path = folder / Path(name).name
        if not path.is_file():
            raise InputError(path, "this file of the package is not there", PACK_AGAIN)
        if files.sha256(path) != digest:
            raise InputError(path, f"is not the file that {CHECKSUMS} names: changed, or not copied whole", PACK_AGAIN)
    return Package(folder, info)


def write(
    folder: str | Path, parts: Mapping[str, str | Path], info: Mapping[str, Any], probe: Mapping[str, Any]
) -> None:
    """Write a package aside and put it in place when it is whole.

    Parameters
    ----------
    parts
        Files that are copied as they are, by their names in it.
    info
        Content of ``model.json``.
    probe
        Arrays of ``probe.safetensors``.
    """
    with files.atomic_write(folder) as tmp_path:
        tmp_path.mkdir(parents=True)
        for name, path in parts.items():
            shutil.copyfile(path, tmp_path / name)
        files.write_json(tmp_path / RECORD, dict(info))
        write_tensors(tmp_path / PROBE, probe)
        names = sorted(path.name for path in tmp_path.iterdir())
        lines = [f"{files.sha256(tmp_path / name)}  {name}\n" for name in names]
        (tmp_path / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def read_probe(package: Package) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Read the probe's arrays, and those of the domain of the training cells."""
    try:
        arrays = load_file(package.path(PROBE))
    except (SafetensorError, OSError) as error:
        raise InputError(package.path(PROBE), f"cannot be read ({one_line(error)})", PACK_AGAIN) from None
    domain = {name.removeprefix(DOMAIN): value for name, value in arrays.items() if name.startswith(DOMAIN)}
    return {name: value for name, value in arrays.items() if not name.startswith(DOMAIN)}, domain


def relative(found: np.ndarray, known: np.ndarray) -> float:
    """Return the largest distance of a row to the known one, relative to the known one's length; inf where NaN."""
    found, known = np.asarray(found, np.float64), np.asarray(known, np.float64)
    if found.shape != known.shape:
        return float("inf")
    length = np.maximum(np.linalg.norm(known, axis=1), 1e-9)
    gap = np.linalg.norm(found - known, axis=1) / length
    return float(gap.max()) if len(gap) and np.isfinite(gap).all() else float("inf") if len(gap) else 0.0


def largest(found: np.ndarray, known: np.ndarray) -> float:
    """Return the largest difference of two arrays; inf where shapes differ or NaN."""
    if found.shape != known.shape:
        return float("inf")
    gap = np.abs(np.asarray(found, np.float64) - known)
    return float(gap.max()) if gap.size and np.isfinite(gap).all() else float("inf") if gap.size else 0.0


def judge(
    known: Mapping[str, np.ndarray], embeddings: np.ndarray | None, on_own: Mapping[str, np.ndarray], on_known: Mapping
) -> list[dict[str, Any]]:
    """Hold a machine's answers to the probe against those that belong to it.

    Parameters
    ----------
    known
        Arrays of the probe.
    embeddings
        Of its tiles, made here; None for a system that reads none.
    on_own, on_known
        ``probabilities`` and ``expression`` of the model here, on the embeddings made here, and on the probe's.

    Returns
    -------
    list of dict
        ``what``, ``difference``, ``tolerance``, ``passed`` and ``why``: what a failure points to.
    """
    checks: list[tuple[str, float, float, str]] = []
    if embeddings is not None:
        why = "another encoder, its weights or normalisation are others, or device or library compute otherwise"
        checks.append(("embeddings", relative(embeddings, known["embeddings"]), TOLERANCE["embeddings"], why))
    for label, answers, why in (
        ("on the probe's own embeddings", on_known, "the model's weights or their code are others"),
        ("from the tiles on", on_own, "the encoder's difference changes the answers"),
    ):
        for name, measure in (("probabilities", largest), ("expression", relative)):
            if name in known:
                checks.append((f"{name} {label}", measure(answers[name], known[name]), TOLERANCE[name], why))
    return [
        {
            "what": what,
            "difference": gap if np.isfinite(gap) else None,
            "tolerance": limit,
            "passed": gap <= limit,
            "why": why,
        }
        for what, gap, limit, why in checks
    ]


def refusal(checks: Sequence[Mapping[str, Any]]) -> str | None:
    """Say the first check of the probe that failed, and by how much; None if all passed."""
    failed = next((check for check in checks if not check["passed"]), None)
    if failed is None:
        return None
    gap = (
        "another shape or no number" if failed["difference"] is None else f"a difference of {failed['difference']:.3g}"
    )
    return f"the probe fails: {failed['what']}: {gap}, {failed['tolerance']:g} is allowed ({failed['why']})"


def configure(
    config: Mapping[str, Any], folder: Path, info: Mapping[str, Any], where: str, findings: Findings
) -> dict[str, Any]:
    """Return a parsed config with what the package settles: types, encoder, system, protocol, window and cell filter.

    An entry of ``encoders`` with the name of the package's encoder says where its weights lie on this machine.

    Parameters
    ----------
    config
        As it was parsed, without defaults.
    info
        Content of the package's ``model.json``.
    where
        The config's file, for the messages.
    """
    facts, filled = info["package"], dict(config)
    for key in SETTLED:
        if key in config:
            findings.problem(where, f"{key} is settled by the package that model names", f"Leave {key} out")
    own = [entry for entry in config.get("encoders") or [] if isinstance(entry, dict)]
    if facts["encoder"]:
        filled["encoders"] = [_encoder(facts["encoder"], folder, own)]
    else:
        filled.pop("encoders", None)
    system = {"kind": info["kind"], "settings": info["settings"]}
    if facts["encoder"]:
        system["encoder"] = facts["encoder"]["name"]
    filled["systems"] = {info["system"]: system}
    filled["protocols"] = [info["protocol"]]
    filled["cell_types"] = facts["cell_types"]
    filled["cells"] = facts["cells"]
    tiles = config.get("tiles")
    filled["tiles"] = (dict(tiles) if isinstance(tiles, dict) else {}) | {"window_um": facts["window_um"]}
    return filled


def _encoder(record: Mapping[str, Any], folder: Path, own: Sequence[Mapping[str, Any]]) -> str | dict[str, Any]:
    """Return the config's entry of the package's encoder."""
    if "entry" not in record:
        return record["name"]
    entry = dict(record["entry"])
    if (folder / ENCODER).is_file():
        entry["weights"] = str((folder / ENCODER).resolve())
    given = [other for other in own if other.get("name") == record["name"]]
    return entry | {key: value for other in given for key, value in other.items() if key in ("weights", "revision")}
