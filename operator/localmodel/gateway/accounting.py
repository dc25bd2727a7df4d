"""Where every request of the serving port is counted and logged, once, when it has ended.

Metrics and log come from the same record, so their totals are the same.
"""

from typing import Literal

from localmodel.gateway.exchange import Exchange
from localmodel.gateway.log import RecordLog
from localmodel.gateway.metrics import GatewayMetrics
from localmodel.gateway.record import encode


class Accounting:
    def __init__(self, mode: Literal["None", "Metadata", "Full"], metrics: GatewayMetrics, records: RecordLog) -> None:
        self._mode = mode
        self._metrics = metrics
        self._records = records
        self.open_requests = 0

    def begin(self, exchange: Exchange) -> None:
        self.open_requests += 1
        exchange.keep_bodies = self._mode == "Full"

    def end(self, exchange: Exchange) -> None:
        self.open_requests -= 1
        self._metrics.count(exchange.record)
        if self._mode == "Full":
            answer = b"".join(exchange.response_body)
            self._records.put(encode(exchange.record, exchange.request_body or b"", answer))
        elif self._mode == "Metadata":
            self._records.put(encode(exchange.record))
