"""Amounts in the one spelling that the API server gives back, so that desired and live objects compare equal."""

from decimal import ROUND_CEILING, Decimal

_MI = 2**20
_GI = 2**30


def format_cpu(cores: Decimal) -> str:
    """`2` or `1500m`, rounded up to thousandths."""
    milli = int((cores * 1000).to_integral_value(ROUND_CEILING))
    return str(milli // 1000) if milli % 1000 == 0 else f"{milli}m"


def format_memory(amount: int) -> str:
    """`8Gi` or `1536Mi`, rounded up to whole Mi."""
    mebibytes = -(-amount // _MI)
    for unit in ("Mi", "Gi", "Ti"):
        if unit == "Ti" or mebibytes % 1024:
            return f"{mebibytes}{unit}"
        mebibytes //= 1024
    raise AssertionError


def format_for_people(amount: int) -> str:
    """`5.2Gi`, for status and messages."""
    return f"{amount / _GI:.1f}Gi" if amount >= _GI else f"{amount / _MI:.0f}Mi"
