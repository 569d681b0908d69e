"""TFRecord files: what other programs write is read, and damage is named with its place."""

from __future__ import annotations

import builtins
import contextlib
import struct
from pathlib import Path
from typing import Any

import pytest

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.images.photo import PhotoError, load_square
from fewshot_lite.published.tfrecord import Record, RecordFile, example_bytes
from meta_files import crc32c, example, field, framed, jpeg, varint, write_class

#: Two records by the writer of the package `tfrecord` 1.14.6, with protobuf 7.36.
FIRST = bytes.fromhex(
    "2c00000000000000f4aecc450a2a0a0e0a056c6162656c12051a030a01070a180a05696d616765120f0a0d0a0b66697273"
    "7420696d616765fb25d33f"
)
SECOND = (
    bytes.fromhex(
        "0301000000000000b669d9d40a80020a120a06776569676874120812060a040000003f0a0f0a056c6162656c12061a"
        "040a02ac020ad8010a05696d61676512ce010acb010ac801"
    )
    + b"x" * 200
    + bytes.fromhex("241941ae")
)
GOLDEN = FIRST + SECOND


def put(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "0.tfrecords"
    path.write_bytes(content)
    return path


def test_records_of_another_writer_are_read(tmp_path: Path) -> None:
    file = RecordFile(put(tmp_path, GOLDEN))
    assert [file[i].read() for i in range(len(file))] == [b"first image", b"x" * 200]


def test_the_tests_write_what_that_writer_writes() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720, B.4, and every catalogue of checksums
    assert framed(example(b"first image", 7)) == FIRST


def test_a_record_is_a_small_hashable_image_that_knows_its_place(tmp_path: Path) -> None:
    path = tmp_path / "3.tfrecords"
    write_class(path, [jpeg(200, 0), jpeg(0, 200)], 3)
    file = RecordFile(path)
    assert str(file[1]) == f"{path}, record 2"
    assert {file[0], file[1], RecordFile(path)[1]} == {file[0], file[1]}
    red, green = (load_square(record, 4).mean((0, 1)) for record in (file[0], file[1]))
    assert red[0] > 190
    assert red[1] < 10
    assert green[1] > 190
    assert green[0] < 10


def test_positions_beyond_the_end_are_refused(tmp_path: Path) -> None:
    file = RecordFile(put(tmp_path, GOLDEN))
    assert [record.number for record in file] == [1, 2]
    for position in (-1, 2):
        with pytest.raises(IndexError):
            file[position]


@pytest.mark.parametrize("cut", [1, 4, 5, 12, 20])
def test_a_file_that_was_cut_off_names_the_record(tmp_path: Path, cut: int) -> None:
    path = put(tmp_path, GOLDEN[:-cut])
    with pytest.raises(FewshotError, match=r"0\.tfrecords, record 2: the file ends within it"):
        RecordFile(path)


def test_a_damaged_length_names_the_record(tmp_path: Path) -> None:
    second = struct.unpack("<Q", GOLDEN[:8])[0] + 16
    for position in range(second, second + 12):
        content = bytearray(GOLDEN)
        content[position] ^= 0x10
        with pytest.raises(FewshotError, match=r"record 2: damaged, the checksum of its length"):
            RecordFile(put(tmp_path, bytes(content)))


def test_a_damaged_image_names_the_record(tmp_path: Path) -> None:
    first = struct.unpack("<Q", GOLDEN[:8])[0]
    for position in (12, 12 + first // 2, 12 + first, 12 + first + 3):  # its bytes, its checksum
        content = bytearray(GOLDEN)
        content[position] ^= 1
        file = RecordFile(put(tmp_path, bytes(content)))
        with pytest.raises(PhotoError, match="damaged, its checksum does not match"):
            file[0].read()
        assert file[1].read() == b"x" * 200


def test_a_file_that_shrinks_after_it_was_opened(tmp_path: Path) -> None:
    path = put(tmp_path, GOLDEN)
    file = RecordFile(path)
    path.write_bytes(GOLDEN[:-30])
    with pytest.raises(PhotoError, match="cut off"):
        file[1].read()
    path.unlink()
    with pytest.raises(PhotoError, match="no such file"):
        load_square(file[0], 4)


def test_empty_and_missing_files(tmp_path: Path) -> None:
    assert len(RecordFile(put(tmp_path, b""))) == 0
    with pytest.raises(FewshotError, match=r"1\.tfrecords: no such file"):
        RecordFile(tmp_path / "1.tfrecords")
    with pytest.raises(FewshotError, match=r"(?i)directory|denied"):
        RecordFile(tmp_path)


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (example(b"jpeg", 0, name=b"image/encoded"), r"'image' \(names: label, image/encoded\)"),
        (b"", r"'image' \(names: none\)"),
        (field(1, field(1, field(1, b"image") + field(2, field(3, b"\x08\x07")))), "names: image"),
        (b"\xff" * 30, "not a tf.train.Example"),
        (b"just some text, no protocol buffer", "not a tf.train.Example"),
        (example(b"jpeg", 0)[:-3], "not a tf.train.Example"),
        (field(1, field(1, field(1, b"\xff\xfe"))), "not a tf.train.Example"),
        (b"\x0a", "not a tf.train.Example"),
    ],
)
def test_what_is_no_image_says_so(tmp_path: Path, record: bytes, problem: str) -> None:
    file = RecordFile(put(tmp_path, framed(record)))
    with pytest.raises(PhotoError, match=problem):
        file[0].read()


def test_fields_of_every_wire_type_are_passed_over() -> None:
    others = varint(2 << 3) + varint(300) + varint(3 << 3 | 1) + bytes(8) + varint(4 << 3 | 5)
    assert example_bytes(others + bytes(4) + example(b"jpeg", 2**40), "image") == b"jpeg"


def test_every_cut_and_flip_of_an_example_is_a_photo_error_or_read() -> None:
    whole = example(b"some image", 300)
    for position in range(len(whole)):
        for changed in (
            whole[:position],
            whole[:position] + bytes([whole[position] ^ 0x81]) + whole[position + 1 :],
        ):
            with contextlib.suppress(PhotoError):
                assert isinstance(example_bytes(changed, "image"), bytes)


def test_without_the_extra_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def refuse(name: str, *args: Any) -> Any:
        if name == "google_crc32c":
            raise ImportError(name)
        return original(name, *args)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(FewshotError, match=r"pip install 'fewshot-lite\[meta-dataset\]'"):
        RecordFile(put(tmp_path, GOLDEN))


def test_records_can_be_sent_to_other_processes(tmp_path: Path) -> None:
    import pickle

    record = RecordFile(put(tmp_path, GOLDEN))[1]
    assert pickle.loads(pickle.dumps(record)) == record
    assert isinstance(record, Record)
