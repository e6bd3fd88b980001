"""The language: YAML with positions, its models, and the files that import one another."""
