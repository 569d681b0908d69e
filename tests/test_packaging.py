"""The package: shipped models without the scripts that made them, and extras stay optional."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: Imports every module where nothing can be imported that the core dependencies do not bring.
_IMPORT_ALL = """
import importlib, pkgutil, re, sys
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions

allowed, waiting = set(), ["fewshot-lite"]
while waiting:
    name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
    if name in allowed:
        continue
    try:
        requirements = distribution(name).requires or []
    except PackageNotFoundError:
        continue
    allowed.add(name)
    waiting += [re.match(r"[\\w.-]+", r)[0] for r in requirements if "extra ==" not in r]
optional = {
    module
    for module, owners in packages_distributions().items()
    if not any(re.sub(r"[-_.]+", "-", owner).lower() in allowed for owner in owners)
}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in optional:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
import fewshot_lite
names = [m.name for m in pkgutil.walk_packages(fewshot_lite.__path__, "fewshot_lite.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names), "matplotlib" in optional)
"""


@pytest.mark.slow
def test_every_module_imports_with_the_core_dependencies_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    number, blocked = done.stdout.split()
    assert int(number) > 100
    assert blocked == "True", "nothing was blocked"


def test_the_package_has_models_and_cards_and_none_of_their_scripts() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["hatch"]["build"]["targets"]["wheel"]["include"]
    files = [path.relative_to(ROOT).as_posix() for path in (ROOT / "models").rglob("*.*")]
    taken = {name for name in files if any(fnmatch(name, pattern) for pattern in patterns)}
    assert {name.rpartition(".")[2] for name in taken} == {"safetensors", "md"}
    assert any(name.endswith(".sh") for name in files), "no script to leave out"


def test_public_names_are_listed() -> None:
    """As Tab in an interactive session asks for them; they are imported when first used."""
    code = "import fewshot_lite, sys; print(*dir(fewshot_lite), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *names, torch = done.stdout.split()
    assert {"load", "FewShotClassifier", "__version__", "__doc__"} <= set(names)
    assert torch == "False"
