"""Reads what the engine says of its loading, if it says anything: the one place that opens its file."""

import time
from pathlib import Path

from pydantic import ValidationError

from localmodel.api.load_progress import LoadProgress, progress_path


class ProgressReader:
    def __init__(self, channel_token_file: str) -> None:
        self._path = Path(progress_path(channel_token_file))
        self._began = 0.0

    def begin(self) -> None:
        """A load begins: what an engine that was killed left behind does not count."""
        self._began = time.time()

    def read(self) -> LoadProgress | None:
        """None while there is nothing to say."""
        try:
            if self._path.stat().st_mtime < self._began:
                return None
            return LoadProgress.model_validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            return None
