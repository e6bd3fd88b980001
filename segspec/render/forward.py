"""The body of ``forward``: which node is a line of its own, under what name, with which comment."""

from __future__ import annotations

import keyword
from collections import Counter
from collections.abc import Callable

from segspec.graph.model import (
    ApplyCall,
    BlockCall,
    Call,
    Module,
    ModuleOutput,
    Node,
    OpCall,
    SequenceCall,
    Tensor,
)
from segspec.ops import Shape
from segspec.render.documentation import Shapes
from segspec.render.text import WIDTH

Express = Callable[[Call, str, list[str]], str]

MAX_LINE = 84
INDENT = 8
NODE = "__node__"
"""The function that marks a node; no name of a spec can be this."""


def inputs_text(module: Module) -> str:
    """The parameters of ``forward``."""
    return ", ".join(f"{item.name}: Tensor" for item in module.inputs)


def returns_text(module: Module) -> str:
    """The type that ``forward`` returns."""
    always = [output for output in module.outputs if not output.training]
    kinds = dict.fromkeys([_tuple_type(len(always)), _tuple_type(len(module.outputs))])
    return " | ".join(kinds)


def _tuple_type(count: int) -> str:
    return "Tensor" if count == 1 else f"tuple[{', '.join(['Tensor'] * count)}]"


def body(module: Module, express: Express, shapes: Shapes) -> list[str]:
    """The lines of ``forward``."""
    return _Body(module, express, shapes).lines()


def marked_body(module: Module, express: Express, shapes: Shapes) -> list[str]:
    """The lines of ``forward``, the expression of each node inside a call that names it: ``__node__("up", …)``.

    But for these calls it is what :func:`body` yields. Sequences have none: their elements are modules, which can
    be watched without it; nor have tensors, which are not computed.
    """
    plain = _Body(module, express, shapes)
    plain.lines()
    return _Body(module, express, shapes, folded=plain.folded).lines()


class _Body:
    """``folded`` is what another one wrote inside the next line; given, this one does the same and marks nodes."""

    def __init__(self, module: Module, express: Express, shapes: Shapes, folded: set[Tensor] | None = None) -> None:
        self.module = module
        self.express = express
        self.shapes = shapes
        self.given = folded
        self.folded: set[Tensor] = set()
        self.nodes = [node for node in module.nodes if not node.idle]
        self.uses = Counter(tensor for node in self.nodes for tensor in node.sources)
        self.uses.update(output.tensor for output in module.outputs)
        self.names: dict[Tensor, str] = {Tensor(item.name): item.name for item in module.inputs}
        self.shape: dict[Tensor, Shape] = {Tensor(item.name): item.shape for item in module.inputs}
        self.pending: dict[Tensor, str] = {}
        self.taken = {item.name for item in module.inputs}
        self.comment = ""

    def lines(self) -> list[str]:
        """All lines; a body of one line needs no comment, its shape stands in the docstring."""
        lines = self._lines()
        return [lines[0].split("  # ")[0]] if len(lines) == 1 else lines

    def _lines(self) -> list[str]:
        always = [node for node in self.nodes if not node.training]
        training = [node for node in self.nodes if node.training]
        outputs = [output for output in self.module.outputs if not output.training]
        only_training = len(outputs) < len(self.module.outputs)
        lines = self._run(always, outputs, last=not only_training)
        if only_training:
            inner = self._run(training, list(self.module.outputs), last=True)
            # The training-only part comes before the plain return, and ends with a return of its own.
            lines += ["if self.training:", *(f"    {line}" for line in inner)]
            lines.append(self._return(outputs))
        return lines

    def _run(self, nodes: list[Node], outputs: list[ModuleOutput], *, last: bool) -> list[str]:
        lines: list[str] = []
        for index, node in enumerate(nodes):
            following = nodes[index + 1] if index + 1 < len(nodes) else None
            if isinstance(node.call, OpCall) and node.call.op.is_tensor:
                tensor = Tensor(node.name)
                self.names[tensor], self.shape[tensor] = self.express(node.call, node.name, []), node.call.outputs[0]
                continue
            sources = [self._expression(tensor) for tensor in node.sources]
            taps = sorted({tensor.upto for tensor in self.uses if tensor.node == node.name and tensor.upto})
            if taps:
                lines += self._tapped(node, sources, taps)
                continue
            target = node.call.target if isinstance(node.call, ApplyCall) else node.name
            call = node.call.call if isinstance(node.call, ApplyCall) else node.call
            code = self.express(call, target, sources)
            if self.given is not None and not isinstance(call, SequenceCall):
                code = f'{NODE}("{node.name}", {code})'
            tensors = [Tensor(node.name, position) for position in range(len(call.outputs))]
            for tensor, shape in zip(tensors, call.outputs, strict=True):
                self.shape[tensor] = shape
            final = last and following is None and [output.tensor for output in outputs] == tensors
            if final and len(tensors) == 1 and lines and lines[-1].startswith(f"{code} = "):  # it is the input itself
                return [*lines[:-1], f"return {lines[-1].removeprefix(f'{code} = ')}"]
            if final and len(tensors) == 1:
                return [*lines, *self._commented(f"return {code}", node, tensors)]
            if len(tensors) == 1 and self._folds(tensors[0], following, code):
                self.pending[tensors[0]] = code
                self.folded.add(tensors[0])
                continue
            names = [self._name(node, tensor) for tensor in tensors]
            lines += self._commented(f"{', '.join(names)} = {code}", node, tensors)
        if last:
            lines.append(self._return(outputs))
        return lines

    def _return(self, outputs: list[ModuleOutput]) -> str:
        return "return " + ", ".join(self._expression(output.tensor) for output in outputs)

    def _expression(self, tensor: Tensor) -> str:
        if tensor in self.pending:
            return self.pending.pop(tensor)
        return self.names[tensor]

    def _folds(self, tensor: Tensor, following: Node | None, code: str) -> bool:
        """Whether a value is written inside the next line: a layer before its normalisation or activation."""
        if self.given is not None:
            return tensor in self.given
        if following is None or self.uses[tensor] != 1 or following.sources != (tensor,) or len(code) > MAX_LINE:
            return False
        if isinstance(following.call, OpCall) and following.call.op.preserves_shape:
            return True
        # Of two modules in a row, the first is written inside the second where that hides no change of shape.
        modules = isinstance(self.module.node(tensor.node).call, BlockCall) and isinstance(following.call, BlockCall)
        return modules and following.call.outputs == (self.shape[tensor],)

    def _name(self, node: Node, tensor: Tensor) -> str:
        """The local variable for a value: the node's name, or the output's where there are several."""
        wanted = node.name
        call = node.call.call if isinstance(node.call, ApplyCall) else node.call
        if len(call.outputs) > 1 and not self.uses[tensor]:  # only others that apply the module read it
            return "_"
        if isinstance(call, BlockCall) and len(call.outputs) > 1:
            outputs = [output.name for output in call.module.outputs]
            own = {name for held, name in self.names.items() if held.node == node.name}
            others = {other.name for other in self.module.nodes}
            plain = not (self.taken - own | others).intersection(outputs)
            wanted = outputs[tensor.output] if plain else f"{node.name}_{outputs[tensor.output]}"
        elif isinstance(call, OpCall) and tensor.output:
            wanted = f"{node.name}_{call.op.outputs[tensor.output]}"
        while wanted in self.taken or wanted in self.shapes.globals or keyword.iskeyword(wanted):
            wanted += "_"
        self.taken.add(wanted)
        self.names[tensor] = wanted
        return wanted

    def _tapped(self, node: Node, sources: list[str], taps: list[int]) -> list[str]:
        """A sequence that is read in the middle: its slices one after another."""
        call = node.call
        assert isinstance(call, SequenceCall)
        lines, start, current = [], 0, sources[0]
        whole = Tensor(node.name) if self.uses[Tensor(node.name)] else None
        ends = [*taps, *([len(call.elements)] if whole and taps[-1] != len(call.elements) else [])]
        for end in ends:
            tensor = Tensor(node.name, 0, end)
            piece = f"[{start or ''}:{end if end < len(call.elements) else ''}]"
            piece = "" if piece == "[:]" else piece
            self.shape[tensor] = call.elements[end - 1].outputs[0]
            last = end == ends[-1]
            name = self._fresh(
                self._returned_as(tensor, whole if last else None) or (node.name if last else f"{node.name}_{end - 1}"),
                tensor,
            )
            lines += self._commented(f"{name} = self.{node.name}{piece}({current})", node, [tensor])
            start, current = end, name
            if end == len(call.elements) and whole:
                self.names[whole], self.shape[whole] = name, self.shape[tensor]
        return lines

    def _returned_as(self, *tensors: Tensor | None) -> str:
        """The name under which the class returns one of these, if no node has it."""
        names = {output.tensor: output.name for output in self.module.outputs}
        found = next((names[tensor] for tensor in tensors if tensor in names), "")
        return "" if any(node.name == found for node in self.module.nodes) else found

    def _fresh(self, wanted: str, tensor: Tensor) -> str:
        while wanted in self.taken or wanted in self.shapes.globals:
            wanted += "_"
        self.taken.add(wanted)
        self.names[tensor] = wanted
        return wanted

    def _commented(self, line: str, node: Node, tensors: list[Tensor]) -> list[str]:
        """A line with the shape it makes, where that is neither its first input's nor the line's before."""
        before, after = (
            self.shape[self._origin(node.sources[0])],
            [self.shape[tensor] for tensor in tensors],
        )
        texts = [self.shapes.text(self.module, shape) for shape in after]
        comment = f"each {texts[0]}" if len(texts) > 1 and len(set(texts)) == 1 else ", ".join(texts)
        too_long = INDENT + len("# ") + len(comment) > WIDTH  # such a list stands in the docstring of the class
        if after == [before] or comment == self.comment or "?" in comment or too_long:
            return [line]
        self.comment = comment
        if INDENT + len(line) + len(comment) + 4 > WIDTH:
            return [f"# {comment}", line]
        return [f"{line}  # {comment}"]

    def _origin(self, tensor: Tensor) -> Tensor:
        """What a line reads at its start, through all that was folded into it."""
        while tensor not in self.names:
            node = self.module.node(tensor.node)
            tensor = node.sources[0]
        return tensor
