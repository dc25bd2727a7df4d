"""A constant load through a model's Service: every request's end is kept, none is retried."""

import threading
import time

from e2e.world import World


class Load:
    """`clients` threads that ask one after another until stopped; use as a context manager."""

    def __init__(self, world: World, name: str, clients: int = 2) -> None:
        self.world, self.name = world, name
        self.answers = 0
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(90)

    def _ask(self) -> None:
        client = self.world.client(self.name)
        while not self._stop.is_set():
            try:
                stream = client.chat.completions.create(
                    model=self.name, messages=[{"role": "user", "content": "Count to ten."}], max_tokens=16, stream=True
                )
                reasons = [chunk.choices[0].finish_reason for chunk in stream if chunk.choices]
                if reasons[-1] is None:
                    raise RuntimeError("a stream ended without a finish_reason")
                self.answers += 1
            except Exception as error:
                self.failures.append(f"{time.strftime('%H:%M:%S')} {type(error).__name__}: {error}")
