"""hack/ask.py against a server that starts, answers, refuses and is not there."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import ask
from localmodel.cli.machine import find_free_port


def stream() -> bytes:
    head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    chunks = [
        {**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
        {**head, "choices": [{"index": 0, "delta": {"content": "Paris"}}]},
        {**head, "choices": [{"index": 0, "delta": {"content": "."}, "finish_reason": "stop"}]},
        {**head, "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}},
    ]
    return b"".join(b"data: " + json.dumps(c).encode() + b"\n\n" for c in chunks) + b"data: [DONE]\n\n"


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    """Answers each request with the next of `server.answers`: a status and a body."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            status, body = self.server.answers.pop(0)
            self.send_response(status)
            self.send_header("content-type", "text/event-stream" if status == 200 else "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def run(port: int, *more: str) -> int:
    return ask.main(["--url", f"http://127.0.0.1:{port}/v1", "--model", "m", "--prompt", "?", *more])


def test_a_proxy_is_not_asked_for_what_is_on_this_machine(server, capsys, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{find_free_port()}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server.answers = [(200, stream())]
    assert run(server.server_port, "--wait", "0") == 0
    assert capsys.readouterr().out.startswith("Paris.")


def test_waits_for_the_start_then_streams_and_measures(server, capsys, monkeypatch):
    monkeypatch.setattr(ask, "RETRY_SECONDS", 0.01)
    server.answers = [(503, b'{"error": {"message": "loading"}}'), (200, stream())]
    assert run(server.server_port) == 0
    answer, measured = capsys.readouterr().out.splitlines()
    assert answer == "Paris."
    assert measured.startswith("[7 tokens in, 3 out; first after ")


def test_a_refusal_is_told_and_not_repeated(server, capsys):
    server.answers = [(404, b'{"error": {"message": "The model m does not exist."}}')]
    assert run(server.server_port) == 1
    assert "The model m does not exist." in capsys.readouterr().err


def test_nobody_there(capsys):
    assert run(find_free_port(), "--wait", "0") == 1
    assert "can't be reached" in capsys.readouterr().err


def test_the_first_token_does_not_count_into_the_rate():
    assert ask.Measured(7, 11, 1.0, 3.0).describe() == "[7 tokens in, 11 out; first after 1000 ms; then 5.0 tokens/s]"
    assert "no rate" in ask.Measured(7, 1, 1.0, 1.0).describe()
    assert "no rate" in ask.Measured(36, 8, 0.244, 0.2451).describe(), "6364 tokens per second is the reader's speed"
