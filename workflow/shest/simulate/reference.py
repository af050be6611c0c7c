"""The simulated single-cell reference, laid out as the lung cancer atlas LuCA is."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from shest.core.files import atomic_write
from shest.simulate.counts import parameters
from shest.simulate.profiles import KIND_OF, OUTSIDE, SUBTYPES, full_profiles, with_fillers
from shest.simulate.spec import Reference, stream

SMART_SEQ = 0.08


def ensembl_ids(symbols: np.ndarray, all_symbols: np.ndarray) -> np.ndarray:
    """Return an Ensembl-like id for each symbol; made-up ones, alike in bundles and reference."""
    place = {s: i for i, s in enumerate(all_symbols)}
    return np.array([f"ENSGSIM{place[s]:07d}" if s in place else f"ENSGSIM9{s[3:]:0>6}" for s in symbols])


def make_reference(markers: pd.DataFrame, spec: Reference) -> ad.AnnData:
    """Return the reference: whole-number counts, labels in ``obs.cell_type_tumor``, symbols in ``var.feature_name``.

    Its platform sees each gene better or worse than the slides' by a log-normal factor (``spec.platform_factor``).
    Cells of the platform Smart-seq2 carry shuffled labels and deep counts: who forgets to leave them out sees it.
    """
    rng = stream(spec, "cells")
    within = {s: spec.types.get(k, 0.0) * w for k, sub in SUBTYPES.items() for s, w in sub.items()}
    left = 1 - sum(within.values())
    share = within | dict.fromkeys(OUTSIDE, left / len(OUTSIDE))
    names = list(share)
    least = min(8, spec.cells // (2 * len(names)))
    numbers = rng.multinomial(spec.cells - least * len(names), np.array(list(share.values()))) + least
    cells = pd.DataFrame({"subtype": rng.permutation(np.repeat(names, numbers))})
    cells["z_size"], cells["z_stain"] = rng.normal(size=(2, len(cells)))
    profiles = full_profiles(markers, spec.difficulty)
    on_panel = max((sum(p in t.split(";") for t in markers.panels) for p in ("prime",)), default=0)
    profiles = with_fillers(profiles, spec.genes - min(on_panel, spec.genes))
    sd = spec.platform_factor
    factors = np.exp(stream(spec, "platform").normal(0, sd, len(profiles.symbols)) - sd**2 / 2)
    profiles = profiles.seen_through(factors)
    zinb = parameters(cells, profiles, 0.5 * spec.difficulty, 0.0, stream(spec, "parameters"), platform=0.0)
    counts = zinb.draw(stream(spec, "counts"))
    smart = rng.random(len(cells)) < SMART_SEQ
    counts[smart] *= 40
    labels = cells.subtype.to_numpy().copy()
    labels[smart] = rng.permutation(labels[smart])
    return _as_luca(counts, labels, smart, profiles.symbols, markers.symbol.to_numpy(str), spec.normalised, rng)


def _as_luca(
    counts: np.ndarray,
    labels: np.ndarray,
    smart: np.ndarray,
    symbols: np.ndarray,
    table: np.ndarray,
    normalised: bool,
    rng: np.random.Generator,
) -> ad.AnnData:
    n = len(labels)
    obs = pd.DataFrame(
        {
            "cell_type_tumor": pd.Categorical(labels),
            "platform": pd.Categorical(np.where(smart, "Smart-seq2", rng.choice(["10x", "BD-Rhapsody"], n))),
            "disease": pd.Categorical(np.full(n, "lung adenocarcinoma")),
            "cell_type": pd.Categorical([KIND_OF[s] for s in labels]),
            "donor_id": pd.Categorical(rng.choice(["SIM_P1", "SIM_P2", "SIM_P3"], n)),
        },
        index=[f"SIM{i:06d}" for i in range(n)],
    )
    var = pd.DataFrame({"feature_name": symbols}, index=ensembl_ids(symbols, table))
    reference = ad.AnnData(sparse.csr_matrix(counts.astype(np.float32)), obs=obs, var=var)
    if normalised:
        reference.raw = reference.copy()
        total = np.asarray(reference.X.sum(axis=1)).clip(1)
        reference.X = sparse.csr_matrix(reference.X.multiply(1e4 / total)).log1p().astype(np.float32)
    return reference


def write_reference(path: str | Path, reference: ad.AnnData) -> None:
    """Write the reference, whole or not at all."""
    with atomic_write(path) as tmp_path:
        reference.write_h5ad(tmp_path, compression="gzip")
