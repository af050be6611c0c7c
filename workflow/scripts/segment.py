"""Writes the outlines of a sample's nuclei, wherever they come from; segment.json says how, segment.png shows them."""

from pathlib import Path

from shest.core import console, files
from shest.core.errors import InputError
from shest.draw.segmentation import draw_segmentation
from shest.io import store
from shest.io.outlines import number_ids, read_polygons, write_outlines
from shest.io.registration import Registration
from shest.score import segmentation
from shest.tissue import cells
from shest.tissue.segment import classical, regions, ties, torchscript
from shest.tissue.segment.by_block import Kept

AGREEMENT = "agreement_with_dapi_nuclei"


def given_nuclei(path, registration):
    """Nuclei of the store, one a cell: cell ids and polygons in H&E px."""
    cell_ids, outlines = store.read_nuclei(path)
    return cells.nucleus_of_each_cell(cell_ids, store.transform_outlines(outlines, registration.um_to_he))


def read_found(paths, scales, mpp):
    """What :func:`find` returns, of nuclei that were found for the alignment; paths of their outlines and facts."""
    nuclei, facts = paths
    return read_polygons(nuclei)[1], regions.find_regions(scales, mpp), files.read_json(facts)["segment"]


def find(scales, mpp, settings, block_px, threads, keep):
    """Nuclei by the chosen method: polygons, regions and what is said of them."""
    if settings["method"] == "torchscript":
        network = torchscript.load(settings)
        polygons, where = torchscript.segment(network, scales, mpp, block_px, threads, keep)
        return polygons, where, network.facts()
    if settings["method"] == "trained":
        return find_by_system(scales, mpp, settings["weights"], block_px, threads)
    found = classical.segment(scales, mpp, block_px, threads, settings["stain"], keep=keep)
    return found.polygons, found.regions, found.facts()


def find_by_system(scales, mpp, weights, block_px, threads):
    """Nuclei by a system that was trained to find them."""
    from shest.systems import base

    trained = base.load(weights)
    kind = trained.info["kind"]
    if not base.spec_of(kind).outlines:
        raise InputError(weights, f"a system of kind {kind}, which finds no nuclei", "Name one of kind nuclei")
    polygons, where = trained.system.segment(scales, mpp, block_px, threads)
    said = {key: trained.info.get(key) for key in ("system", "kind", "samples", "protocol", "fold")}
    return polygons, where, said | {"weights": files.sha256(weights)}


def tied(polygons, cell_ids, nuclei, mpp):
    """Found nuclei under the names of the bundle's cells, and how many cells have one and why not."""
    partner, how = ties.tie(nuclei, polygons, mpp)
    has = partner >= 0
    said = ties.counts(how) | {"nuclei_without_cell": len(polygons) - int(has.sum())}
    return cell_ids[has], polygons[partner[has]], said


def main(input, output, params, threads, wildcards):
    settings = params.segment
    registration = Registration.read(input.registration)
    scales, mpp = store.image_scales(input.store), registration.mpp
    facts, where = {"method": settings["method"]}, None
    keep = Kept(Path(output.outlines).with_name("segment.blocks"), params.code)  # no output: it outlives a killed job
    ids, polygons = given_nuclei(input.store, registration)
    if settings["method"] not in ("bundle", "file"):
        cell_ids, nuclei = ids, polygons
        if input.found:
            polygons, where, said = read_found(input.found, scales, mpp)
        else:
            polygons, where, said = find(scales, mpp, settings, params.block_px, threads, keep)
        facts |= said | {"found": len(polygons), "area_mm2": where.areas()}
        if len(nuclei):
            facts[AGREEMENT] = segmentation.score(nuclei, polygons, mpp, segmentation.hull(nuclei))
            ids, polygons, facts["cells"] = tied(polygons, cell_ids, nuclei, mpp)
        else:
            ids = number_ids(len(polygons))
    facts["nuclei"] = len(polygons)
    console.log.info(f"{len(polygons):,} nuclei ({settings['method']})")
    if where is not None and not len(polygons):
        console.log.warning(f"WARNING no nucleus was found: look at {output.picture}")
    if where is None:
        overview, factor = store.overview(input.store)
        kinds = None
    else:
        overview, factor, kinds = where.image, where.factor, where.kinds
    title = f"{wildcards.sample} ({settings['method']})"
    draw_segmentation(scales[0], overview, factor, polygons, mpp, title, output.picture, kinds, regions.REASONS)
    write_outlines(output.outlines, ids, polygons)
    files.write_json(output.facts, facts)
    files.remove(keep.folder)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.threads, snakemake.wildcards)
