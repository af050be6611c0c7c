"""Nuclei of an H&E image, by block: without weights (``classical``) or by a network in a file (``torchscript``)."""
