"""uvicorn's HTTP protocol, which closes connections whose request headers do not arrive in time.

`Impatient` is created on first access, so that the module can be imported without uvicorn.
"""

from __future__ import annotations

from functools import cache
from typing import Any

#: The seconds within which the headers of a request must arrive.
PATIENCE = 10.0


def __getattr__(name: str) -> Any:
    if name == "Impatient":
        return _impatient()
    raise AttributeError(name)


@cache
def _impatient() -> type[Any]:
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Impatient(H11Protocol):
        _alarm: Any = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._set_alarm(True)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            begun = bool(self.conn.trailing_data[0])
            self._set_alarm(begun and self.conn.their_state is h11.IDLE)

        def connection_lost(self, exc: Exception | None) -> None:
            self._set_alarm(False)
            super().connection_lost(exc)

        def _set_alarm(self, on: bool) -> None:
            """Start or stop the timer, which further data of the headers does not restart."""
            if on and self._alarm is None:
                self._alarm = self.loop.call_later(PATIENCE, self.transport.close)
            elif not on and self._alarm is not None:
                self._alarm.cancel()
                self._alarm = None

    Impatient.__qualname__ = "Impatient"  # by which it is pickled for workers
    return Impatient
