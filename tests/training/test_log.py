"""Photos lost on several ranks: each named once, in the first rank's log alone."""

from __future__ import annotations

from typing import Any

from fewshot_lite.core.ranks import Place, Ranks
from fewshot_lite.data.episode_images import Replaced
from fewshot_lite.training.log import Replacements


class Log:
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def write(self, **values: Any) -> None:
        self.lines.append(values)


class First(Ranks):
    """The first of two ranks, of which the other met with two photos."""

    def __init__(self, others: dict[str, str]) -> None:
        super().__init__(Place(0, 2))
        self.others = others

    def everyone(self, value: Any) -> list[Any]:
        return [value, self.others]


def test_each_is_named_once_whichever_rank_met_with_it() -> None:
    log = Log()
    replaced = Replacements(log, First({"a.jpg": "gone", "b.jpg": "torn"}), lambda: 8)  # type: ignore[arg-type]
    replaced.note(Replaced("a.jpg", "gone"))
    assert [line["path"] for line in log.lines] == ["a.jpg"]
    for _ in range(2):
        replaced.exchange()
    assert [line["path"] for line in log.lines] == ["a.jpg", "b.jpg"]
    assert log.lines[1] == {"event": "replaced", "task": 8, "path": "b.jpg", "reason": "torn"}
    assert replaced.reasons == {"a.jpg": "gone", "b.jpg": "torn"}
