"""Smaller specs of one that fails: what is left of it where one part after another is taken out.

Hypothesis shrinks the choices that a spec was drawn by; here the spec itself shrinks, which asks for far fewer tries.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml
from drawing import Case, words

WAYS = ("op", "block", "sequence", "apply")
NEEDED = (("nodes",), ("inputs",), ("outputs",))
TRIES = 300
"""How many smaller specs are tried at most."""


def smallest(case: Case, fails: Callable[[Case], bool]) -> Case:
    """The smallest case found that still fails, by taking out one part after another until none can be spared."""
    tried: set[str] = set()
    while True:
        for smaller in _smaller(case):
            if repr(smaller) in tried or len(repr(smaller)) >= len(repr(case)) or len(tried) > TRIES:
                continue
            tried.add(repr(smaller))
            if fails(smaller):
                case = smaller
                break
        else:
            return case


def _smaller(case: Case) -> Iterator[Case]:
    """Every case with one part less, the largest parts first."""
    for index in range(len(case.sizes)):
        if len(case.sizes) > 1:
            yield Case(case.spec, (*case.sizes[:index], *case.sizes[index + 1 :]))
    for path in sorted(_parts(case.spec), key=len):
        spec = copy.deepcopy(dict(case.spec))
        *above, last = path
        held = spec
        for step in above:
            held = held[step]
        taken = held[last]
        del held[last]
        if (not held and path[0] != "blocks") or path in NEEDED:
            continue
        yield Case(_swept(spec), case.sizes)
        if isinstance(taken, dict) and any(key in taken for key in WAYS) and isinstance(last, str):
            source = taken.get("from")
            for instead in source if isinstance(source, list) else [source or "image"]:
                name = rf"\b{re.escape(last)}\b(\.\w+|\[\d+\])?"
                renamed = yaml.safe_load(re.sub(name, str(instead), yaml.safe_dump(spec, sort_keys=False)))
                yield Case(_swept(renamed), case.sizes)
        if isinstance(last, str) and last.startswith(("if ", "for ")) and isinstance(taken, dict):
            held.update(taken)
            yield Case(_swept(spec), case.sizes)


def _parts(held: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything that may be left out."""
    for key, value in held.items() if isinstance(held, dict) else enumerate(held):
        if path or key not in ("segspec", "name"):
            if key not in WAYS:
                yield (*path, key)
            if isinstance(value, dict | list):
                yield from _parts(value, (*path, key))


def _swept(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec without expectations, and without what is not read any more: nodes, blocks, parameters and names."""
    spec.pop("expect", None)
    while True:
        before = yaml.safe_dump(spec)
        used = words([spec.get("outputs"), spec["nodes"]])
        for name in list(spec.get("blocks", {})):
            others = words([spec["nodes"], [block for key, block in spec["blocks"].items() if key != name]])
            if name not in others:
                del spec["blocks"][name]
        for block in (spec, *spec.get("blocks", {}).values()):
            if "outputs" in block:
                _without_unread(block.get("nodes", {}), block["outputs"])
            for key in ("params", "let"):
                for name in list(block.get(key, {})):
                    others = {part: held for part, held in block.items() if part != key}
                    others[key] = {other: text for other, text in block[key].items() if other != name}
                    if name not in words(others):
                        del block[key][name]
        for name in list(spec.get("inputs", {})):
            if name not in used and len(spec["inputs"]) > 1:
                del spec["inputs"][name]
        for key in ("blocks", "params", "let"):
            if not spec.get(key, True):
                del spec[key]
        if yaml.safe_dump(spec) == before:
            return spec


def _without_unread(nodes: dict[str, Any], outputs: Any) -> None:
    """Take out nodes, last first, that neither the outputs nor nodes after them read."""
    names = list(nodes)
    for name in reversed(names):
        after = [nodes[other] for other in names[names.index(name) + 1 :] if other in nodes]
        reads_before = any(
            isinstance(node, dict) and ("from" not in node or "_" in words(node.get("from"))) for node in after[:1]
        )
        if name.startswith(("for ", "if ")) or "{" in name:
            continue
        if name not in words([outputs, after]) and not reads_before and len(nodes) > 1:
            del nodes[name]
