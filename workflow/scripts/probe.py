"""Holds this machine's answers to a package's probe against those that belong to it."""

import numpy as np

from shest.core import console, files
from shest.core.errors import InputError
from shest.core.provenance import versions
from shest.encode import device, runner
from shest.run import packages
from shest.systems import base
from shest.systems.predicting import predict_block
from shest.tiles.patch import Cut


def answers(model, x):
    """Probabilities and expectations of the probe's cells, (n, d)."""
    keys = np.arange(len(x), dtype=np.uint64)
    found = predict_block(model, x, keys, sorted(model.classes), np.arange(len(model.genes)))
    return {"probabilities": found.get("probability"), "expression": found.get("expected")}


def main(input, output, params, threads):
    package = packages.open_package(params.package)
    known, _ = packages.read_probe(package)
    model = base.load(package.path(packages.MODEL), package.path(packages.RECORD))
    own = None
    if "field" in known:
        own = model.system.sweep([known["field"]], tuple(known["mpp"]), max(known["field"].shape), threads)[1]
    elif input.encoder:
        encoder = runner.load(files.read_json(input.encoder[0]), threads)
        own = runner.encode_cells(encoder, known["windows"], known["masks"], 0, lambda k: None)
    blank = np.empty((len(known.get("windows", [])), 0), np.float16)
    patches = Cut(known["patches"], package.facts["probe_sample"]) if "patches" in known else None
    here = answers(model, own if own is not None else patches or blank)
    same = here if own is None else answers(model, known["embeddings"].astype(np.float16))
    checks = packages.judge(known, own, here, same)
    for check in checks:
        console.log.info(f"{check['what']}: {check['difference']} of {check['tolerance']:g}")
    trained, now = package.info["versions"], versions()
    others = {name: [old, now.get(name)] for name, old in trained.items() if now.get(name) not in (None, old)}
    refusal = packages.refusal(checks)
    if refusal and not params.insist:
        files.write_json(f"{output.record}.refused.json", {"checks": checks, "other_versions": others})
        said = "".join(f"; {name} {a} there, {b} here" for name, (a, b) in others.items())
        raise InputError(
            params.package,
            f"{refusal}{said}",
            "Give the encoder that it was trained with, or say apply.insist: true and doubt what it predicts",
        )
    if refusal:
        console.log.warning(f"WARNING {refusal}")
    files.write_json(output.record, {"checks": checks, "other_versions": others, "insisted": refusal})


with console.session(snakemake.log[0]):
    device.check(snakemake.resources)
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.threads)
