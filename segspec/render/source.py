"""The source text of a graph in one backend.

A frame template lays out the module, a macro writes each op; the order of lines, the names, what is
folded into one line and what is imported are computed here and in :mod:`segspec.render.forward`.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2

from segspec.errors import fail
from segspec.graph.instances import instances
from segspec.graph.model import BlockCall, Call, Graph, Module, OpCall, SequenceCall
from segspec.render import text
from segspec.render.backend import Backend
from segspec.render.documentation import class_doc, module_doc, shapes_of
from segspec.render.forward import body, inputs_text, marked_body, returns_text
from segspec.render.initialisation import initialisation
from segspec.render.view import op_view
from segspec.spec.zoo import shown_name

MAX_NAME = 32
"""How long a file's name in a docstring may be, so that the line that loads it fits."""


def render(graph: Graph, backend: Backend) -> str:
    """The module's source for one backend, formatted."""
    return render_all([(graph, backend)])[0]


def render_all(wanted: Iterable[tuple[Graph, Backend]]) -> list[str]:
    """The sources of many modules; formatting them together is what makes it quick."""
    return _formatted([_Renderer(graph, backend).source() for graph, backend in wanted])


def marks(graph: Graph, backend: Backend) -> dict[str, str]:
    """Each class's ``forward`` with its nodes marked, by the class's name: see :func:`marked_body`."""
    return _Renderer(graph, backend).marks()


@lru_cache
def _environment(folder: Path) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # what is rendered is Python, and every string in it comes through render.text
    )
    environment.globals.update(
        call=text.call, code=text.Code, scaled=_scaled, affine_of=text.affine, reshaped=text.reshaped
    )
    environment.filters.update(
        unless=text.unless,
        operand=text.operand,
        negative=lambda value: text.Code(f"-{text.operand(text.literal(value))}") if value != 0 else 0,
        receiver=text.receiver,
        lengths=text.lengths,
        sizes=text.sizes,
        single=lambda value: value[0] if len(value) == 1 else tuple(value),
        pair=lambda value: value if isinstance(value, tuple | type(None)) else (value, value),
        tuple=tuple,
    )
    return environment


def _scaled(name: str, ratios: Any) -> Any:
    """The height and width of a map times fractions, as code."""
    if ratios is None:
        return text.OMITTED
    parts = [
        f"{name}.shape[{axis}]{f' * {top}' if top != 1 else ''} // {bottom}"
        for axis, (top, bottom) in zip((-2, -1), ratios, strict=True)
    ]
    return text.Code(f"({', '.join(parts)})")


class _Renderer:
    def __init__(self, graph: Graph, backend: Backend) -> None:
        self.graph = graph
        self.backend = backend
        self.environment = _environment(backend.folder)
        self.ops = self.environment.get_template("ops.jinja").module
        self.shapes = shapes_of(graph)
        self.written: dict[tuple[OpCall, tuple[str, ...]], text.Code] = backend.written

    def source(self) -> str:
        """The source before formatting."""
        init = initialisation(self.graph, self.backend, self.environment)
        classes = [self._class(module, module is self.graph.root and init is not None) for module in self.graph.modules]
        context: dict[str, Any] = {
            "source": text.printable(shown_name(self.graph.definition.file.path)),
            "digest": self.graph.definition.file.digest()[:16],
            "docstring": module_doc(self.graph),
            "classes": classes,
            "init": init,
        }
        template = self.environment.get_template("module.py.jinja")
        used = set().union(*map(text.names_in, _code(classes, init)))
        helpers = self.environment.get_template("helpers.jinja").module
        wanted = [name for name in self.backend.helpers if name in used]
        context["command"] = self._command(exact=not set(self.backend.exact_layers.values()).isdisjoint(wanted))
        context["helpers"] = [str(getattr(helpers, name)()).strip() for name in wanted]
        # What the helpers use must be imported too.
        context["used"] = used.union(*map(text.names_in, context["helpers"]), *map(_annotated, context["helpers"]))
        return template.render(context)

    def _command(self, *, exact: bool) -> str:
        """The command that writes this module; a spec of one's own is named by its file."""
        file = self.graph.definition.file.path
        name = self.graph.definition.name if shown_name(file) != file.name else file.name
        parts = ["segspec", "generate", name, "--backend", self.backend.name]
        if self.graph.preset:
            parts += ["--preset", self.graph.preset]
        for key, value in self.graph.settings.items():
            parts += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
        if exact:
            parts.append("--exact-running-stats")
        return text.printable(shlex.join(parts))

    def _loading(self) -> str:
        """The framework's own line that loads converted weights; empty where the network has none."""
        if not any(instance.slots() for instance in instances(self.graph)):
            return ""
        held, name = self.backend.checkpoints, self.graph.definition.name
        return held.load.format(file=f"{name if len(name) <= MAX_NAME else 'weights'}{held.suffixes[0]}")

    # --- classes ---------------------------------------------------------------------------------

    def _class(self, module: Module, initialises: bool) -> dict[str, Any]:
        attributes = [
            {"name": node.name, "code": self.constructor(node.call, module), **_kind(node.call)}
            for node in module.nodes
            if is_attribute(node.call)
        ]
        root = module is self.graph.root
        return {
            "name": module.name,
            "docstring": class_doc(module, self.shapes, root=root, loading=self._loading() if root else ""),
            "signature": "".join(f", {argument}" for argument in _signature(module)),
            "attributes": attributes,
            "initialises": initialises,
            "inputs": inputs_text(module),
            "returns": returns_text(module),
            "body": body(module, self.expression, self.shapes),
        }

    def marks(self) -> dict[str, str]:
        """The marked ``forward`` of each class."""
        found = {}
        for module in self.graph.modules:
            lines = marked_body(module, self.expression, self.shapes)
            names = ", ".join(item.name for item in module.inputs)
            found[module.name] = "\n    ".join([f"def forward(self, {names}):", *lines])
        return found

    def constructor(self, call: Call, module: Module) -> text.Code:
        """The expression that builds a submodule."""
        if isinstance(call, BlockCall):
            return self._block(call)
        if isinstance(call, SequenceCall):
            return text.call("nn.Sequential", *self._elements(call, module))
        assert isinstance(call, OpCall)
        code = self._macro(call, [])
        if not code:
            raise fail(
                "refused",
                f"{self.backend.title} has no layer for {call.op.name}, so it cannot stand in a sequence",
                module.definition.place(),
                remedy="make it a node of its own",
            )
        return code

    def _block(self, call: BlockCall) -> text.Code:
        given, options = [], {}
        for argument in call.module.arguments:
            value = text.value_of(call.argument(argument.name))
            if argument.required:
                given.append(value)
            elif value != argument.default or type(value) is not type(argument.default):
                options[argument.name] = value
        return text.call(call.module.name, *given, **options)

    def _elements(self, call: SequenceCall, module: Module) -> list[text.Code]:
        """The elements of a sequence, equal neighbours written as a comprehension."""
        codes = [self.constructor(element, module) for element in call.elements]
        groups: list[tuple[text.Code, int]] = []
        for code in codes:
            if groups and groups[-1][0] == code:
                groups[-1] = (code, groups[-1][1] + 1)
            else:
                groups.append((code, 1))
        return [code if times == 1 else text.Code(f"*({code} for _ in range({times}))") for code, times in groups]

    def expression(self, call: Call, name: str, inputs: list[str]) -> text.Code:
        """The expression that computes a node from its inputs' expressions."""
        if isinstance(call, OpCall) and call.op.is_tensor:
            return text.Code(f"self.{name}")
        if is_attribute(call):
            return text.call(f"self.{name}", *map(text.Code, inputs))
        assert isinstance(call, OpCall)
        return self._macro(call, inputs)

    def _macro(self, call: OpCall, inputs: list[str]) -> text.Code:
        key = call, tuple(inputs)
        if key not in self.written:
            macro = getattr(self.ops, call.op.name, None)
            if macro is None:
                raise fail("refused", f"{self.backend.title} has no macro for the op {call.op.name}")
            view = op_view(call, self.backend)
            self.written[key] = text.Code(str(macro(view, text.Inputs(map(text.Code, inputs)))).strip())
        return self.written[key]


def is_attribute(call: Call) -> bool:
    """Whether a node is an attribute of its class, a submodule or a tensor; the others are calls of functions."""
    if isinstance(call, OpCall):
        return call.op.has_state
    return isinstance(call, BlockCall | SequenceCall)


def _kind(call: Call) -> dict[str, bool]:
    """Whether it is a tensor that is not learned, which frameworks register, and one that is no part of the state."""
    slots = call.op.slots(()) if isinstance(call, OpCall) and call.op.is_tensor else None
    is_buffer = slots is not None and not any(slot.trainable for slot in slots)
    return {"is_buffer": is_buffer, "is_constant": is_buffer and not slots}


def _signature(module: Module) -> list[str]:
    parts = []
    for argument in module.arguments:
        default = "" if argument.required else f" = {text.literal(text.value_of(argument.default))}"
        parts.append(f"{argument.name}: {argument.type}{default}")
    return parts


def _code(classes: list[dict[str, Any]], init: dict[str, Any] | None) -> Iterator[str]:
    """The statements of a module, in pieces that other modules may have too."""
    for held in classes:
        made = (f"_({attribute['code']})" for attribute in held["attributes"])  # it may be several arguments
        yield "\n".join([*made, *held["body"]])
    for branch in init["branches"] if init else ():
        yield "\n".join(branch["lines"])


def _annotated(source: str) -> set[str]:
    return {"Sequence"} if "Sequence[" in source else set()


def _formatted(sources: list[str]) -> list[str]:
    """The sources as ruff formats them, all in one call."""
    with tempfile.TemporaryDirectory(prefix="segspec-") as folder:
        paths = [Path(folder) / f"{index}.py" for index in range(len(sources))]
        for path, source in zip(paths, sources, strict=True):
            path.write_text(source, encoding="utf-8")
        command = [
            _ruff(),
            "format",
            "--isolated",
            "--no-cache",
            "--quiet",
            f"--line-length={text.WIDTH}",
            folder,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the generated source is not Python: {done.stderr}")
        return [path.read_text(encoding="utf-8") for path in paths]


@lru_cache(maxsize=1)
def _ruff() -> str:
    found = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    if found is None:
        raise fail("output", "ruff, which formats generated code, is not installed", remedy="pip install ruff")
    return found
