"""Asks a model once through the openai SDK, shows the answer as it streams, and then how fast it was.

For `make demo` and for anyone with an endpoint. It waits while the endpoint is starting; every other failure is told at once.

    python hack/ask.py --url http://127.0.0.1:8080/v1 --model smollm2 --prompt "Name the capital of France."
"""

import argparse
import sys
import time
from typing import NamedTuple
from urllib.parse import urlsplit

import openai

RETRY_SECONDS = 0.5
LEAST_SECONDS = 0.02
"""An answer that is read at once says nothing of the model's rate: it had been waiting for its reader."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""A proxy that the environment names can't reach these."""


class Measured(NamedTuple):
    prompt_tokens: int
    completion_tokens: int
    first_token_seconds: float
    total_seconds: float

    def describe(self) -> str:
        """Tokens per second are those after the first: the wait for the first is told apart. None if all came together."""
        after = self.total_seconds - self.first_token_seconds
        known = self.completion_tokens > 1 and after >= LEAST_SECONDS
        rate = f"{(self.completion_tokens - 1) / after:.1f} tokens/s" if known else "no rate, too soon to measure"
        first = f"first after {self.first_token_seconds * 1000:.0f} ms"
        return f"[{self.prompt_tokens} tokens in, {self.completion_tokens} out; {first}; then {rate}]"


def is_starting(error: Exception) -> bool:
    """True for a refused connection and for 503: asking again a moment later may succeed."""
    if isinstance(error, openai.APITimeoutError):
        return False
    return isinstance(error, openai.APIConnectionError) or getattr(error, "status_code", 0) == 503


def ask(client: openai.OpenAI, model: str, prompt: str) -> Measured:
    """Streams one answer to standard output. Raises openai.OpenAIError."""
    began = time.monotonic()
    first, usage = None, None
    stream = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompt}], stream=True, stream_options={"include_usage": True},
        temperature=0, max_tokens=256,
    )  # fmt: skip
    for chunk in stream:
        usage = chunk.usage or usage
        text = chunk.choices[0].delta.content if chunk.choices else None
        if text:
            first = first or time.monotonic()
            sys.stdout.write(text)
            sys.stdout.flush()
    print()
    ended = time.monotonic()
    prompt_tokens, completion_tokens = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
    return Measured(prompt_tokens, completion_tokens, (first or ended) - began, ended - began)


def ask_when_started(client: openai.OpenAI, model: str, prompt: str, wait_seconds: float) -> Measured:
    """As `ask`, but patient with an endpoint that is starting. Raises the last openai.OpenAIError."""
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return ask(client, model, prompt)
        except openai.OpenAIError as error:
            if not is_starting(error) or time.monotonic() > deadline:
                raise
        time.sleep(RETRY_SECONDS)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--url", default="http://127.0.0.1:8080/v1", help="base URL (default: %(default)s)")
    parser.add_argument("--model", required=True, help="a served name of the model")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--wait", type=float, default=60, help="seconds to wait for the endpoint (default: %(default)s)")
    options = parser.parse_args(arguments)
    proxied = urlsplit(options.url).hostname not in LOOPBACK
    http = openai.DefaultHttpxClient(trust_env=proxied)
    client = openai.OpenAI(base_url=options.url, api_key="none", max_retries=0, timeout=120, http_client=http)
    try:
        print(ask_when_started(client, options.model, options.prompt, options.wait).describe())
    except openai.APIConnectionError as error:
        print(f"\n{options.url} can't be reached: {error.__cause__ or error}", file=sys.stderr)
        return 1
    except openai.OpenAIError as error:
        print(f"\n{options.url} did not answer: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
