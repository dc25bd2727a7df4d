"""The exception that ends a request: it knows its HTTP form, its outcome, and whether trying again could help.

Which failures exist is said in `errors`, the only place that makes them.
"""

import json
import math
from collections.abc import Mapping

from localmodel.api.gateway import Outcome


class ApiError(Exception):
    """Raised by any part of a request's path; rendered once, by the route that owns the connection."""

    def __init__(
        self,
        status: int,
        code: str | None,
        message: str,
        *,
        outcome: Outcome,
        kind: str = "invalid_request_error",
        param: str | None = None,
        retry_after: float | None = None,
        retry: bool = False,
        allow: str | None = None,
        extra: Mapping[str, str] | None = None,
        resend: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.outcome = outcome
        self.kind = kind
        self.param = param
        self.retry_after = retry_after
        self.retry = retry
        self.allow = allow
        self.extra = dict(extra or {})
        """More headers."""
        self.resend = resend
        """The backend lost this request, or never got it: we may send it again ourselves while the client has no byte."""

    def document(self) -> dict[str, object]:
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def body(self) -> bytes:
        return json.dumps(self.document()).encode()

    def headers(self) -> dict[str, str]:
        headers = {"x-should-retry": "true" if self.retry else "false"}
        if self.retry_after is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after)))
            headers["retry-after-ms"] = str(max(1, math.ceil(self.retry_after * 1000)))
        if self.allow is not None:
            headers["allow"] = self.allow
        return headers | self.extra
