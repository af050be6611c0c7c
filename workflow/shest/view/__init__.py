"""Predictions to look at: files for QuPath and Xenium Explorer, pages for a browser."""
