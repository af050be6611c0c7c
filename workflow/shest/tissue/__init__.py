"""What is observed and where: nuclei of cells, registration."""
