"""One module a framework, the only ones that import it; each runs as a script in a process of its own.

They use nothing of segspec, so that the interpreter that runs them needs only the framework and NumPy.
"""
