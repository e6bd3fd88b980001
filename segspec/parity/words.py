"""Errors, limits and strangers' texts as files for people hold them."""

from __future__ import annotations

import math
import re

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def number(value: float | None) -> str:
    """Two digits and a power of ten; a minus sign does not break a line."""
    if value is None:
        return "none"
    if not math.isfinite(value):
        return "∞"
    return f"{value:.1e}".replace("-", "−") if value else "0"


def power(value: float | None) -> str:
    """The logarithm to the base ten, with a sign, in a few characters."""
    if value is None:
        return "none"
    if not value:
        return "0"
    if not math.isfinite(value):
        return "∞"
    return f"{math.log10(value):+.1f}".replace("-", "−")


def clean(text: str) -> str:
    """Text without the characters that XML and HTML cannot hold, which are shown as Python escapes them."""
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)
