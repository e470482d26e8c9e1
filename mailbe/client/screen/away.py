"""Work that waits for a server, away from the screen: in a thread, of which nobody waits for the end.

Textual's own threads are waited for when the program ends, so a server that never answers would hold whoever wants
to leave. These are not: what they still had to say when nobody waits any more is forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import TypeVar

THREADS = "mailbe client"  # what they are called
_Value = TypeVar("_Value")


async def away(work: Callable[[], _Value]) -> _Value:
    """Carry out ``work`` in a thread of its own, and return what it returned, or raise what it raised.

    Who stops waiting (cancels) does not stop the work; what it waits for must be closed under it.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[_Value] = loop.create_future()

    def tell(how: Callable[[], None]) -> None:
        if not outcome.done():
            how()

    def run() -> None:
        how: Callable[[], None]
        try:
            how = partial(outcome.set_result, work())
        except Exception as error:
            how = partial(outcome.set_exception, error)
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(tell, how)

    Thread(target=run, daemon=True, name=THREADS).start()
    return await outcome
