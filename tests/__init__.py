"""The tests. What holds for all that hypothesis runs is set here, as this is imported before any of them.

An example has no deadline: how long it takes tells how busy the machine is.
"""

from hypothesis import settings

settings.register_profile("mailbe", deadline=None)
settings.load_profile("mailbe")
