"""From what /status says over time to the lines of the terminal."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from localmodel.api.gateway import BackendStatus, GatewayStatus
from localmodel.cli.progress import REPEAT_SECONDS, Progress, fetch_status


def status(state: str = "Loading", *, ready: bool = False, message: str = "", reason: str = "", text: str = "") -> GatewayStatus:
    return GatewayStatus(
        pod="p", model="m", version="", gateway_version="0", ready=ready, reason=reason or state, message=text,
        draining=False, slots=1, slots_in_use=0, queue_length=0, backend=BackendStatus(state=state, message=message),
    )  # fmt: skip


def test_a_state_is_said_once_and_repeated_only_after_a_while():
    progress = Progress()
    assert progress.see(None, 0) == ["    0 s  Starting"]
    assert progress.see(None, 1) == []
    assert progress.see(status(), 2) == ["    2 s  Loading"]
    assert progress.see(status(), 3) == []
    assert progress.see(status(), 2 + REPEAT_SECONDS) == ["   12 s  Loading"]


def test_ready_lost_and_back():
    progress = Progress()
    assert progress.see(status("Ready", ready=True), 5) == []
    assert (progress.ready, progress.was_ready) == (True, True)
    assert progress.see(status("Unreachable"), 60) == ["Not ready any more:", "    0 s  Unreachable"]
    assert not progress.ready
    assert progress.see(status("Ready", ready=True), 68) == ["Ready again after 8 s"]
    assert progress.ready


def test_load_failure_keeps_the_message():
    progress = Progress()
    assert progress.see(status("LoadFailed", message="[ModelFilesCorrupt] cut"), 1) == []
    assert progress.failure == "[ModelFilesCorrupt] cut"


def test_a_model_without_tokenizer_will_never_be_ready():
    progress = Progress()
    assert progress.see(status("Ready", reason="TokenizerMissing", text="no tokenizer.json"), 1) == []
    assert progress.failure == "no tokenizer.json"


def test_the_gateways_sentence_is_shown():
    assert Progress().see(status(text="Triton reads the weights."), 2) == ["    2 s  Loading: Triton reads the weights."]


def test_a_load_that_gets_on_is_shown():
    progress = Progress()
    texts = ["10 % of 15.2 GB are read.", "10 % of 15.2 GB are read.", "20 % of 15.2 GB are read."]
    lines = [progress.see(status(text=text), 2 + number) for number, text in enumerate(texts)]
    assert lines == [["    2 s  Loading: 10 % of 15.2 GB are read."], [], ["    4 s  Loading: 20 % of 15.2 GB are read."]]


def test_before_the_first_answer_no_failure_is_claimed():
    progress, waiting = Progress(), status("Ready", reason="NoEvidence", text="The last request got no answer.")
    assert progress.see(waiting, 5) == ["    5 s  Loaded: a test request is under way."]
    assert progress.see(waiting, 6) == []
    progress.see(status("Ready", ready=True), 7)
    assert progress.see(waiting, 9)[1] == "    0 s  NoEvidence: The last request got no answer."


def test_a_proxy_is_not_asked_for_what_is_on_this_machine(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{nobody.getsockname()[1]}")
    monkeypatch.delenv("no_proxy", raising=False)
    test_status_is_fetched_and_anything_else_is_none()


def test_an_answer_that_breaks_off_is_none():
    """The gateway was killed while it spoke."""

    def answer():
        connection, _ = server.accept()
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, daemon=True).start()
        assert fetch_status(f"http://127.0.0.1:{server.getsockname()[1]}") is None


def test_status_is_fetched_and_anything_else_is_none():
    bodies = [status("Ready", ready=True).model_dump_json().encode(), b"not json", b"{}"]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            assert self.path == "/status"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(bodies.pop(0))

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    seen = fetch_status(url)
    assert seen and seen.ready
    assert fetch_status(url) is None
    assert fetch_status(url) is None
    server.shutdown()
    server.server_close()
    assert fetch_status(url) is None
