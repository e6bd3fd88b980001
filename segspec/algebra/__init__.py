"""Symbolic whole numbers and the expression language: what channel counts and sizes are made of."""
