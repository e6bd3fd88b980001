"""What a folder of YAML files holds: specs of networks, blocks that they import, and files of other kinds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_KEY = re.compile(r"""^(?:\{ *)?["']?(segspec|nodes|blocks)["']?\s*:""", re.MULTILINE)


def is_spec(path: Path) -> bool:
    """Whether a file is a spec, though perhaps a wrong one: a text with a key that no spec is without."""
    return bool(_keys(path))


def is_network(path: Path) -> bool:
    """Whether a file is a spec that should stand alone: one of blocks and no nodes is a part of others."""
    keys = _keys(path)
    return bool(keys) and ("nodes" in keys or "blocks" not in keys)


def networks_below(folder: Path) -> Iterator[Path]:
    """The networks' specs in a folder and in all below it, but for hidden ones, by path."""
    for path in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")]):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.is_file() and is_network(path):
            yield path


def _keys(path: Path) -> set[str]:
    # Not parsed: what is wrong with a spec is for its loader to say.
    try:
        return set(_KEY.findall(path.read_text(encoding="utf-8", errors="replace")))
    except OSError:
        return {"segspec"}
