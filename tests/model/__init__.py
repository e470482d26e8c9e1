"""A small mail server for the checks of conformance: it keeps the rules that they try, but for the fault it is given.

It is made of threads and blocking sockets, keeps its one mailbox in memory, and has all the extensions that a check
asks for. It is no model in any other way.
"""

from tests.model.server import Model
from tests.model.talk import ADDRESS, COPIES, PASSWORD, USER, Fault

__all__ = ["ADDRESS", "COPIES", "PASSWORD", "USER", "Fault", "Model"]
