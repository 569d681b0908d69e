"""Outputs are refused before the work and written whole; bases are found by name or path."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import pytest

from fewshot_lite.core import files
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import (
    DEFAULT_MODEL,
    atomic_path,
    check_output,
    find_base,
    models_folder,
)


def refusal(path: Path, *, force: bool = False) -> str:
    """The one line with which an output is refused."""
    with pytest.raises(UsageError) as caught:
        check_output(path, force=force)
    message = str(caught.value)
    assert message.startswith(f"--output {path}: ")
    assert "\n" not in message
    return message


def test_a_new_file_in_a_folder_is_a_good_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_output(tmp_path / "new.safetensors", force=False)
    monkeypatch.chdir(tmp_path)
    check_output(Path("new.safetensors"), force=False)
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_overwritten_only_by_force(tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    path.touch()
    assert "exists already. Use --force" in refusal(path)
    check_output(path, force=True)


@pytest.mark.parametrize("force", [True, False])
def test_a_folder_is_no_output(tmp_path: Path, force: bool) -> None:
    assert "a folder" in refusal(tmp_path, force=force)


@pytest.mark.parametrize("force", [True, False])
def test_the_folder_of_an_output_must_exist(tmp_path: Path, force: bool) -> None:
    message = refusal(tmp_path / "missing" / "x.safetensors", force=force)
    assert f"there is no folder {tmp_path / 'missing'}" in message


def test_a_file_is_no_folder_for_an_output(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "file is a file, not a folder" in refusal(tmp_path / "file" / "x.safetensors")


def test_the_folder_of_an_output_must_be_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not (path == tmp_path and mode & os.W_OK))
    assert f"{tmp_path} cannot be written to" in refusal(tmp_path / "x.safetensors", force=True)


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path  # a rename across file systems would not be atomic
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_was_there_survives_a_failure(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(error), atomic_path(path) as temporary:  # noqa: PT012
        temporary.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_are_as_readable_as_the_umask_says(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        with atomic_path(tmp_path / "x"):
            pass
    finally:
        assert os.umask(before) == umask  # looked at, not changed
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode


def test_a_rewritten_file_keeps_its_mode_and_a_link_its_target(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "x", tmp_path / "link"
    target.write_text("old")
    target.chmod(0o600)  # it may hold pictures
    link.symlink_to(target)
    check_output(link, force=True)
    with atomic_path(link) as temporary:
        temporary.write_text("new")
        assert temporary.parent == target.parent
    assert link.is_symlink()
    assert (link.read_text(), stat.S_IMODE(target.stat().st_mode)) == ("new", 0o600)


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="root alone may give away")
def test_a_rewritten_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.touch()
    os.chown(path, 12_345, 54_321)
    with atomic_path(path) as temporary:
        temporary.write_text("new")
    assert (path.stat().st_uid, path.stat().st_gid) == (12_345, 54_321)


@pytest.mark.parametrize("hard_links", [True, False])
def test_what_appears_during_the_work_is_not_overwritten_without_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    if not hard_links:
        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "x"
    for force, left in ((False, "theirs"), (True, "mine")):
        path.unlink(missing_ok=True)
        refused = (
            contextlib.nullcontext() if force else pytest.raises(FewshotError, match="--force")
        )
        with refused, atomic_path(path, force=force) as temporary:
            temporary.write_text("mine")
            path.write_text("theirs")
        assert path.read_text() == left
        assert list(tmp_path.iterdir()) == [path]
    path.unlink()
    with atomic_path(path, force=False) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_output(pipe, force=False, stream=True)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with atomic_path(pipe, force=False) as temporary:
        temporary.write_text("answers")
        assert temporary.parent != tmp_path
    assert os.read(reader, 100) == b"answers"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    check_output(Path("/dev/stdout"), force=False, stream=True)
    with atomic_path(Path(os.devnull)) as temporary:
        temporary.write_text("lost")
    assert not Path(os.devnull).is_file()


def test_the_bytes_are_on_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "x", []

    def fsync(handle: int) -> None:
        assert not path.exists()
        synced.append((os.fstat(handle).st_ino, os.fstat(handle).st_size))

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_path(path) as temporary:
        temporary.write_text("new")
    assert synced == [(path.stat().st_ino, 3)]


def test_what_a_killed_process_left_is_swept_by_the_next_run_and_nothing_else(
    tmp_path: Path,
) -> None:
    mine = [".fewshot-lite-x-notes", ".fewshot-lite-x-ABCDEFGH", ".fewshot-lite-y-abcdefgh", "x"]
    for name in (*mine, ".fewshot-lite-x-abcd_123"):
        (tmp_path / name).touch()
    with atomic_path(tmp_path / "x") as other:  # another process at work
        assert not (tmp_path / ".fewshot-lite-x-abcd_123").exists()
        with atomic_path(tmp_path / "x"):
            assert other.exists()
    assert {path.name for path in tmp_path.iterdir()} == set(mine)


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three shipped models."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "README.md").touch()
    for name in (DEFAULT_MODEL, "a", "base-v1.2"):
        (folder / f"{name}.safetensors").touch()
    monkeypatch.setattr(files, "models_folder", lambda: folder)
    return folder


def test_a_shipped_model_is_found_by_its_name(shipped: Path) -> None:
    assert find_base("a") == shipped / "a.safetensors"
    assert find_base("base-v1.2") == shipped / "base-v1.2.safetensors"
    assert find_base("default") == shipped / f"{DEFAULT_MODEL}.safetensors"


@pytest.mark.usefixtures("shipped")
def test_a_path_is_a_base(tmp_path: Path) -> None:
    existing = tmp_path / "mine"
    existing.touch()
    assert find_base(existing) == existing
    assert find_base(str(existing)) == existing
    missing = tmp_path / "missing.safetensors"  # whoever reads it says that it is missing
    assert find_base(missing) == missing


@pytest.mark.usefixtures("shipped")
def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        find_base("nonesuch")
    message = str(caught.value)
    assert message.startswith("--base nonesuch: no such file")
    assert message.endswith(f"Shipped: default, a, base-v1.2, {DEFAULT_MODEL}.")


@pytest.mark.parametrize("base", ["default", "nonesuch"])
def test_where_nothing_is_shipped_no_name_is_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    monkeypatch.setattr(files, "models_folder", lambda: tmp_path / "models")
    with pytest.raises(UsageError, match=rf"^--base {base}: .* Shipped: none\.$"):
        find_base(base)


def test_models_lie_in_the_package_or_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "src" / "fewshot_lite"
    package.mkdir(parents=True)
    monkeypatch.setattr(files, "__file__", str(package / "core" / "files.py"))
    assert models_folder() == tmp_path / "models"
    (package / "models").mkdir()
    assert models_folder() == package / "models"


@pytest.mark.parametrize("force", [False, True])
def test_an_output_that_is_a_link_to_itself_is_refused_before_the_work(
    tmp_path: Path, force: bool
) -> None:
    path = tmp_path / "round.safetensors"
    path.symlink_to(path.name)
    with pytest.raises(UsageError, match=r"round\.safetensors: a link that leads back to itself"):
        check_output(path, force=force)
    target = tmp_path / "there.safetensors"
    target.symlink_to("not-yet.safetensors")
    check_output(target, force=force)
