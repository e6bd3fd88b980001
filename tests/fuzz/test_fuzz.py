"""Random specs: a fixed small part of what ``make fuzz`` does at length, and every failure that it has found."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from concrete import Misfit, TooLarge, network
from drawing import Case, kept
from fuzz import one, sample
from kinds import words_of

from segspec.ops import OPS
from segspec.ops.attributes import kind_of

CASES = sorted(path.parent for path in (Path(__file__).parent / "cases").glob("*/spec.yaml"))
SPECS = 30
DRAWN = 250


@pytest.fixture(scope="module")
def drawn() -> list[Case]:
    """A fixed sample of cases."""
    found: list[Case] = []
    for seed in range(1, DRAWN + 1):
        one(seed, found.append)
    return found


@pytest.mark.slow
def test_everything_is_drawn(drawn: list[Case]) -> None:
    """Every op, attribute and word of a choice, and every construction that the strategy knows."""
    seen = Counter[str]()
    for case in drawn:
        _count(case.spec, seen)
        seen.update(_of_sizes(case))
    wanted = {*OPS, *CONSTRUCTIONS, *OF_SIZES}
    for name, op in OPS.items():
        for item in dataclasses.fields(op):  # type: ignore[arg-type]
            wanted.add(f"{name}.{item.name}")
            wanted |= {f"{name}.{item.name}={word}" for word in words_of(kind_of(op, item.name))}
    assert not sorted(wanted - set(seen))


CONSTRUCTIONS = (
    *("block", "sequence", "repeat", "apply", "for", "if", "let", "params", "when=training", "when=used", "from=list"),
    *(
        "several inputs",
        "several outputs of a block",
        "stated channels",
        "a tap",
        "a spread",
        "either",
        "an expression",
    ),
)
OF_SIZES = ("1x1", "one pixel high", "batch of 1", "beyond the map", "refused", "untrainable")


def _count(written: Any, seen: Counter[str]) -> None:
    """What occurs in a part of a spec."""
    if isinstance(written, list):
        for item in written:
            _count(item, seen)
    if not isinstance(written, dict):
        return
    if isinstance(op := written.get("op"), str):
        seen.update(
            [op, *(f"{op}.{name}" for name in written), *(f"{op}.{name}={value}" for name, value in written.items())]
        )
        seen["an expression"] += isinstance(written.get("out_channels"), str)
    for key, value in written.items():
        seen.update([key.split(" ")[0], f"{key}={value}"])
        _count(value, seen)
    read = written.get("from", "")
    seen["from=list"] += isinstance(read, list)
    for text in read if isinstance(read, list) else [read]:
        seen.update({"a tap": "[" in text, "a spread": " for " in text, "either": " if " in text})
    inputs = written.get("inputs", [])
    seen["several inputs"] += len(inputs) > 1
    seen["stated channels"] += isinstance(inputs, dict) and any(
        held and "width" in held.values() for held in inputs.values()
    )
    seen["several outputs of a block"] += "segspec" not in written and len(written.get("outputs", [])) > 1


def _of_sizes(case: Case) -> Counter[str]:
    """What occurs at a case's sizes."""
    seen = Counter[str]()
    for height, width, batch in case.sizes:
        seen.update({"1x1": height == width == 1, "one pixel high": height == 1, "batch of 1": batch == 1})
        try:
            body = network(case.spec, (height, width, batch))
        except TooLarge:
            continue
        except Misfit:
            seen["refused"] += 1
            continue
        seen["untrainable"] += bool(body.untrainable)
        for op, shapes in body.ops:
            dilation = getattr(op, "dilation", None)
            if isinstance(dilation, tuple) and len(shapes[0]) == 4:
                reach = zip(dilation, op.kernel_size, shapes[0][2:], strict=True)  # type: ignore[attr-defined]
                seen["beyond the map"] += any(step >= size and kernel > 1 for step, kernel, size in reach)
    return Counter({name: count for name, count in seen.items() if count})


@pytest.mark.slow
def test_most_of_what_is_drawn_can_be_compared(drawn: list[Case]) -> None:
    """Networks of several nodes, and few of one."""
    nodes = [len(case.spec["nodes"]) for case in drawn]
    assert sum(nodes) / len(nodes) > 3
    assert sum(count > 1 for count in nodes) > 0.7 * len(nodes)


@pytest.mark.torch
@pytest.mark.paddle
def test_a_fixed_sample_agrees() -> None:
    health, failed = sample(1, SPECS)
    assert not failed, "\n\n".join(f"{case}{error}" for case, error in failed)
    assert health["specs"] == SPECS
    assert health["runs compared"] > 2 * SPECS
    assert health["discarded"] < SPECS / 3
    assert health["runs held to their conditioning"] < SPECS


@pytest.mark.torch
@pytest.mark.paddle
@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_what_was_found_stays_mended(folder: Path) -> None:
    """Each case agrees, or is refused with the reason that it states."""
    from examine import Discarded, examine

    case, said = kept(folder)
    health = Counter[str]()
    if "refused" in said:
        with pytest.raises(Discarded, match=said["refused"]):
            examine(case, health)
    else:
        examine(case, health)
        assert health["runs compared"]


@pytest.mark.torch
@pytest.mark.paddle
@pytest.mark.parametrize(
    ("written", "broken", "kind"),
    [
        ("stride=2", "stride=1", "Shape_paddle"),
        ("epsilon=0.001", "epsilon=0.0010001", "Differs_output_eval"),
        ("negative_slope=0.2", "negative_slope=0.2000001", "Differs_output_eval"),
        ("0.5 * ", "0.5 * (1 + 1e-9) * ", "Differs_output_eval"),
        ("from paddle import", "import os\nfrom paddle import", "Ruff_check"),
    ],
)
def test_a_fault_is_found(written: str, broken: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fault in the code of one backend fails a spec in which nothing else is wrong."""
    import examine

    render_all = examine.render_all

    def faulty(wanted: Any) -> list[str]:
        torch, paddle = render_all(wanted)
        assert written in paddle
        return [torch, paddle.replace(written, broken, 1)]

    monkeypatch.setattr(examine, "render_all", faulty)
    with pytest.raises(examine.Finding) as found:
        examine.examine(Case(yaml.safe_load(PLAIN), ((8, 9, 3),)), Counter())
    assert type(found.value).__name__ == kind


PLAIN = """
segspec: 1
name: fuzzed
inputs: {image: {channels: 3}}
nodes:
  conv: {op: conv2d, out_channels: 4, kernel_size: 3, stride: 2, padding: 1}
  norm: {op: batch_norm2d, eps: 0.001}
  act: {op: leaky_relu, negative_slope: 0.2}
  scaled: {op: affine, scale: 0.5}
outputs: {out: scaled}
expect: {parameters: 120}
"""
