"""What is observed and where: nuclei found in the H&E, cells, registration."""
