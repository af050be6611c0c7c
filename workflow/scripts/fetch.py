"""Fetches a file, or the files of a bundle that the workflow reads; what lies there already is checked and taken."""

from pathlib import Path

from shest.core import console
from shest.fetch import sources


def main(output, params, settings):
    files, bundles = sources.sources(settings)
    folder, policy = Path(params.folder), sources.policy_of(settings)
    if "files" in output.keys():  # noqa: SIM118 (Snakemake's named list is no dictionary)
        target = folder / params.name
        sources.fetch_bundle(bundles[params.name], folder, target, settings["archives"], policy)
    else:
        sources.fetch_file(sources.targets(files, bundles)[params.name], folder, Path(output.file), policy)


with console.session(snakemake.log[0]):
    main(snakemake.output, snakemake.params, snakemake.config["fetch"])
