"""One streamed question, printed as the answer comes. For `localmodel run --ask`, with the standard library alone."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from http.client import HTTPException

from localmodel.cli.machine import OPENER
from localmodel.cli.problems import RunFailed

KEY_VARIABLE = "LOCALMODEL_API_KEY"
"""In the environment: the key to ask with, where one is asked for."""


def ask(base_url: str, model: str, question: str, write: Callable[[str], object]) -> None:
    """Streams the answer into `write`. Raises RunFailed with the gateway's own message."""
    body = {"model": model, "stream": True, "temperature": 0, "messages": [{"role": "user", "content": question}]}
    headers = {"content-type": "application/json"}
    if key := os.environ.get(KEY_VARIABLE):
        headers["authorization"] = f"Bearer {key}"
    request = urllib.request.Request(f"{base_url}/chat/completions", json.dumps(body).encode(), headers)
    try:
        with OPENER.open(request) as answer:
            for text in read_stream(answer):
                write(text)
    except urllib.error.HTTPError as error:
        raise RunFailed(f"The model did not answer: HTTP {error.code}: {error.read().decode(errors='replace')}") from None
    except (OSError, HTTPException) as error:
        raise RunFailed(f"The model did not answer: {error}") from None


def read_stream(lines: Iterable[bytes]) -> Iterator[str]:
    """Texts of an OpenAI event stream. Raises RunFailed if it carries an error or ends without [DONE]."""
    for line in lines:
        if not line.startswith(b"data: "):
            continue
        data = line[len(b"data: ") :].strip()
        if data == b"[DONE]":
            return
        event = json.loads(data)
        if "error" in event:
            raise RunFailed(f"The answer broke off: {event['error'].get('message', event['error'])}")
        for choice in event.get("choices", []):
            if text := choice.get("delta", {}).get("content"):
                yield text
    raise RunFailed("The answer broke off: the stream ended without [DONE].")
