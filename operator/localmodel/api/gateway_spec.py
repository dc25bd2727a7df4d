"""`spec.gateway` of a LocalModel, as users write it: time limits, queue, retries, breaker, log, keys.

Like `spec`: a rule that CEL can check stands in the field's type, and a class's docstring is its field's description.
"""

from typing import Annotated, Literal

from pydantic import Field

from localmodel.api.access import Auth, AuthSpec, Limits
from localmodel.api.request_log import GatewayLogging, Logging
from localmodel.api.rules import Rule
from localmodel.api.values import BYTES_PATTERN, INT_OR_STRING, Duration, SpecModel, parse_bytes


class GatewayTimeouts(SpecModel):
    """Time limits of a request, such as 30s, 1m30s or 500ms; at most 24h. Each is capped by `total` at run time."""

    queue: Duration = Field("30s", description="Longest wait in the queue before the engine gets the request.")
    first_token: Duration = Field("30s", description="From sending to the engine until the first token.")
    idle: Duration = Field("30s", description="Longest pause between tokens after the first.")
    total: Duration = Field("10m", description="Request head to last byte, slow readers included.")


QueueBytes = Annotated[
    str | int,
    INT_OR_STRING,
    Rule(
        "type(self) == int ? self >= 8388608 && self <= 1099511627776 : "
        f"(self.matches(r'^({BYTES_PATTERN})$') && quantity(self).compareTo(quantity('8Mi')) >= 0"
        " && quantity(self).compareTo(quantity('1Ti')) <= 0)",
        "write an amount from 8Mi, the largest body of a request, to 1Ti, such as 64Mi",
        lambda value: 8 * 2**20 <= parse_bytes(value) <= 2**40,
    ),
]


class GatewayConcurrency(SpecModel):
    """How much is taken in at once, so that one overload does not become an avalanche."""

    max: int = Field(0, ge=0, le=4096, description="Requests running at once per replica; 0: the engine's maxBatchSize.")
    queue: int = Field(64, ge=0, le=65536, description="Requests that may wait; more are answered 503 with retry-after.")
    queue_bytes: QueueBytes = Field(
        "32Mi", description="What the waiting requests may hold in the gateway's memory together: bodies and tokens."
    )


class GatewayRetries(SpecModel):
    """Sending a request to the engine again that failed before its first text: the engine's process died, no connection was
    made, or Triton answered 503. Never after a time limit, an error of the client's, or a byte of the answer."""

    attempts: int = Field(2, ge=0, le=10, description="How often one request is sent again; 0: never.")
    budget_percent: int = Field(
        10, ge=0, le=100, description="Retries in any minute: at most this share of its requests, plus three."
    )


class GatewayBreaker(SpecModel):
    """Stops sending to an engine that failed several times in a row (no connection, an error, no first token in time):
    requests are answered 503 at once, then one probe decides."""

    failures: int = Field(5, ge=0, le=1000, description="Failures in a row that open it; 0: never.")
    open_for: Duration = Field("5s", description="Until the first probe; doubled after each failed one, up to a minute.")


class GatewaySpec(SpecModel):
    """The sidecar in front of the model."""

    timeouts: GatewayTimeouts = GatewayTimeouts()
    concurrency: GatewayConcurrency = GatewayConcurrency()
    retries: GatewayRetries = GatewayRetries()
    breaker: GatewayBreaker = GatewayBreaker()
    logging: Logging = GatewayLogging()
    page: bool = Field(True, description="The chat page for people, at / of the serving port; for text generation only.")
    long_input: Literal["Reject", "Truncate", "Segment"] = Field(
        "Reject",
        description="A chat longer than contextWindow. Reject: 400. Truncate: leave out its oldest turns, then the middle of its "
        "longest message. Segment: read the longest message of the user in parts and join the answers. The answer says so.",
    )
    auth: Auth = AuthSpec()
    limits: Limits = ()


Gateway = Annotated[
    GatewaySpec,
    Rule(
        "!has(self.limits) || self.auth.mode == 'APIKey' || self.limits.all(l, l.key == '*')",
        "write auth.mode APIKey with limits of a named key; without keys only '*' has a meaning: all callers together",
        lambda gateway: gateway.auth.mode == "APIKey" or all(each.key == "*" for each in gateway.limits),
        ".limits",
    ),
]
