"""What a package is applied to: a sheet and config, and the nuclei of a simulated bundle as those of a slide."""

import json

import numpy as np
import shapely
import yaml

from shest.io import store
from shest.tissue import cells

R = "results/tiny"
HEADER = "sample\trole\tplatform\tpath\tnuclei\tmpp\n"


def outlines_of_bundle(run, sample):
    """Nuclei of a bundle's cells on its H&E: cell ids and rings, px."""
    place = json.loads((run / R / "samples" / sample / "registration.json").read_text())
    ids, outlines = store.read_nuclei(run / R / "samples" / sample / "sdata.zarr")
    ids, polygons = cells.nucleus_of_each_cell(ids, store.transform_outlines(outlines, np.array(place["um_to_he"])))
    return ids, [shapely.get_coordinates(polygon.exterior) for polygon in polygons]


def config_for(folder, package, rows, **sections):
    """A config and sheet that apply a package to slides; rows: lines of the sheet."""
    name = f"apply{len(list(folder.glob('apply*.yaml')))}"
    (folder / f"{name}.tsv").write_text(HEADER + "".join(f"{row}\n" for row in rows))
    config = {"samples": f"{name}.tsv", "model": str(package), "resources": {"threads": 1}} | sections
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"results": f"results/{name}"} | config))
    return path
