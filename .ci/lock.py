"""The versions installed here of all that the extra "dev" brings, as constraints for pip.

    python .ci/lock.py > .ci/constraints.txt    in an environment that the tests passed in

Without the builds' own tags, and without what torch pins itself for one system and its GPUs.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

_OURS = "fewshot-lite"
#: What torch pins by itself.
_TORCHS = re.compile(r"(nvidia|cuda|triton)(-|$)")


def needed_by(name: str, extra: str) -> Iterator[str]:
    """Requirements of a package, or of an extra of it."""
    if name == _OURS:
        project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
        yield from project["optional-dependencies"][extra] if extra else project["dependencies"]
        return
    for line in requires(name) or []:
        only = re.search(r"extra\s*==\s*['\"]([^'\"]+)", line)
        if (only[1] if only else "") == extra:
            yield line


def main() -> None:
    waiting, seen, found = [(_OURS, ""), (_OURS, "dev")], set[tuple[str, str]](), dict[str, str]()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            if name != _OURS and not _TORCHS.match(name):
                found[name] = version(name).partition("+")[0]
            lines = list(needed_by(name, extra))
        except PackageNotFoundError:  # for another system or Python
            continue
        for line in lines:
            parts = re.match(r"([\w.-]+)\s*(?:\[([^]]*)\])?", line)
            assert parts is not None
            other = re.sub(r"[-_.]+", "-", parts[1]).lower()
            extras = [part.strip() for part in (parts[2] or "").split(",")]
            waiting += [(other, wanted) for wanted in {"", *extras}]
    print("# Versions that the tests passed with; .ci/lock.py prints them.")
    print(*(f"{name}=={release}" for name, release in sorted(found.items())), sep="\n")


if __name__ == "__main__":
    main()
