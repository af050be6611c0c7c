"""Checks the alignment of a bundle's H&E: whether nuclei that the H&E shows lie where it puts those of the bundle."""

from pathlib import Path

from shest.core import check_record, console
from shest.core.errors import Findings
from shest.draw.overlay import draw_windows
from shest.io.image import read_he
from shest.tissue import agreement


def main(output, params, threads):
    row, findings, see = params.row, Findings(), ""
    found = agreement.agree_bundle(row, threads)
    if found is not None:
        match = found.match
        console.log.info(f"{match.share:.0%} of the nuclei have a partner, {match.null:.0%} by chance")
    if found is not None and found.doubt:
        picture = Path(output.record).with_suffix(".refused.png")  # no output: it stays where the rule fails
        draw_windows(read_he(row["he_image"]), found.blocks, found.given, found.seen, picture)
        see = f"; see {picture}"
    agreement.note(found, row["alignment"], params.insist, findings, see)
    check_record.write(output.record, {} if found is None else found.summary(), findings)


with console.session(snakemake.log[0]):
    main(snakemake.output, snakemake.params, snakemake.threads)
