"""Dashboards and alert rules as code. Metric names come from api.metrics, never from a string written here."""
