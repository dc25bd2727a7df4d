"""The news of one choice: the word that who makes an answer, who writes it and who logs it share. Nothing else."""

from typing import NamedTuple

from localmodel.api.events import TokenLogprob


class Piece(NamedTuple):
    """News of one choice."""

    choice: int
    """Its number, from 0."""
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: str = ""
    """Of the last piece of this choice only."""
