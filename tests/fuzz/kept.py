"""Random specs agree, what they found stays mended, and each fault is found: run by :mod:`test_fuzz`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from drawing import Case, kept

CASES = sorted(path.parent for path in (Path(__file__).parent / "cases").glob("*/spec.yaml"))


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


SAMPLE = range(0, 50, 10)
"""The first seeds of the random specs that the suite examines, ten each."""


@pytest.mark.torch
@pytest.mark.paddle
@pytest.mark.parametrize("seed", SAMPLE)
def test_random_specs_agree(seed: int) -> None:
    from fuzz import sample

    health, failed = sample(seed, SAMPLE.step)
    assert not failed
    assert health["runs compared"] >= SAMPLE.step


@pytest.mark.torch
@pytest.mark.paddle
@pytest.mark.parametrize(
    ("written", "broken", "kind"),
    [
        ("stride=2", "stride=1", "Shape_paddle"),
        ("negative_slope=0.2", "negative_slope=0.2000001", "Differs_output_eval"),
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
