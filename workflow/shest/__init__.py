"""SHEST: from H&E slides and Xenium bundles to each cell's type and expression."""

__version__ = "0.2.0"
