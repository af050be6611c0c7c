"""Quantities written for a person."""


def format_bytes(number: float) -> str:
    """Write a number of bytes: 1.5 GB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number / 1e3:.0f} kB"


def format_seconds(number: float | None) -> str:
    """Write a rough time, in the largest unit that it holds twice: 3 h, 20 min."""
    if number is None:
        return "unknown (no estimate for this architecture)"
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if number >= 2 * size:
            return f"{number / size:.0f} {unit}"
    return f"{number:.0f} s"
