"""Where specs and templates lie: in a checkout beside the package, in a wheel inside it."""

from __future__ import annotations

from pathlib import Path

from segspec.errors import fail, shown, shown_path, suggest

_PACKAGE = Path(__file__).resolve().parent.parent
_DATA = _PACKAGE / "data" if (_PACKAGE / "data").is_dir() else _PACKAGE.parent

SPECS = _DATA / "specs"
TEMPLATES = _DATA / "templates"


def networks() -> dict[str, Path]:
    """Every network of the zoo by name, backbones included; ``specs/blocks`` holds parts, not networks."""
    found = [*SPECS.glob("*.yaml"), *(SPECS / "backbones").glob("*.yaml")]
    return {path.stem: path for path in sorted(found, key=lambda path: path.stem)}


def backends() -> list[str]:
    """The backends that have templates, by name."""
    return sorted(path.parent.name for path in TEMPLATES.glob("*/backend.yaml"))


def find(name: str) -> Path:
    """The file that NAME on the command line means: a path, or a network of the zoo."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.parent != Path():
        if path.is_file():
            return path
        if path.parent == Path() and path.stem in networks():
            remedy = f"did you mean '{path.stem}'?"
        else:
            near = path.parent.glob("*.yaml") if path.suffix else []
            remedy = suggest(name, [*map(str, near), *networks()], what="specs")
        raise fail("unknown-spec", f"there is no file {shown(name)}", remedy=remedy)
    known = networks()
    if name not in known:
        raise fail(
            "unknown-spec",
            f"no spec is called {shown(name)}",
            remedy=_as_preset(name) or suggest(name, known, what="specs"),
        )
    return known[name]


def _as_preset(name: str) -> str:
    """What to write where a network's name is that of a preset, as ``fcn16s`` is of ``fcn8s``."""
    from segspec.spec import document

    for spec, path in networks().items():
        held = document.parse(path.read_text(encoding="utf-8"), shown_name(path)).data.get("presets", {})
        if name in held:
            return f"it is a preset: {spec} --preset {name}"
        if name.startswith(f"{spec}_") and name.removeprefix(f"{spec}_") in held:
            return f"it is a preset: {spec} --preset {name.removeprefix(f'{spec}_')}"
    return ""


def shown_name(path: Path) -> str:
    """What messages and headers call a file: its place in the zoo, or its name alone.

    Never an absolute path, so that generated headers are the same on every machine.
    """
    try:
        return (Path("specs") / path.resolve().relative_to(SPECS)).as_posix()
    except ValueError:
        return path.name


def asked_name(path: Path) -> str:
    """What names a file on the command line: a network of the zoo by its name, any other by its path."""
    return path.stem if networks().get(path.stem) == path.resolve() else shown_path(path)
