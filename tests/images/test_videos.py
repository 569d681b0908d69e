"""Videos: which frames are drawn, what is done to them, and what is refused."""

from __future__ import annotations

import builtins
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clips import looks, plain, turn_clockwise, write_clip
from fewshot_lite.core.errors import UsageError
from fewshot_lite.images import videos
from fewshot_lite.images.clips import clip_of, with_frames
from fewshot_lite.images.finding import find_labelled
from fewshot_lite.images.inputs import as_source
from fewshot_lite.images.opening import PhotoError
from fewshot_lite.images.photo import read_square
from fewshot_lite.images.regions import Region
from fewshot_lite.images.videos import as_seconds, draw_frames, is_video, time_line

pytest.importorskip("av")
COLOURS = ("red", "lime", "blue", "white")


def colours(drawn: list[videos.Drawn]) -> list[str]:
    """The names of the colours in the middles of frames."""
    found = []
    for frame in drawn:
        side = len(frame.square.pixels) // 2
        pixel = frame.square.pixels[side, side].astype(int)
        known = {name: np.array(Image.new("RGB", (1, 1), name))[0, 0] for name in COLOURS}
        found.append(min(known, key=lambda name: int(np.abs(known[name] - pixel).sum())))
    return found


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "mpeg4"),
        ("a.MOV", "mpeg4"),
        ("a.avi", "mpeg4"),
        ("a.Mkv", "mpeg4"),
        ("a.webm", "libvpx-vp9"),
        ("b.mp4", "libx264"),
    ],
)
def test_frames_are_drawn_evenly_over_the_time(tmp_path: Path, name: str, codec: str) -> None:
    options = (
        {"qscale": "2"} if codec == "mpeg4" else {"crf": "10", "b": "0", "deadline": "realtime"}
    )
    path = write_clip(tmp_path / name, plain(*COLOURS), codec=codec, options=options)
    drawn = draw_frames(path, 16, 4)
    assert colours(drawn) == list(COLOURS)
    assert [frame.seconds for frame in drawn] == pytest.approx([0.2, 0.7, 1.2, 1.7], abs=0.06)
    assert drawn[0].square.pixels.shape == (16, 16, 3)
    assert (drawn[0].square.width, drawn[0].square.height) == (48, 32)
    assert len(draw_frames(path, 16, 1)) == 1
    assert len(draw_frames(path, 16, 100)) == 20  # all there are


def test_at_a_rate_that_varies_it_is_time_that_counts(tmp_path: Path) -> None:
    frames = plain("red", each=10) + plain("blue", each=1) + plain("white", each=1)
    times = [i * 0.02 for i in range(10)] + [1.0, 3.0]
    path = write_clip(tmp_path / "a.mkv", frames, times=times)
    assert colours(draw_frames(path, 16, 3)) == ["red", "blue", "white"]
    line = list(time_line(path, 16, 0.5))
    assert [frame.seconds for frame in line] == [0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert colours(line) == ["red"] * 2 + ["blue"] * 4 + ["white"]


def test_a_video_that_is_to_be_turned_is(tmp_path: Path) -> None:
    image = Image.new("RGB", (48, 32), "blue")
    image.paste("red", (0, 0, 24, 32))  # on the left, which becomes the top
    path = write_clip(tmp_path / "a.mp4", [image] * 5)
    turn_clockwise(path)
    [frame] = draw_frames(path, 32, 1)
    assert frame.square.pixels[2, 16, 0] > 200 > 60 > frame.square.pixels[2, 16, 2]
    assert frame.square.pixels[29, 16, 2] > 200 > 60 > frame.square.pixels[29, 16, 0]


def test_ten_bits_and_transparency(tmp_path: Path) -> None:
    deep = write_clip(
        tmp_path / "deep.mkv", plain("red", "lime"), codec="ffv1", pixels="yuv420p10le", options={}
    )
    assert colours(draw_frames(deep, 16, 2)) == ["red", "lime"]
    clear = Image.new("RGBA", (48, 32), (0, 0, 255, 0))
    path = write_clip(tmp_path / "clear.mov", [clear] * 3, codec="qtrle", pixels="argb", options={})
    assert colours(draw_frames(path, 16, 1)) == ["white"]  # as photos are laid on white


def test_near_copies_are_left_out_where_frames_are_to_differ(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
    image = Image.fromarray(noise).resize((96, 96))
    still = write_clip(tmp_path / "still.mp4", [image] * 30)
    assert len(draw_frames(still, 32, 8)) == 8
    assert len(draw_frames(still, 32, 8, distinct=True)) == 1
    black = write_clip(tmp_path / "black.mp4", plain("black", each=20))
    assert len(draw_frames(black, 32, 8, distinct=True)) == 1
    moving = write_clip(tmp_path / "moving.mp4", looks(0, 8))
    assert len(draw_frames(moving, 32, 8, distinct=True)) >= 6


def test_of_a_long_video_no_more_is_decoded_than_leads_to_the_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"qscale": "2", "g": "10"}
    path = write_clip(tmp_path / "long.mp4", plain(*COLOURS, each=500), options=options)
    monkeypatch.setattr(videos, "_MOST_DECODED", 48 * 32 * 60)  # 60 of 2,000 frames
    assert colours(draw_frames(path, 16, 4)) == list(COLOURS)
    monkeypatch.setattr(videos, "_MOST_DECODED", 48 * 32 * 2)
    with pytest.raises(PhotoError, match="too few key frames"):
        draw_frames(path, 16, 4)


@pytest.mark.parametrize("ending", [".mkv", ".avi"])
def test_what_is_cut_off_is_read_as_far_as_it_goes(tmp_path: Path, ending: str) -> None:
    path = write_clip(tmp_path / f"a{ending}", looks(0, 40))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert 1 <= len(draw_frames(path, 16, 8)) <= 8


def playlist(path: Path) -> bytes:
    """A list of other files, which some programs would open, or addresses."""
    return b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\n" + path.name.encode() + b"\n"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data, path: b"", r"empty file \(0 bytes\)"),
        (lambda data, path: data[:40], ".* or badly damaged"),
        (lambda data, path: data[: len(data) // 2], ".* or badly damaged"),
        (lambda data, path: b"hello " * 1000, "not a video, or badly damaged"),
        (lambda data, path: playlist(path), "not a video, or badly damaged"),
        (lambda data, path: b"concat:/etc/passwd|/etc/hosts\n", "not a video, or badly damaged"),
    ],
)
def test_what_is_no_video_is_one_reason(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], change: Any, reason: str
) -> None:
    path = write_clip(tmp_path / "a.mp4", plain("red"))
    other = write_clip(tmp_path / "b.mp4", plain("red"))
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(change(path.read_bytes(), other))
    with pytest.raises(PhotoError, match=rf"^{reason}$"):
        draw_frames(bad, 16)
    assert capfd.readouterr() == ("", "")


def test_sound_alone_a_folder_and_what_is_missing(tmp_path: Path) -> None:
    import av

    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    with pytest.raises(PhotoError, match=r"^no video in it, only sound$"):
        draw_frames(path, 16)
    with pytest.raises(PhotoError, match=r"^a folder"):
        draw_frames(tmp_path, 16)
    with pytest.raises(PhotoError, match=r"^no such file$"):
        draw_frames(tmp_path / "nowhere.mp4", 16)
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(PhotoError, match=r"^not a file$"):
        draw_frames(tmp_path / "pipe.mp4", 16)


def test_frames_too_large_and_too_many_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / "a.mp4", plain("red"))
    monkeypatch.setattr(videos, "MAX_PIXELS", 1000)
    with pytest.raises(PhotoError, match="48 x 32 is more than 1,000 pixels a frame"):
        draw_frames(path, 16)
    monkeypatch.undo()
    monkeypatch.setattr(videos, "MAX_BYTES", 100)
    with pytest.raises(PhotoError, match="larger than 0 MB"):
        draw_frames(path, 16)
    monkeypatch.undo()
    monkeypatch.setattr(videos, "_MOST_PACKETS", 2)
    with pytest.raises(PhotoError, match="more than 2 frames"):
        draw_frames(path, 16)
    monkeypatch.undo()
    with pytest.raises(PhotoError, match="more than 100,000 points of time"):
        list(time_line(path, 16, 1e-6))


def test_a_size_that_the_file_alone_claims_costs_nothing(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", plain("red"))
    data = path.read_bytes()
    place = data.index(b"mp4v", data.index(b"stsd")) + 4 + 24  # of the description of the samples
    assert struct.unpack(">2H", data[place : place + 4]) == (48, 32)
    path.write_bytes(data[:place] + struct.pack(">2H", 65535, 65535) + data[place + 4 :])
    [frame] = draw_frames(path, 16, 1)  # the stream itself knows better
    assert (frame.square.width, frame.square.height) == (48, 32)


def test_videos_are_told_by_ending_and_first_bytes(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", plain("red"))
    bare = tmp_path / "bare"
    bare.write_bytes(path.read_bytes())
    photo = tmp_path / "photo.mp4"
    Image.new("RGB", (8, 8)).save(photo, "JPEG")
    assert is_video(path)
    assert is_video(bare)
    assert is_video(Region(path, (0, 0, 4, 4)))
    assert is_video(as_source(path.read_bytes()))
    assert not is_video(photo)
    assert not is_video(as_source(photo.read_bytes()))
    assert read_square(photo, 8).width == 8
    named = tmp_path / "a.jpg"
    named.write_bytes(path.read_bytes())
    with pytest.raises(PhotoError, match="a video, not a photo: give its name the ending"):
        read_square(named, 8)


def test_a_box_is_the_same_part_of_each_frame(tmp_path: Path) -> None:
    image = Image.new("RGB", (48, 32), "blue")
    image.paste("red", (0, 0, 16, 16))
    path = write_clip(tmp_path / "a.mp4", [image] * 3)
    assert colours(draw_frames(Region(path, (2, 2, 10, 10)), 8, 1)) == ["red"]
    assert colours(draw_frames(as_source(path.read_bytes()), 8, 1)) == ["blue"]


def test_frames_take_the_places_of_videos_and_belong_together(tmp_path: Path) -> None:
    folder = tmp_path / "things"
    write_clip(folder / "mug" / "b.mp4", looks(0, 6))
    looks(0, 1)[0].save(folder / "mug" / "a.png")
    looks(0, 1)[0].save(folder / "mug" / "b.png")  # as telephones take a photo and a clip
    write_clip(folder / "keys" / "a.mov", looks(1, 6))
    (folder / "keys" / "broken.mp4").write_bytes(b"no")
    found = with_frames(find_labelled(folder), 32, 4)
    names = [Path(str(path)).name for path in found.paths]
    assert [clip_of(name) for name in names].count("b.mp4") == 4
    groups = dict(zip(names, found.groups, strict=True))
    mine = {group for name, group in groups.items() if clip_of(name) in ("b.mp4", "b.png")}
    assert len(mine) == 1
    assert len(set(found.groups)) == 4
    with pytest.raises(PhotoError, match="not a video"):
        read_square(found.paths[names.index("broken.mp4")], 32)
    assert found.labels.count(0) == 5
    with pytest.raises(UsageError, match="--frames 0: give a number from 1 to 1,000"):
        with_frames(find_labelled(folder), 32, 0)


def test_without_pyav_photos_are_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "things"
    clip = write_clip(folder / "mug" / "b.mp4", looks(0, 6))
    for name in ("mug", "keys"):
        (folder / name).mkdir(exist_ok=True)
        looks(0, 1)[0].save(folder / name / "a.png")
    monkeypatch.setattr(videos, "can_read", lambda: False)
    found = find_labelled(folder)
    assert [path.name for path in found.paths if isinstance(path, Path)] == ["a.png", "a.png"]
    [skipped] = found.skipped
    assert skipped.path == clip
    assert 'pip install "fewshot-lite[video]"' in skipped.reason
    with pytest.raises(PhotoError, match=r'pip install "fewshot-lite\[video\]"'):
        draw_frames(clip, 16)


def test_looking_for_pyav_does_not_import_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        assert name.split(".")[0] != "av"
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    videos.can_read.cache_clear()
    assert videos.can_read()


@pytest.mark.parametrize(
    ("text", "seconds"), [("0.5s", 0.5), ("2", 2.0), ("500ms", 0.5), ("1 min", 60.0), (".5", 0.5)]
)
def test_times(text: str, seconds: float) -> None:
    assert as_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["0", "0s", "-1s", "often", "", "1h", "inf", "nan", "1e3"])
def test_no_times(text: str) -> None:
    with pytest.raises(UsageError, match="give a time from one frame to the next"):
        as_seconds(text)


def test_threads_may_read_videos_at_the_same_time(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    path = write_clip(tmp_path / "a.mp4", plain(*COLOURS))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: colours(draw_frames(path, 16, 4)), range(8)))
    assert found == [list(COLOURS)] * 8
