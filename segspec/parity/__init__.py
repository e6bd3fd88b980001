"""Parity: what is compared between backends, how, and the report."""
