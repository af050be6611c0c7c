"""Logistic and ridge regression on one encoder's embeddings: what a system on embeddings has to beat."""
