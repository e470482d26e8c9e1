"""What a supervisor and its workers say to one another. Each of these is one message on the line between the two."""

from __future__ import annotations

from dataclasses import dataclass

from mailbe.board import Handle
from mailbe.configuration import Configuration


@dataclass(frozen=True, slots=True)
class Door:
    """A port that the supervisor has opened."""

    listener: str
    """Its name in ``Configuration.endpoints``."""
    descriptor: int
    family: int
    """Of addresses, as ``socket`` has it."""
    proxied: bool
    """Whether it is for balancers."""


@dataclass(frozen=True, slots=True)
class Task:
    """The first word to a worker: all that it needs. It inherits the descriptors."""

    number: int
    """Which worker it is, from 0."""
    configuration: Configuration
    doors: tuple[Door, ...]
    certificate: tuple[int, int]
    """Files in memory: the certificate, with those that signed it, and its key. A worker may be one user who may not
    read the files, and be started when there is a bad certificate in them."""
    lock: int
    """The descriptor that holds the lock on maildata as long as anybody has it."""
    board: Handle
    log_to_stdout: bool
    """Whether the log is the standard output, so that it can write there by itself."""


@dataclass(frozen=True, slots=True)
class Reload:
    """To a worker: look at the certificate again."""


@dataclass(frozen=True, slots=True)
class Stop:
    """To a worker: finish what is going on, and end. The line's end means the same."""


@dataclass(frozen=True, slots=True)
class Ready:
    """From a worker: it answers clients."""


@dataclass(frozen=True, slots=True)
class Refused:
    """From a worker, and its last word: why it cannot serve, in one line."""

    reason: str


@dataclass(frozen=True, slots=True)
class Deaf:
    """From a worker: it stops, and takes no more clients."""


@dataclass(frozen=True, slots=True)
class Logged:
    """From a worker: what is to stand in the log."""

    time: float
    namespace: str
    level: str
    system: str | None
    """What stands in the place of these two, if anything does."""
    text: str
