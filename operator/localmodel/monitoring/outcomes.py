"""Which of the gateway's outcomes are a problem, and whose: one list for dashboards and alert rules."""

SHED = ("shed", "queue_timeout")
"""Too little capacity. Nothing is broken."""
FAILED = (
    "first_token_timeout",
    "idle_timeout",
    "total_timeout",
    "upstream_error",
    "protocol_error",
    "internal_error",
)
"""Taken in and not answered: ours to repair."""


def one_of(outcomes: tuple[str, ...]) -> str:
    """A matcher for the label `outcome`."""
    return f'outcome=~"{"|".join(outcomes)}"'
