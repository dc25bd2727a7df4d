"""Amounts in the one spelling that the API server gives back, so that desired and live objects compare equal."""

from decimal import ROUND_CEILING, Decimal

_MI = 2**20
_GI = 2**30


def format_cpu(cores: Decimal) -> str:
    """`2`, `1500m` or `1k`, rounded up to thousandths."""
    return _shorten(int((cores * 1000).to_integral_value(ROUND_CEILING)), 1000, ("m", "", "k", "M", "G", "T", "P", "E"))


def format_memory(amount: int) -> str:
    """`8Gi` or `1536Mi`, rounded up to whole Mi."""
    return _shorten(-(-amount // _MI), 1024, ("Mi", "Gi", "Ti", "Pi", "Ei"))


def _shorten(number: int, step: int, units: tuple[str, ...]) -> str:
    """`number` of the first unit, in the largest unit that leaves it whole."""
    power = 0
    while power + 1 < len(units) and number and number % step == 0:
        number, power = number // step, power + 1
    return f"{number}{units[power]}"


def format_for_people(amount: int) -> str:
    """`5.2Gi`, for status and messages."""
    return f"{amount / _GI:.1f}Gi" if amount >= _GI else f"{amount / _MI:.0f}Mi"
