"""Which of the tokens that a step chose for one sequence are kept: those that a draft guessed right, and the one after. Pure.

Why it exists: a token that was chosen behind a wrong guess answers a text that nobody wrote. What was drawn and noted for
it must be as if it had never been, so that the next step chooses what it would have chosen without guesses.
"""

from localmodel.api.events import FinishReason
from localmodel.engine.sequence import Output, Sequence, Work, new_tuple


def keep_tokens(work: Work, made: list[int]) -> list[Output]:
    """Takes in a work with a draft: appends to the answer what counts of `made`, [Work.choices]; returns the news, of which the
    last may be an end."""
    sequence, outputs = work.sequence, []
    right = next((number for number, token in enumerate(work.draft) if token != made[number]), len(work.draft))
    for token in made[: 1 + right]:
        outputs.append(keep_token(sequence, token))
        if outputs[-1].finish:
            break
    dropped = len(made) - len(outputs)
    sequence.pending -= 1
    if work.life == sequence.life:
        sequence.computed -= dropped
    sequence.logprobs.clear()
    if sequence.sampling.temperature:
        sequence.undraw(dropped)
    return outputs


def keep_token(sequence: Sequence, token: int) -> Output:
    """Appends it to the answer, which it may end."""
    answer = sequence.answer
    answer.append(token)
    finish: FinishReason | None = None
    if token in sequence.stop_tokens:
        finish = "stop"
    elif len(answer) >= sequence.max_tokens:
        finish = "length"
    logprob = sequence.logprobs.popleft() if sequence.logprobs else None
    return new_tuple(Output, (sequence.key, token, finish, logprob, None))
