"""Predictions for other programs: QuPath, Xenium Explorer."""
