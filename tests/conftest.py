"""What holds for tests of all layers. It starts nothing."""

from hypothesis import HealthCheck, settings

settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
"""How long an example takes says more of what else the machine does; what CI sets besides stays."""
