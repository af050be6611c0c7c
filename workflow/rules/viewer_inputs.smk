"""What the pages of cells and spots read."""

VIEWER = [results("viewer/index.html")] if config["viewer"]["enabled"] else []
# Slides that a package is applied to: one job predicts them, and what it writes is no other job's input.
STREAMED = on_platform("slide") if MODEL else []


def units_of(sample):
    """Units that a sample has, each of which gets a page: cells first."""
    return [unit for unit in OF_UNIT if sample in OF_UNIT[unit]]


def viewed(unit, sample):
    """Systems that are shown on some units of a sample."""
    return [system for system in systems_on(unit, PROTOCOL_SHOWN, sample) if system in VIEWED]


def embeddings_viewed(unit, sample):
    """Embeddings of the first shown system that reads any of the unit itself: what neighbours are looked for in."""
    own = [s for s in viewed(unit, sample) if s in BY_UNIT[unit] and reads(s) == "embeddings"]
    return source_files(own[0], sample) if own else []


def units_viewed(wildcards):
    """What the pages of a sample read of each of its units."""
    sample, files = wildcards.sample, {}
    for unit in units_of(sample):
        counted = unit == "spots" or SAMPLES[sample]["platform"] == "xenium"
        paths = [f"predictions/{system}/{PROTOCOL_SHOWN}/{sample}.{unit}.h5ad" for system in viewed(unit, sample)]
        files[unit] = results(f"samples/{sample}/{UNIT_TABLES[unit]}")
        files[f"{unit}_predictions"] = list(map(results, paths))
        files[f"{unit}_embeddings"] = embeddings_viewed(unit, sample)
        files[f"{unit}_counts"] = [store_of(unit, sample)] if counted else []
    return files


def outlines_viewed(wildcards):
    """The outlines of a sample's nuclei, where it has cells."""
    return [results("samples/{sample}/outlines.parquet")] if wildcards.sample in CELL_SAMPLES else []
