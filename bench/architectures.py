"""The README's tables of architectures, from the specs.

``python bench/architectures.py`` writes them anew between the README's markers, ``--check`` only tells whether
they are what the specs say, and ``--measure [NAME …]`` first runs ``segspec verify`` of these networks (or of all
that have no figure yet) and keeps the parity errors in ``bench/parity.json``: they alone need the frameworks.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from segspec.algebra.symbols import whole
from segspec.draw.summary import field_text, stride_text
from segspec.graph.elaborate import Elaborator, elaborate
from segspec.graph.fields import receptive_fields
from segspec.graph.instances import at_size, instances, parameters
from segspec.graph.model import Graph
from segspec.graph.sizes import nearest_size
from segspec.spec.load import Loader
from segspec.spec.models import Spec
from segspec.spec.zoo import SPECS, networks

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PARITY = ROOT / "bench" / "parity.json"
START, END = "<!-- architectures: python bench/architectures.py -->", "<!-- /architectures -->"

HEAD = ["spec", "paper", "parameters", "MACs at 512×512", "output stride", "receptive field", "parity error"]
SHARP = 1e-10
"""The limit of comparisons in float64 in which no backend computes anything in float32."""


def graphs() -> Iterator[tuple[Path, Graph]]:
    """Every network of the zoo at every preset, with its file."""
    loader, elaborator = Loader(), Elaborator()
    for name, path in networks().items():
        definition = loader.load(name)
        assert isinstance(definition.block, Spec)
        for preset in ("", *definition.block.presets):
            yield path, elaborate(definition, {}, preset, elaborator)


def tables(parity: dict[str, Any]) -> str:
    """Networks, their presets, and backbones."""
    kinds: dict[str, list[list[str]]] = {"networks": [], "presets": [], "backbones": [], "backbones' presets": []}
    for path, graph in graphs():
        kind = "networks" if path.parent == SPECS else "backbones"
        if graph.preset:
            kind = "presets" if kind == "networks" else "backbones' presets"
        kinds[kind].append(row(graph, parity.get(graph.name)))
    parts = [markdown(kinds["networks"])]
    for kind in ("presets", "backbones"):
        rows = kinds[kind] + (kinds["backbones' presets"] if kind == "backbones" else [])
        parts.append(f"<details><summary>{kind.capitalize()}</summary>\n\n{markdown(rows)}\n\n</details>")
    return "\n\n".join(parts)


def row(graph: Graph, parity: float | None) -> list[str]:
    """What the tables say of one network."""
    height, width = nearest_size(graph, 512)
    values = at_size(graph, height, width)
    macs = sum(whole(instance.macs()) for instance in instances(graph, values))
    found, outputs = receptive_fields(graph)
    strides = [axis.stride for node in found.values() for both in node for axis in both if axis.stride is not None]
    main = next(output.name for output in graph.root.outputs if not output.training)
    # A classifier's output is of the whole image: its last map tells more.
    maps = [found[node.name][0] for node in graph.root.nodes if found[node.name][0][0].stride is not None]
    shown = outputs[main] if stride_text(outputs[main]) or not maps else maps[-1]
    last = stride_text(shown)
    coarsest = str(max(strides, default=1))
    return [
        f"`{graph.definition.name}`" + (f" `{graph.preset}`" if graph.preset else ""),
        paper(graph),
        f"{parameters(graph):,}",
        f"{macs / 1e9:.1f} G" + ("" if (height, width) == (512, 512) else f" at {height}×{width}"),
        coarsest if last == coarsest else f"{coarsest} → {last}",
        field_text(shown),
        "" if parity is None else f"{parity:.0e}" + (" †" if parity > SHARP else ""),
    ]


def paper(graph: Graph) -> str:
    """The first reference of a spec, as a link."""
    block = graph.definition.block
    first = block.references[0] if block.references else None
    if first is None:
        return ""
    names = first.authors.split(", ")
    who = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
    text = f"{who} {first.year or ''}".strip()
    return f"[{text}]({first.url})" if first.url else text


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown; figures stand flush right."""
    rule = ["---", "---", *["--:"] * (len(HEAD) - 2)]
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in [HEAD, rule, *rows])


def measure(names: Sequence[str], parity: dict[str, Any]) -> None:
    """Verify these networks, at all of their presets, or what has no figure yet."""
    for _, graph in graphs():
        if graph.definition.name not in names if names else graph.name in parity:
            continue
        print(f"verifying {graph.name} …", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "segspec", "verify", graph.definition.name, "--json"]
        command += ["--preset", graph.preset] if graph.preset else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{graph.name} is not verified:\n{done.stdout}{done.stderr}")
        rows = json.loads(done.stdout)["results"]
        outputs = {output.name for output in graph.root.outputs if not output.training}
        double = [item for item in rows if item["dtype"] == "float64" and item["output"] in outputs]
        sharp = [item for item in double if item["limit"] <= SHARP]
        parity[graph.name] = float(f"{max(item['error'] for item in sharp or double):.1e}")
        PARITY.write_text(json.dumps(dict(sorted(parity.items())), indent=2) + "\n", encoding="utf-8")


def main() -> int:
    """Write or check the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the README is stale")
    parser.add_argument("--measure", nargs="*", metavar="NAME", help="run verify first, and keep the parity errors")
    options = parser.parse_args()
    parity = json.loads(PARITY.read_text(encoding="utf-8")) if PARITY.exists() else {}
    if options.measure is not None:
        measure(options.measure, parity)
    held = README.read_text(encoding="utf-8")
    before, start, rest = held.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise SystemExit(f"README.md has no markers {START} and {END}")
    made = f"{before}{START}\n\n{tables(parity)}\n\n{END}{after}"
    if options.check:
        if made != held:
            print("README.md's tables of architectures are stale: make readme", file=sys.stderr)
        return int(made != held)
    if made != held:
        README.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
