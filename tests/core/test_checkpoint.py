"""Files come back as they went, or with one line that says what is wrong with them."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewshot_lite.core import checkpoint, tensor_files
from fewshot_lite.core.errors import TAKE_ANOTHER, FewshotError, UsageError

TENSORS = {
    "matrix": torch.linspace(-3, 3, 12).view(3, 4),
    "vector": torch.tensor([1e-7, 70_000.0, 1 / 3]),
    "scalar": torch.tensor(0.1),
    "kernel": torch.linspace(0, 1, 16).view(1, 2, 2, 4).to(memory_format=torch.channels_last),
    "turned": torch.linspace(0, 1, 6).view(2, 3).T,
    "nothing": torch.zeros(0, 4),
    "count": torch.tensor(7),
    "labels": torch.tensor([[2**40, 0]]),
    "flags": torch.tensor([True, False]),
}
META = {"backbone": "resnet18", "classes": ["a", "ü"], "nested": {"lr": 1e-3, "none": None}}


def assert_equal(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(got) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=0, atol=0)  # dtypes too


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A checkpoint of kind "meta"."""
    path = tmp_path / "file.safetensors"
    checkpoint.save(path, "meta", TENSORS, META)
    return path


def refusal(path: Path, *kinds: str, flag: str = "") -> tuple[type[FewshotError], str]:
    """Class and text of the error with which a file is refused."""
    with pytest.raises(FewshotError) as caught:
        checkpoint.load(path, *kinds, flag=flag)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert str(path) in message
    return caught.type, message


def test_what_goes_in_comes_out(path: Path) -> None:
    found = checkpoint.load(path, "backbone", "meta")
    assert found.kind == "meta"
    assert_equal(found.tensors, TENSORS)
    assert found.meta == {"format": checkpoint.FORMAT, "kind": "meta", **META}
    assert checkpoint.read_meta(path) == found.meta


def test_learned_parameters_are_saved_as_plain_tensors(tmp_path: Path) -> None:
    path = tmp_path / "x"
    parameter = torch.nn.Parameter(torch.ones(2))
    checkpoint.save(path, "meta", {"p": parameter * 2, "q": parameter}, {})
    found = checkpoint.load(path, "meta").tensors
    assert not any(value.requires_grad for value in found.values())
    assert_equal(found, {"p": torch.full((2,), 2.0), "q": torch.ones(2)})


def test_half_leaves_what_would_overflow_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    tensors = {"large": torch.tensor([[1e5, 1.0]]), "usual": torch.tensor([[6e4, 1.0]])}
    checkpoint.save(path, "backbone", tensors, {}, half=True)
    loaded = checkpoint.load(path, "backbone").tensors
    assert torch.equal(loaded["large"], tensors["large"])
    assert torch.equal(loaded["usual"], tensors["usual"].half().float())


def test_half_stores_matrices_in_half_the_space_and_loads_them_as_float32(tmp_path: Path) -> None:
    path = tmp_path / "x"
    checkpoint.save(path, "backbone", TENSORS, {}, half=True)
    halved = {"matrix", "kernel", "turned", "nothing"}
    for name, stored in load_file(path).items():
        assert stored.dtype == (torch.float16 if name in halved else TENSORS[name].dtype), name
    expected = {k: v.half().float() if k in halved else v for k, v in TENSORS.items()}
    assert_equal(checkpoint.load(path, "backbone").tensors, expected)


def test_what_was_read_in_half_precision_is_stored_so_unless_that_loses_something(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x"
    checkpoint.save(path, "backbone", TENSORS, {}, half=True)
    first = path.read_bytes()
    loaded = checkpoint.load(path, "backbone")
    assert loaded.halved == {"matrix", "kernel", "turned", "nothing"}
    checkpoint.save(path, "backbone", loaded.tensors, {}, halved=loaded.halved)
    assert path.read_bytes() == first
    changed = {**loaded.tensors, "matrix": loaded.tensors["matrix"] + 1e-5}
    checkpoint.save(path, "backbone", changed, {}, halved=loaded.halved)
    assert_equal(checkpoint.load(path, "backbone").tensors, changed)
    assert load_file(path)["kernel"].dtype == torch.float16


def test_the_state_to_resume_from_keeps_its_precision(tmp_path: Path) -> None:
    path = tmp_path / "x"
    tensors = {"exact": torch.ones(2, 2, dtype=torch.float16), "moment": torch.ones(2).double()}
    checkpoint.save(path, "state", tensors, {})
    assert_equal(checkpoint.load(path, "state").tensors, tensors)


@pytest.mark.parametrize("kind", ["backbone", "meta", "personal", "state"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    checkpoint.save(path, kind, {}, {})
    (other,) = {"meta", "personal"} - {kind} if kind in ("meta", "personal") else {"meta"}
    error, message = refusal(path, other, flag="--model")
    assert error is UsageError
    assert message.startswith(f"--model {path}: {checkpoint.describe(kind)}; ")
    assert f"{checkpoint.describe(other)} (made by " in message


@pytest.mark.parametrize("command", ["adapt", "meta-train"])
def test_a_refusal_names_the_command_that_makes_the_right_file(path: Path, command: str) -> None:
    right = "personal" if command == "adapt" else "meta"
    if right == "meta":
        checkpoint.save(path, "personal", {}, {})
    assert f"(made by {command}) is needed here." in refusal(path, right)[1]


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "missing", "no such file"), (tmp_path, "a folder")):
        error, message = refusal(path, "meta", flag="--base")
        assert error is UsageError
        assert message.startswith(f"--base {path}: {reason}")
        with pytest.raises(UsageError, match=reason):
            checkpoint.read_meta(path)


CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "text": b"Dear reader, this is a text file.\n" * 9,
    "zeros": bytes(100),
    "photo": b"\xff\xd8\xff\xe0" + bytes(200),
    "huge header": (2**40).to_bytes(8, "little") + b"{}",
    "no tensors": (2).to_bytes(8, "little") + b"[]",
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
def test_files_of_another_format_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    error, message = refusal(path, "meta")
    assert error is FewshotError
    assert message.startswith(f"{path}: not a safetensors file, as models are. Give one, ")
    with pytest.raises(FewshotError, match="not a safetensors file"):
        checkpoint.read_meta(path)


@pytest.mark.parametrize("change", ["cut by one byte", "cut by half its tensors", "longer"])
def test_a_truncated_or_padded_file_is_refused(path: Path, change: str) -> None:
    content = path.read_bytes()
    cut = {"cut by one byte": content[:-1], "cut by half its tensors": content[:-80]}
    path.write_bytes(cut.get(change, content + b"more"))
    error, message = refusal(path, "meta")
    assert error is FewshotError
    assert "truncated or damaged" in message


def test_a_file_cut_at_any_place_is_refused(path: Path) -> None:
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        assert refusal(path, "meta")[0] is FewshotError


def test_any_bit_that_flips_is_noticed(path: Path) -> None:
    content = path.read_bytes()
    for position in range(0, len(content), 5):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            found = checkpoint.load(path, "meta")
        except FewshotError:
            continue
        # Left are the blanks behind the header, and the checksum's own name: all else is whole.
        assert found.meta.items() >= {"format": checkpoint.FORMAT, "kind": "meta"}.items()
        assert {key: found.meta[key] for key in META} == META
        assert_equal(found.tensors, TENSORS)


@pytest.mark.parametrize("change", ["value", "name", "type", "shape", "description"])
def test_tensors_that_are_not_those_that_were_written_are_damage(path: Path, change: str) -> None:
    with safe_open(path, framework="pt") as file:
        entry = json.loads(file.metadata()["fewshot_lite"])
    tensors = load_file(path)
    if change == "value":
        tensors["scalar"] += 1e-6
    elif change == "name":
        tensors["scalae"] = tensors.pop("scalar")
    elif change == "type":
        tensors["scalar"] = tensors["scalar"].view(torch.int32)
    elif change == "shape":
        tensors["scalar"] = tensors["scalar"][None]
    else:
        entry["backbone"] = "resnet19"
    save_file(tensors, path, metadata={"fewshot_lite": json.dumps(entry)})
    assert refusal(path, "meta")[1].startswith(f"{path}: damaged, its checksum is wrong. ")


@pytest.mark.parametrize("value", [1.0, 1.5])
def test_the_checksum_that_files_had_before_is_compared(path: Path, value: float) -> None:
    tensors = {"scalar": torch.tensor(1.0), "matrix": torch.ones(2, 2)}
    meta = {"format": 1, "kind": "meta", **META}
    bits = zlib.crc32(json.dumps(meta).encode())
    for name, shape in (("matrix", "[2, 2]"), ("scalar", "[]")):
        bits = zlib.crc32(f"{name} torch.float32 {shape}".encode(), bits)
        bits = zlib.crc32(tensors[name].numpy().tobytes(), bits)
    tensors["scalar"].fill_(value)
    entry = json.dumps({**meta, "crc32": bits})
    save_file(tensors, path, metadata={"fewshot_lite": entry})
    if value == 1:
        assert_equal(checkpoint.load(path, "meta").tensors, tensors)
    else:
        assert refusal(path, "meta")[1].startswith(f"{path}: damaged, its checksum is wrong. ")


def test_the_description_is_read_without_the_tensors(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unreadable:
        """A file that gives its description alone."""

        def __init__(self, path: Path, **_: Any) -> None:
            self.file = safe_open(path, framework="pt")

        def __enter__(self) -> Unreadable:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def metadata(self) -> dict[str, str]:
            return dict(self.file.metadata())

    monkeypatch.setattr(tensor_files, "safe_open", Unreadable)
    assert checkpoint.read_meta(path) == {"format": checkpoint.FORMAT, "kind": "meta", **META}


def test_a_module_is_built_from_the_tensors_of_a_file() -> None:
    weights = {"weight": torch.ones(2, 3, dtype=torch.float64), "bias": torch.zeros(2)}
    module = checkpoint.build(lambda: torch.nn.Linear(3, 2), weights)
    assert_equal(module.state_dict(), {k: v.float() for k, v in weights.items()})
    assert module.weight.requires_grad
    weights["bias"] += 1  # a copy: the file may go, or change
    assert not module.bias.any()


@pytest.mark.parametrize("width", [4, 10**12])
def test_a_module_larger_than_its_file_is_refused_before_it_takes_memory(width: int) -> None:
    weights = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        checkpoint.build(lambda: torch.nn.Linear(width, 2), weights)


def test_values_that_would_be_lost_are_no_weights() -> None:
    weights = {"weight": torch.ones(2, 3, dtype=torch.complex64), "bias": torch.zeros(2)}
    with pytest.raises(RuntimeError, match="weight has another type"):
        checkpoint.build(lambda: torch.nn.Linear(3, 2), weights)


def test_a_file_that_may_not_be_read_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tensor_files, "safe_open", denied)
    monkeypatch.setattr(Path, "open", denied)
    reason = f"{path}: cannot be read (permission denied). Check its permissions and its disk."
    assert refusal(path, "meta")[1] == reason
    with pytest.raises(FewshotError, match=r"cannot be read \(permission denied\)\. Check"):
        checkpoint.sha256(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_foreign_safetensors_are_no_checkpoint(
    tmp_path: Path, metadata: dict[str, str] | None
) -> None:
    path = tmp_path / "x"
    tensors = {"a": torch.ones(2)}
    save_file(tensors, path, metadata=metadata)
    error, message = refusal(path, "meta", flag="--base")
    assert error is FewshotError
    assert message.startswith(f"--base {path}: a safetensors file, but not one of fewshot-lite's")
    assert "Give one that `meta-train` wrote; weights of a network go with its name" in message
    for kind, remedy in (("personal", "Give one that `adapt` wrote"), ("state", "Begin anew")):
        assert remedy in refusal(path, kind)[1]
    with pytest.raises(FewshotError, match="not one of fewshot-lite's"):
        checkpoint.read_meta(path)
    found, meta = checkpoint.read_any(path)
    assert meta is None
    assert_equal(found, tensors)


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "{",
        "[1]",
        "3",
        '"meta"',
        "{}",
        '{"kind": "meta"}',
        '{"format": 1}',
        '{"format": 1, "kind": ["meta"]}',
        '{"format": 1, "kind": "meta", "x": ' + "[" * 600 + "]" * 600 + "}",
        '{"format": 1, "kind": "meta", "x": ' + '{"a": ' * 200 + "1" + "}" * 200 + "}",
        "[" * 100_000,
    ],
)
def test_a_damaged_description_is_refused(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "x"
    save_file({"a": torch.ones(2)}, path, metadata={"fewshot_lite": entry})
    error, message = refusal(path, "meta")
    assert error is FewshotError
    assert message == f"{path}: its description is damaged. {TAKE_ANOTHER}"


def test_earlier_format_versions_are_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    entry = json.dumps({"format": 1, "kind": "meta"})
    save_file({"a": torch.zeros(2)}, path, metadata={"fewshot_lite": entry})
    assert checkpoint.load(path, "meta").meta["format"] == 1


@pytest.mark.parametrize("version", [0, 3, "1", True, None])
def test_another_format_version_is_refused(tmp_path: Path, version: object) -> None:
    path = tmp_path / "x"
    entry = json.dumps({"format": version, "kind": "meta"})
    save_file({"a": torch.ones(2)}, path, metadata={"fewshot_lite": entry})
    error, message = refusal(path, "meta")
    assert error is FewshotError
    assert f"format version {version}, and this fewshot-lite reads 1 to 2" in message
    assert "Upgrade" in message


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), SafetensorError("I/O error")]
)
def test_a_failed_write_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    before = path.read_bytes()

    def fail(tensors: dict[str, Tensor], file: Path, **_: Any) -> None:
        Path(file).write_bytes(b"half of it")
        raise error

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(FewshotError) as caught:
        checkpoint.save(path, "meta", TENSORS, META)
    reason = getattr(error, "strerror", None) or error
    assert str(caught.value) == f"{path}: could not be written ({reason})."
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "x"
    with pytest.raises(FewshotError) as caught:
        checkpoint.save(path, "meta", TENSORS, META)
    assert str(caught.value).startswith(f"{path}: could not be written (")
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_is_as_readable_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        checkpoint.save(tmp_path / "x", "meta", TENSORS, META)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_the_hash_is_that_of_the_bytes(path: Path) -> None:
    assert checkpoint.sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_same_content_gives_the_same_bytes(path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    checkpoint.save(again, "meta", dict(reversed(TENSORS.items())), META)
    assert checkpoint.sha256(again) == checkpoint.sha256(path)
