"""The config's ``systems``: filled in, and checked against what each kind of system takes."""

from typing import Any

from jsonschema import Draft202012Validator

from shest.core.errors import Findings, did_you_mean
from shest.systems import base


def fill(config: dict[str, Any], unit: str = "cells") -> dict[str, dict[str, Any]]:
    """Return the systems by name, each with kind, unit, encoder (None where it reads none) and all of its settings.

    Without any in the config: ``shest`` on the first encoder, ``linear`` on the same, and ``mean``, those of them that
    predict for ``unit``, which is that of a system that names none.
    """
    known = [name for name in ("shest", "linear", "mean") if unit in base.spec_of(name).units]
    entries = config["systems"] or {name: {"kind": name} for name in known}
    first = config["encoders"][0]["name"]
    filled = {}
    for name, entry in entries.items():
        settings = base.settings_of(entry, config["train"])
        reads = base.spec_of(entry["kind"]).reading(settings)
        filled[name] = {
            "kind": entry["kind"],
            "unit": entry.get("unit", unit),
            "encoder": entry.get("encoder", first) if reads == "embeddings" else None,
            "settings": settings,
        }
    return filled


def check_units(config: dict[str, Any], samples: dict[str, dict], findings: Findings) -> None:
    """Note filled-in systems whose unit their kind does not predict for, or no training sample has.

    So with one whose colours shall be those of a sample that is none to train on.
    """
    names = [name for name, row in samples.items() if row["role"] == "train"]
    trained = [samples[name]["platform"] for name in names]
    there = {"cells": "xenium" in trained, "spots": any(p != "xenium" for p in trained)}
    there["spots"] |= there["cells"] and config["spots"].get("diameter_um") is not None
    for name, entry in config["systems"].items():
        target = entry["settings"].get("stain_target")
        if target is not None and target not in names:
            place = f"systems.{name}.settings.stain_target"
            findings.problem(place, f"{target} is no training sample", did_you_mean(target, names))
        unit, units, key = entry["unit"], base.spec_of(entry["kind"]).units, f"systems.{name}.unit"
        if unit not in units:
            findings.problem(key, f"{entry['kind']} does not predict for {unit}", f"It does for {', '.join(units)}")
        elif not there[unit]:
            remedy = "Give a Xenium bundle the role train"
            if unit == "spots":
                remedy = "Give a sample in spots the role train, or lay spots over cells (spots.diameter_um, pitch_um)"
            findings.problem(key, f"no training sample has {unit}", remedy)


def check(config: dict[str, Any], where: str, findings: Findings) -> None:
    """Note systems of no known kind, on no known encoder, or with settings that their kind does not take."""
    train = _train_schema()
    encoders = [encoder["name"] for encoder in config["encoders"]]
    for name, entry in config["systems"].items():
        key = f"systems.{name}"
        spec = base.kinds().get(entry["kind"])
        if spec is None:
            findings.problem(
                where, f"{key}.kind: no kind of system {entry['kind']}", did_you_mean(entry["kind"], base.kinds())
            )
            continue
        encoder = entry.get("encoder")
        if encoder is not None and encoder not in encoders:
            findings.problem(where, f"{key}.encoder: {encoder} is not among encoders", did_you_mean(encoder, encoders))
        known = {key: train[key] for key in spec.train_keys} | dict(spec.settings)
        for setting, value in entry.get("settings", {}).items():
            if setting not in known:
                findings.problem(where, f"{key}.settings: unknown key {setting}", did_you_mean(setting, known))
                continue
            for error in Draft202012Validator(known[setting]).iter_errors(value):
                findings.problem(
                    where,
                    f"{key}.settings.{setting}: {error.message}",
                    known[setting].get("description", "Correct the value"),
                )


def _train_schema() -> dict[str, Any]:
    from shest.run.config import load_schema

    return load_schema("config")["properties"]["train"]["properties"]
