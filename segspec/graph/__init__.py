"""Elaboration: from a spec to a graph of classes with every name resolved and every shape known."""
