"""Weights by node path: what each is called in a backend, and values drawn from names."""
