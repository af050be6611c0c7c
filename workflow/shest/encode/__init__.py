"""Frozen encoders: what each is, its weights, the engine that runs it, the cache that keeps what it gave."""
