"""Names of the files of a Xenium bundle. Without imports: every job asks for them."""

SPECS, CELLS, NUCLEI = "experiment.xenium", "cells.parquet", "nucleus_boundaries.parquet"
MATRIX, ZARR = "cell_feature_matrix.h5", "cells.zarr.zip"
BUNDLE_FILES = (SPECS, CELLS, ZARR, MATRIX, NUCLEI)
"""Files of a bundle that are read, the one that tells a bundle first."""
HE_IMAGE, ALIGNMENT = "he_image.ome.tif", "he_imagealignment.csv"
"""What the names of the H&E image and of its alignment end in."""
