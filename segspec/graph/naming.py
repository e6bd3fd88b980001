"""Class names: each class of a generated module has its own."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from segspec.graph.model import ApplyCall, BlockCall, Call, Module, SequenceCall
from segspec.spec.names import class_name


def named(root: Module) -> tuple[Module, tuple[Module, ...]]:
    """The same modules with a class name each of their own, in the order in which code must define them."""
    renamed: dict[Any, Module] = {}
    taken: dict[str, Any] = {root.name: root.key}
    held = {root.name: root}

    def name(module: Module) -> str:
        wanted = module.name
        first = held.setdefault(wanted, module)
        if taken.setdefault(wanted, module.key) == module.key:
            return wanted
        suffixes = [_suffix(key, value) for key, value in module.choices]
        if (module.definition, module.choices) == (first.definition, first.choices):  # they differ in what is read
            known = {output.name for output in first.outputs}
            suffixes = [class_name(output.name) for output in module.outputs if output.name not in known]
        candidates = [
            wanted + "".join(suffixes),
            *(f"{wanted}{count}" for count in range(2, 10_000)),
        ]
        return next(other for other in candidates if taken.setdefault(other, module.key) == module.key)

    def call(old: Call) -> Call:
        if isinstance(old, BlockCall):
            return replace(old, module=visit(old.module))
        if isinstance(old, SequenceCall):
            return SequenceCall(tuple(call(element) for element in old.elements))
        if isinstance(old, ApplyCall):
            return ApplyCall(old.target, call(old.call))
        return old

    def visit(module: Module) -> Module:
        if module.key not in renamed:
            nodes = tuple(replace(node, call=call(node.call)) for node in module.nodes)
            made = replace(module, name=module.name if module is root else name(module), nodes=nodes)
            renamed[module.key] = made
        return renamed[module.key]

    made = visit(root)
    return made, tuple(renamed.values())


def _suffix(choice: str, value: Any) -> str:
    """What a choice adds to a name: a flag that is set its own name, a number or a word itself."""
    if isinstance(value, bool):
        flag = choice.removesuffix(" != 0")
        return class_name(flag) if value and flag.isidentifier() else ""
    return str(value) if isinstance(value, int | str) and re.fullmatch("[A-Za-z0-9]{1,20}", str(value)) else ""
