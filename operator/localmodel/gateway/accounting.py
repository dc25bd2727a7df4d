"""Where every request of the serving port is counted and logged, once, when it has ended.

Metrics and log come from the same record, so their totals are the same.
"""

from localmodel.gateway.exchange import Exchange
from localmodel.gateway.log import RecordLog
from localmodel.gateway.metrics import GatewayMetrics


class Accounting:
    def __init__(self, keep_bodies: bool, metrics: GatewayMetrics, records: RecordLog) -> None:
        """`keep_bodies`: what was sent both ways goes into the log, too."""
        self._keep_bodies = keep_bodies
        self._metrics = metrics
        self._records = records
        self.open_requests = 0

    def begin(self, exchange: Exchange) -> None:
        self.open_requests += 1
        exchange.keep_bodies = self._keep_bodies

    def end(self, exchange: Exchange) -> None:
        self.open_requests -= 1
        self._metrics.count(exchange.record)
        self._records.put(exchange.record, exchange.request_body or b"", exchange.answer)
