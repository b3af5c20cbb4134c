"""Who may use this machine: many processes at work together, or one that measures, alone.

Latency is measured alone on a machine, while everything else that protege does there waits, be it
of this study or of another one of the same user. Two files are locked: one says who is at work, the
other is a turnstile, held by whoever measures or waits to, so that a stream of short pieces of work
cannot keep a measurement waiting for ever.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from protege.spaces.files.locks import locked, of_this_user


@contextmanager
def working() -> Iterator[None]:
    """A piece of work of some seconds at most, beside others; waits while somebody measures.

    Inside it nothing may be waited for that another process has: that one might wait for this.
    """
    with locked(of_this_user("turn")):
        pass
    with locked(of_this_user("work"), shared=True):
        yield


@contextmanager
def alone() -> Iterator[None]:
    """A measurement: nobody else measures, and nobody is at work."""
    with locked(of_this_user("turn")), locked(of_this_user("work")):
        yield
