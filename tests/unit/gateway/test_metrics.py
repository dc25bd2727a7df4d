"""What a scrape sees before anything has happened."""

from localmodel.gateway.metrics import GatewayMetrics


def test_every_outcome_is_there_before_it_happens() -> None:
    text = GatewayMetrics("qwen").render().decode()
    assert 'localmodel_gateway_requests_total{endpoint="chat",model="qwen",outcome="shed"} 0.0' in text
