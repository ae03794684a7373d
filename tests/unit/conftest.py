"""How hypothesis runs here: no deadlines, and a failure prints what repeats it."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "unit",
    deadline=None,  # A busy machine is no failure.
    max_examples=60,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("unit")
