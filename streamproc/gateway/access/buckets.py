"""Token buckets by name, several windows each, in bounded memory. Pure: the time is an argument."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from streamproc.settings.access import Window

#: Names that are remembered: one has some 250 bytes, so that they are 16 MB at most. A fleet has fewer addresses at once.
NAMES = 65_536
#: How many of the oldest are looked at for each new name: two, so that full ones go faster than new ones come.
_LOOKS = 2


class Buckets:
    """For each name one token bucket a window; a token is taken from all of them, or from none.

    A bucket is kept as the moment at which it is full again (GCRA): one number, that needs no refilling. Who has not been
    seen for as long as the longest window has full buckets, and is forgotten. Beyond `names` who was seen longest ago is
    forgotten all the same, in his favour.

    >>> buckets = Buckets([Window(2, 10)])
    >>> [round(buckets.take("a", now), 3) for now in (0.0, 0.0, 1.0, 5.0)]
    [0.0, 0.0, 4.0, 0.0]
    """

    def __init__(self, windows: Sequence[Window], names: int = NAMES) -> None:
        self.windows = tuple(windows)
        #: Of each window: seconds that a token takes to come, and how far ahead its full moment may lie while one is there.
        self._rates = [(window.seconds / window.tokens, _slack(window)) for window in windows]
        self._names = names
        self._full_at: OrderedDict[str, list[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, name: str, now: float) -> float:
        """Take a token; gives 0, or the seconds until there is one, and then takes none."""
        full_at = self._full_at.get(name)
        if full_at is None:
            self._begin(name, now)
            return 0.0
        taken = []
        wait = 0.0
        for (interval, slack), at in zip(self._rates, full_at, strict=True):
            begin = max(now, at)
            if begin - now > slack:
                wait = max(wait, begin - now - slack)
            taken.append(begin + interval)
        if wait:
            return wait
        self._full_at[name] = taken
        self._full_at.move_to_end(name)
        return 0.0

    def wait(self, name: str, now: float) -> float:
        """The seconds until there is a token, without taking it."""
        full_at = self._full_at.get(name)
        if full_at is None:
            return 0.0
        waits = [at - now - slack for (_, slack), at in zip(self._rates, full_at, strict=True)]
        return max(0.0, *waits)

    def tightest(self, name: str, now: float) -> Window:
        """The window that makes the name wait longest: the one to tell a client of."""
        full_at = self._full_at.get(name) or [now] * len(self.windows)
        waits = [at - now - slack for (_, slack), at in zip(self._rates, full_at, strict=True)]
        return self.windows[waits.index(max(waits))]

    def _begin(self, name: str, now: float) -> None:
        known = self._full_at
        if not self._rates:
            return
        for _ in range(_LOOKS):
            oldest = next(iter(known), None)
            if oldest is None or (max(known[oldest]) > now and len(known) < self._names):
                break
            del known[oldest]
        known[name] = [now + interval for interval, _ in self._rates]


def _slack(window: Window) -> float:
    """How far ahead the full moment may lie; a millionth of a token more, for what adding up floats loses."""
    return window.seconds * (1 - (1 - 1e-6) / window.tokens)
