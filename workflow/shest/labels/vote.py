"""Which category of cells a list of genes speaks for: a vote over the names that databases of marker genes give them.

The rules of arXiv 2604.23481: the top N genes of a cluster vote with the weights N - l, so that the last one counts
nothing; first by the entries of the organ, then, where that decides nothing, by all; the winner needs a least score.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

UNKNOWN = "Unknown"
NEOPLASTIC = "Neoplastic"
"""Category of names of cancer cells: their genes do not vote, they are what an epithelial cluster is refined by."""

LEAST_SHARE = 0.02
"""Least share of a category in a panel that votes are divided by: a handful of genes shall not outvote all others."""

ANY = "."
"""Pattern of the row that says what every organ has."""

Rules = Sequence[tuple[re.Pattern, str]]


@dataclass(frozen=True)
class Decision:
    """What a vote decided: the category, its score and those of all by the last table asked, and why."""

    category: str
    score: float
    votes: dict[str, float]
    reason: str


def categorise(names: Collection[str], rules: Rules) -> pd.Series:
    """Return the category of each name, the first rule's that matches; missing where none does."""
    found = {n: next((category for pattern, category in rules if pattern.search(n)), None) for n in names}
    return pd.Series(found, dtype=object)


def with_categories(entries: pd.DataFrame, rules: Rules) -> pd.DataFrame:
    """Add the column category to a database's entries; what the config names (database ``config``) is its own.

    A gene that the config gives to its types speaks for these alone: other entries of it are dropped, but for those of
    cancer cells.
    """
    named = categorise(entries["cell_type"].unique(), rules)
    own = entries["database"] == "config"
    category = entries["cell_type"].map(named).where(~own, entries["cell_type"])
    taken = entries["gene"].isin(entries.loc[own, "gene"]) & ~own & (category != NEOPLASTIC)
    return entries.assign(category=category)[~taken].reset_index(drop=True)


def unmapped(entries: pd.DataFrame) -> dict[str, int]:
    """Return the names that no rule knows with the number of their entries, most first."""
    counts = entries.loc[entries["category"].isna(), "cell_type"].value_counts(sort=True)
    return {str(name): int(n) for name, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))}


def of_organ(entries: pd.DataFrame, organ: str | None, rules: Rules) -> pd.DataFrame:
    """Return the entries of an organ and those that name none; no row where no rule or entry knows the organ.

    Parameters
    ----------
    organ : the sheet's word for it, or None
    rules : pattern of the sheet's word, and of the databases' words for it and for what every organ has
    """
    if not organ:
        return entries.iloc[:0]
    words = [re.escape(organ), *(said for pattern, said in rules if pattern.search(organ) and pattern.pattern != ANY)]
    common = [said for pattern, said in rules if pattern.pattern == ANY]
    own, every = (entries["organ"].str.contains("|".join(w), case=False, regex=True) for w in (words, words + common))
    return entries[every | (entries["organ"] == "")] if own.any() else entries.iloc[:0]


def gene_votes(entries: pd.DataFrame, kind: str, panel: Collection[str]) -> pd.DataFrame:
    """Return v_c(g), what each gene says (genes × categories): its entries by category, of cells that are no cancer's.

    Parameters
    ----------
    entries : gene, cell_type, category; a name that no rule knows counts as Unknown
    kind : ``counts``; ``scaled``: a gene's entries sum to 1, so that a gene that is often listed says no more than
        another; ``panel``: before that, each category is divided by its share of what all genes of the panel say, so
        that a panel that is rich in genes of immune cells does not make every cluster one
    panel : the genes that were measured
    """
    voting = entries.assign(category=entries["category"].fillna(UNKNOWN))
    voting = voting[(voting["category"] != NEOPLASTIC) & voting["gene"].isin({gene.upper() for gene in panel})]
    votes = pd.crosstab(voting["gene"], voting["category"]).astype(float)
    if kind == "counts":
        return votes
    votes = votes.div(votes.sum(axis=1), axis=0)
    if kind == "panel":
        votes = votes.div(votes.mean().clip(lower=LEAST_SHARE), axis=1)
        votes = votes.div(votes.sum(axis=1), axis=0)
    return votes


def scores(genes: Sequence[str], votes: pd.DataFrame, top: int) -> pd.Series:
    """Return s_c, the weighted sum of v_c over the first ``top`` genes (best first): weights top - 1, top - 2, … 0."""
    ranked = [gene.upper() for gene in genes[:top]]
    weights = top - 1.0 - np.arange(len(ranked))
    return votes.reindex(ranked).fillna(0).mul(weights, axis=0).sum()


def decide(genes: Sequence[str], tables: dict[str, pd.DataFrame], top: int, least: float) -> Decision:
    """Vote by one table after the other until one decides.

    Parameters
    ----------
    genes : best first
    tables : votes of genes (:func:`gene_votes`) by what they are of (organ, all organs), in the order of asking
    top : genes that vote
    least : score that the winner needs
    """
    decision = Decision(UNKNOWN, 0.0, {}, "no marker gene among its genes")
    for name, votes in tables.items():
        by_category = scores(genes, votes, top)
        if by_category.empty or not by_category.max() > 0:
            continue
        winner, best = str(by_category.idxmax()), float(by_category.max())
        listed = {str(k): round(float(v), 3) for k, v in by_category.items() if v > 0}
        if winner != UNKNOWN and best >= least:
            return Decision(winner, best, listed, name)
        why = "most votes are for names of no category" if winner == UNKNOWN else f"no category has {least:g} votes"
        decision = Decision(UNKNOWN, best, listed, why)
    return decision


@dataclass(frozen=True)
class CancerEvidence:
    """How many of a cluster's top genes are cancer genes, beside what the panel alone gives.

    share: of the top genes; panel: of the panel's genes; chance: probability that as many genes drawn from the panel
    pass the published test; p: that they hold at least as many cancer genes (hypergeometric).
    """

    share: float
    panel: float
    chance: float
    p: float


def cancer_evidence(
    genes: Sequence[str], cancer: Collection[str], panel: Collection[str], ratio: float
) -> CancerEvidence:
    """Compare the cancer genes among ``genes`` with those of the panel that they were chosen from."""
    known = {g.upper() for g in panel} & set(cancer)
    hits, drawn, total = sum(g.upper() in known for g in genes), len(genes), len(set(panel))
    passing = int(np.floor(ratio * drawn + 1e-9))  # the published test asks for more than the ratio
    chances = stats.hypergeom.sf([passing, hits - 1], total, len(known), drawn) if drawn else (0.0, 1.0)
    return CancerEvidence(hits / max(drawn, 1), len(known) / max(total, 1), float(chances[0]), float(chances[1]))


def is_neoplastic(evidence: CancerEvidence, rule: str, ratio: float, p: float) -> bool:
    """Tell whether a cluster is neoplastic: by ``ratio`` (as published), ``enrichment`` or ``none``."""
    return {"ratio": evidence.share > ratio + 1e-9, "enrichment": evidence.p < p, "none": False}[rule]
