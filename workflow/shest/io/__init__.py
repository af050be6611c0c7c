"""One module a format: what the project reads and writes, and how each is laid out."""
