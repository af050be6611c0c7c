"""Public data over the network."""
