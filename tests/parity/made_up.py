"""Reports of networks that nobody ran: comparisons as they might be, also of strangers who mean ill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from segspec.parity.compare import Comparison
from segspec.parity.findings import Finding
from segspec.parity.verify import Report

HOSTILE = "</code><script>alert(1)</script>\" onclick='x' \x00\x1b[31m\ud800￾ {{ 7 * 7 }} ]]>"
"""What ends or opens what it stands in, in HTML, XML, templates and terminals, and what none of them can hold."""

NODES = (
    ("enc.conv", "conv2d"),
    ("enc.bn", "batch_norm2d"),
    ("enc", "ConvBnRelu"),
    ("pool", "max_pool2d"),
    ("logits", "conv2d"),
)
PASSES = (
    ("nodes", "32x48", "eval", "float64"),
    ("nodes", "32x48", "train", "float32"),
    ("replay", "32x48", "eval", "float64"),
)


def comparison(
    check: str, subject: str, error: float | None, limit: float = 1e-10, size: str = "32x48", note: str = ""
) -> Comparison:
    """One comparison in eval mode, in float64."""
    ok = error is not None and error <= limit
    return Comparison(check, size, "eval", "float64", subject, "", (3, 4, 8, 8), error, limit, ok, note)


def comparisons(nodes: Sequence[tuple[str, str]] = NODES, wrong: str = "") -> Iterator[Comparison]:
    """Of every node in every pass; from ``wrong`` on they differ end to end, and it alone by itself."""
    yield comparison("outputs", "logits", 0.5 if wrong else 2e-14)
    yield comparison("sgd", "loss after step 1", 0.0)
    start = comparison("start quantiles", "enc.conv.weight", 0.02, 0.06, size="")
    yield replace(start, mode="start", dtype="float32")
    noisy = comparison("gradients", "enc.conv.weight", 0.5, 0.1, note="noise")
    yield replace(noisy, dtype="float32", ok=True, gates=False)
    for check, size, mode, dtype in PASSES:
        differs = False
        for path, what in nodes:
            differs = path == wrong or (differs and check == "nodes")
            error, limit = (3e-15, 1e-10) if dtype == "float64" else (2e-6, 3e-5)
            error = 0.25 if differs else error
            yield Comparison(check, size, mode, dtype, path, what, (3, 4, 8, 8), error, limit, not differs)


def report(nodes: Sequence[tuple[str, str]] = NODES, **changes: object) -> Report:
    """A report of a network that agrees, but for what is changed."""
    held = Report(
        spec="made_up",
        preset="small",
        backends=("one", "other"),
        comparisons=tuple(comparisons(nodes)),
        failures=(),
        first=None,
        faults=(),
        nodes=tuple(nodes),
        environment={"One": {"version": "1.0", "python": "3.11.7"}, "Other": {"version": "2.0", "numpy": "2.1"}},
        times={
            "32x48 eval float64": 1.5,
            "32x48 train float32": 0.5,
            "32x48 eval float64 replay": 0.25,
            "sgd": 2.0,
            "starts": 4.0,
        },
        digest="0123abcd",
        command="segspec verify made_up.yaml --preset small --size 32x48",
        finished="2026-11-21T12:00:00+00:00",
    )
    return replace(held, **changes)  # type: ignore[arg-type]


def finding(path: str, check: str = "nodes", **changes: object) -> Finding:
    """A node that differs, with a source line in each backend."""
    held = Finding(
        path,
        "max_pool2d",
        comparison(check, path, 0.25),
        "meaning: 2.5e+09 times what rounding explains",
        (("enc", 3e-15),),
        (("One", ((41, "x = pool(x, ceil=True)  # <N>"),)), ("Other", ((52, "x = pool(x, ceil=False)"),))),
    )
    return replace(held, **changes)  # type: ignore[arg-type]


def differing(**changes: object) -> Report:
    """A network whose ``pool`` differs, and after which everything does."""
    held = tuple(comparisons(wrong="pool"))
    first = finding("pool", comparison=next(item for item in held if item.subject == "pool"))
    return replace(report(comparisons=held, first=first, faults=(finding("pool", "replay"),)), **changes)  # type: ignore[arg-type]


def hostile() -> Report:
    """A network of which every text is hostile."""
    nodes = ((HOSTILE, HOSTILE), *NODES)
    held = [*comparisons(nodes), comparison("nodes", HOSTILE, None, note=HOSTILE)]
    lines = ((HOSTILE, ((1, HOSTILE),)),)
    found = Finding(HOSTILE, HOSTILE, held[-1], HOSTILE, ((HOSTILE, None),), lines, (HOSTILE,))
    environment: Mapping[str, Mapping[str, str]] = {HOSTILE: {HOSTILE: HOSTILE}}
    return report(
        nodes,
        spec=HOSTILE,
        preset=HOSTILE,
        backends=(HOSTILE, "other"),
        comparisons=tuple(held),
        failures=((HOSTILE, HOSTILE, f"Traceback\n{HOSTILE}"),),
        first=found,
        faults=(found, replace(found, path="enc")),
        environment=environment,
        times={HOSTILE: 1.0},
        digest=HOSTILE,
        command=HOSTILE,
    )
