"""The two ways a command ends badly, each as one sentence for the user. No traceback is shown for either."""


class Problem(Exception):
    """Something to put right before anything can run; the message says what to do."""

    exit_code = 2


class RunFailed(Problem):
    """Everything asked for was in order, but what was started failed."""

    exit_code = 1
