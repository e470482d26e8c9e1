"""The tests. What holds for all that hypothesis runs is set here, as this is imported before any of them.

An example has no deadline, and none is made too slowly: how long that takes tells how busy the machine is. And each run
takes the same examples, as hypothesis does by itself where there is ``CI``: what fails in one fails in the next.
"""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "mailbe", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("mailbe")
