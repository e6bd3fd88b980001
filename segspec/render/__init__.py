"""From a graph to the source text of one backend; Jinja templates lay out what is computed here."""

from segspec.render.backend import Backend, backends
from segspec.render.source import marks, render, render_all

__all__ = ["Backend", "backends", "marks", "render", "render_all"]
