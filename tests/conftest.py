"""What all tests share: a test that needs a framework is skipped, with the reason, where it is missing."""

from __future__ import annotations

import importlib.util

import pytest

FRAMEWORKS = {"torch": "PyTorch", "paddle": "PaddlePaddle"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="write anew the files that tests compare with")


@pytest.fixture(scope="session")
def update(request: pytest.FixtureRequest) -> bool:
    """Whether the files that tests compare with are to be written anew."""
    return bool(request.config.getoption("--update"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [name for name in FRAMEWORKS if importlib.util.find_spec(name) is None]
    for item in items:
        for name in missing:
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=f"{FRAMEWORKS[name]} is not installed"))
