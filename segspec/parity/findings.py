"""What comparisons say of a network: the first node that differs, every fault there is, and what size it has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from segspec.parity.compare import Comparison
from segspec.parity.scene import Part

FLOAT32 = 2.0**-20
"""A few roundings of float32: an error below this, in float64, is of something that is computed in float32."""


@dataclass(frozen=True)
class Finding:
    """One node that differs: by how much, what its inputs differ by in the same pass, and where its source is.

    ``size`` says whether that is rounding or meaning; ``inputs`` are the nodes that it reads, each with its error;
    ``lines`` are each backend's numbered source lines that make and compute it; ``again`` are the other nodes that
    the same lines compute, in other instances of its class, which differ too.
    """

    path: str
    what: str
    comparison: Comparison
    size: str
    inputs: tuple[tuple[str, float | None], ...]
    lines: tuple[tuple[str, tuple[tuple[int, str], ...]], ...]
    again: tuple[str, ...] = ()


def verdict(item: Comparison) -> str:
    """Whether the size of an error is rounding or meaning."""
    if item.error is None:
        return "nothing to compare"
    if item.error <= item.limit:
        return "rounding"
    if item.dtype == "float64" and item.error <= FLOAT32:
        return "meaning: as small as float32's rounding, so perhaps a constant or a ratio in float32"
    noise = "float32's own distance to float64" if item.dtype == "float32" else "what rounding explains"
    return f"meaning: {item.error / item.limit:.2g} times {noise}" if item.limit else "meaning"


def first_difference(
    comparisons: Iterable[Comparison],
    parts: Mapping[str, Sequence[Part]],
    lines: Mapping[str, Mapping[str, Sequence[tuple[int, str]]]],
) -> Finding | None:
    """The first node, in the graph's order, that differs end to end; of the passes the first in which one does.

    ``parts`` are the steps of each scene by its name, ``lines`` the source lines of each backend by node.
    """
    held = [item for item in comparisons if item.check == "nodes" and item.gates]
    for item in held:
        if not item.ok:
            same = [other for other in held if (other.size, other.mode, other.dtype) == _pass(item)]
            return _finding(item, same, parts, lines)
    return None


def faults(
    comparisons: Sequence[Comparison],
    parts: Mapping[str, Sequence[Part]],
    lines: Mapping[str, Mapping[str, Sequence[tuple[int, str]]]],
) -> list[Finding]:
    """Every node that differs when it is judged by itself, in the graph's order: all the faults there are.

    A block differs where a node inside it does, and what flows back to a node where one that reads it does, or one
    that reads it by mistake: then these others are the fault. So is an output where all nodes of the pass agree and it
    does not. Nodes that the same lines of the same class compute are one. Where each is right by itself, what shows
    end to end alone is listed: an input's gradient, or what an optimiser treats otherwise.
    """
    comparisons = list(comparisons)
    alone = {"replay", "gradient replay", "statistics"}
    held = [item for item in comparisons if item.check in alone and item.dtype == "float64"]
    wrong = [(item, _part(item, parts)) for item in held if not item.ok]
    forward = {part.path if part else item.subject for item, part in wrong if item.check != "gradient replay"}
    found: dict[str, Finding] = {}
    inexact = {_pass(item) for item in comparisons if item.check in ("nodes", "replay") and not item.ok}
    swapped = [item for item in comparisons if item.check == "outputs" and item.dtype == "float64" and not item.ok]
    for item in swapped:
        if _pass(item) not in inexact:
            path = f"output {item.subject}"
            found.setdefault(path, Finding(path, item.what, item, verdict(item), (), ()))
            forward.add("")
    for item, part in wrong:
        path = part.path if part else item.subject
        steps = parts.get(f"{item.size} {item.mode}", ())
        # What a block is given is not its contents' doing.
        if "(" not in item.subject and any(other.startswith(f"{path}.") for other in forward):
            continue
        reading = {path, *_readers(part, steps)} if item.check == "gradient replay" and part else set()
        if reading and (forward & reading or any(_within_reach(path, other, steps) for other in forward)):
            continue
        found.setdefault(path, _finding(item, held, parts, lines))
    for item in () if found else _elsewhere(comparisons):
        finding = _finding(item, comparisons, parts, lines)
        found.setdefault(finding.path, finding)
    order = {part.path: index for steps in parts.values() for index, part in enumerate(steps)}
    places = {part.path: (part.module, part.node) for steps in parts.values() for part in steps}
    groups: dict[object, list[Finding]] = {}
    for finding in sorted(found.values(), key=lambda finding: order.get(finding.path, len(order))):
        groups.setdefault(places.get(finding.path, finding.path), []).append(finding)
    return [replace(held[0], again=tuple(other.path for other in held[1:])) for held in groups.values()]


def _elsewhere(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """What differs in the first pass that shows gradients, statistics or steps that differ; of steps, in the first."""
    wrong = [
        item
        for check in ("gradients", "statistics", "sgd", "adam")
        for item in comparisons
        if item.check == check and item.gates and not item.ok
    ]
    first = [(item.check, *_pass(item), item.subject.partition(" after ")[2]) for item in wrong]
    return [item for item, key in zip(wrong, first, strict=True) if key == first[0]]


def _readers(part: Part, steps: Sequence[Part]) -> set[str]:
    """What reads a node, also through the blocks that return it."""
    returned = {part.path, *(other.path for other in steps if part.path.startswith(f"{other.path}."))}
    return {other.path for other in steps if returned & set(other.sources)}


def _within_reach(path: str, reader: str, steps: Sequence[Part]) -> bool:
    """Whether the class of one node could read by mistake what another returns: its block's own nodes and arguments."""
    blocks = {part.path: part for part in steps if part.arguments}
    holder = _holder(reader, blocks)
    known = blocks[holder].sources if holder else ()
    return any(each in known or _holder(each, blocks) == holder for each in _returned(path, blocks, steps))


def _returned(path: str, blocks: Mapping[str, Part], steps: Sequence[Part]) -> list[str]:
    """A node and the blocks that return it: of those with one output, their last node."""
    found = [path]
    while holder := _holder(found[-1], blocks):
        last = [part.path for part in steps if part.path.startswith(f"{holder}.")][-1]
        if last != found[-1] and len(blocks[holder].shapes) == 1:
            break
        found.append(holder)
    return found


def _holder(path: str, blocks: Mapping[str, Part]) -> str:
    """The block in which a node stands; empty for the network itself."""
    while path:
        path = path.rpartition(".")[0]
        if path in blocks:
            return path
    return ""


def _pass(item: Comparison) -> tuple[str, str, str]:
    return item.size, item.mode, item.dtype


def _finding(
    item: Comparison,
    others: Sequence[Comparison],
    parts: Mapping[str, Sequence[Part]],
    lines: Mapping[str, Mapping[str, Sequence[tuple[int, str]]]],
) -> Finding:
    part = _part(item, parts)
    if part is None:
        return Finding(item.subject, item.what, item, verdict(item), (), ())
    # By itself, a node is given what the other backend's was: equal inputs.
    errors = {
        other.subject: other.error
        for other in others
        if item.check == "nodes" == other.check and _pass(other) == _pass(item)
    }
    inputs = tuple((source or "the network's input", errors.get(source, 0.0)) for source in part.sources)
    shown = tuple(
        (backend, tuple((number, text) for number, text in held.get(f"{part.module}.{part.node}", ())))
        for backend, held in lines.items()
    )
    return Finding(part.path, part.what, item, verdict(item), inputs, shown)


def _part(item: Comparison, parts: Mapping[str, Sequence[Part]]) -> Part | None:
    """The step that a comparison is of."""
    steps = {part.path: part for part in parts.get(f"{item.size} {item.mode}", ())}
    return next((steps[path] for path in paths(item.subject) if path in steps), None)


def paths(subject: str) -> Iterator[str]:
    """The node that a comparison is of: it names its path, one of its outputs, a block's argument, or a tensor."""
    yield subject
    held = subject.partition("(")[0].partition("#")[0].partition(" ")[0]
    yield held
    yield held.rpartition(":")[0]
    yield held.rpartition(".")[0]
