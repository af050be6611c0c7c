"""The paper's system: two heads, for types and for expression, on one encoder's embeddings."""
