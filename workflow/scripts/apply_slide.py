"""Predicts a plain slide with a package, start to end; its record says that it is done, or why it could not be."""

import time
from pathlib import Path

import anndata as ad

from shest.core import console, files
from shest.core.errors import InputError
from shest.draw import style
from shest.draw.slide_map import slide_map
from shest.encode import device, runner
from shest.io.outlines import read_outlines
from shest.run import one_slide, packages
from shest.score.domain import Domain
from shest.systems import base
from shest.view import export


def finish(sample, palette):
    """What writes the files for other programs, and the map of a slide."""

    def write(kept, places, regions):
        table = ad.read_h5ad(places.predictions, backed="r").obs
        _, points, start = read_outlines(places.outlines, table.index)
        export.write_qupath(places.qupath, export.features(sample, table, points, start, palette))
        export.write_explorer(places.explorer, table)
        drawn = slide_map(
            regions.image, regions.factor, kept[["x", "y"]].to_numpy(), table["cell_type"].astype(object), palette
        )
        with files.atomic_write(places.picture) as tmp_path:
            drawn.save(tmp_path)

    return write


def main(input, output, params, wildcards, threads):
    start = time.perf_counter()
    package = packages.open_package(params.package)
    model = base.load(package.path(packages.MODEL), package.path(packages.RECORD))
    domain = Domain.restore(packages.read_probe(package)[1])
    record = files.read_json(input.encoder[0]) if input.encoder else None
    palette = style.colours(package.facts["cell_types"], params.palette)
    settings = {
        "segment": params.segment,
        "block_px": params.block_px,
        "genes": params.genes,
        "fingerprint": record["fingerprint"] if record else "",
        "model_sha256": [files.sha256(package.path(packages.MODEL))],
    }
    load = (lambda: runner.load(record, threads)) if record else None
    places = one_slide.Places(**{name: path and Path(path) for name, path in params.places.items()})
    try:
        found = one_slide.apply(
            wildcards.sample,
            params.row,
            package,
            model,
            domain,
            load,
            settings,
            places,
            threads,
            finish(wildcards.sample, palette),
        )
        state = {"state": "done", "reason": None, **found}
        for doubt in found["doubts"]:
            console.log.warning(f"WARNING {wildcards.sample}: {doubt}")
    except InputError as error:
        console.log.error(f"{error}; the other slides go on")
        state = {"state": "failed", "reason": str(error)}
    files.write_json(output.state, state | {"total_seconds": time.perf_counter() - start})


with console.session(snakemake.log[0]):
    device.check(snakemake.resources)
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards, snakemake.threads)
