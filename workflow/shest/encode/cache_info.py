"""What an embedding cache holds and what each run uses: ``python -m shest.encode.cache_info CACHE [RESULTS ...]``."""

import argparse
from pathlib import Path

import numpy as np

from shest.core.files import read_json


def contents(cache: Path) -> dict[str, dict]:
    """Sum up a cache by fingerprint: parts, embeddings, length of an embedding, bytes; whole parts only."""
    by_fingerprint: dict[str, dict] = {}
    for path in sorted(cache.glob("*/*.npy")):
        if path.name.endswith(".rows.npy") or path.name.startswith("."):
            continue
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        entry = by_fingerprint.setdefault(
            path.parent.name, {"parts": 0, "embeddings": 0, "dim": array.shape[1], "bytes": 0}
        )
        entry["parts"] += 1
        entry["embeddings"] += len(array)
        entry["bytes"] += path.stat().st_size
    return by_fingerprint


def used(results: Path) -> list[dict]:
    """List what a run uses: encoder, sample and cache files, by its indices of embeddings and of further views."""
    rows = []
    indices = [*results.glob("embeddings/*/*/embeddings.json"), *results.glob("models/*/*/*/views/*.json")]
    for path in sorted(indices):
        index = read_json(path)
        files = {part["file"] for shard in index["shards"] for part in shard["parts"]}
        rows.append(
            {
                "run": str(results),
                "encoder": index["encoder"],
                "sample": index["sample"],
                "fingerprint": index["fingerprint"][:32],
                "cache": index["cache"],
                "files": files,
            }
        )
    return rows


def report(cache: Path, runs: list[Path]) -> str:
    """Return the lines of both, as one text."""
    cached, uses = contents(cache), [row for run in runs for row in used(run)]
    names = {row["fingerprint"]: row["encoder"] for row in uses}
    lines = [f"{cache}: {len(cached)} encoders, {sum(e['bytes'] for e in cached.values()) / 1e6:,.1f} MB"]
    for fingerprint, entry in cached.items():
        needed = set().union(*(row["files"] for row in uses if row["fingerprint"] == fingerprint))
        name = names.get(fingerprint, "(no run here uses it)")
        lines.append(
            f"  {fingerprint[:12]} {name}: {entry['embeddings']:,} embeddings of {entry['dim']} in {entry['parts']} "
            f"parts, {entry['bytes'] / 1e6:,.1f} MB; {len(needed)} parts in use"
        )
    for row in uses:
        by = f"{row['encoder']} ({row['fingerprint'][:12]})"
        lines.append(f"  {row['run']}: {row['sample']} by {by}, {len(row['files'])} parts")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path)
    parser.add_argument("results", type=Path, nargs="*")
    given = parser.parse_args()
    print(report(given.cache, given.results))


if __name__ == "__main__":
    main()
