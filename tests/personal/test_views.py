"""Views of photos as support examples, and of queries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot_lite.core.errors import UsageError
from fewshot_lite.personal.editing import add, remove
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.views import (
    AS_IS,
    MANY_PHOTOS,
    MIRRORED,
    VIEWS,
    ZOOMED,
    choose_views,
    mean_answers,
    recorded_views,
    view,
)
from photos import SIZE, classes, draw_classes, tiny_model


@pytest.fixture(scope="module")
def base() -> MetaModel:
    return tiny_model()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_classes(tmp_path_factory.mktemp("views") / "things", classes(3, photos=4))


def ramp() -> np.ndarray:
    """One image (1, 3, 20, 20) that grows brighter to the right, and to the bottom in green."""
    x = np.linspace(0, 190, 20).astype(np.uint8)
    red, green = np.broadcast_to(x, (20, 20)), np.broadcast_to(x[:, None], (20, 20))
    return np.stack([red, green, red])[None]


def test_the_three_views() -> None:
    pixels = ramp()
    assert view(pixels, AS_IS) is pixels
    assert np.array_equal(view(pixels, MIRRORED)[0, 0], pixels[0, 0, :, ::-1])
    assert np.array_equal(view(pixels, MIRRORED)[0, 1], pixels[0, 1])
    zoomed = view(pixels, ZOOMED)
    assert zoomed.shape == pixels.shape
    # A tenth is cut from each side: 2 of 20 pixels, 10 grey levels each.
    assert int(zoomed[0, 0, 0, 0]) == pytest.approx(20, abs=3)
    assert int(zoomed[0, 0, 0, -1]) == pytest.approx(170, abs=3)
    assert int(zoomed[0, 1, -1, 0]) == pytest.approx(170, abs=3)


@pytest.mark.parametrize(
    ("number", "mirror", "photos", "expected"),
    [
        (None, None, 10, VIEWS),
        (None, None, MANY_PHOTOS, (AS_IS,)),
        (3, None, MANY_PHOTOS, VIEWS),
        (3, False, 10, (AS_IS, ZOOMED)),
        (None, False, 10, (AS_IS, ZOOMED)),
        (1, False, 10, (AS_IS,)),
    ],
)
def test_which_views_are_taken(
    number: int | None, mirror: bool | None, photos: int, expected: tuple[str, ...]
) -> None:
    assert choose_views(number, mirror, photos) == expected


@pytest.mark.parametrize(("number", "mirror"), [(2, None), (0, None), (1, True)])
def test_views_that_there_are_not(number: int, mirror: bool | None) -> None:
    with pytest.raises(UsageError, match="--views"):
        choose_views(number, mirror, 10)


def test_every_view_is_a_support_example(base: MetaModel, folder: Path) -> None:
    personal = base.adapt(folder)
    assert recorded_views(personal.provenance) == VIEWS
    assert personal.views.shape[:2] == (12, 3)
    assert len(personal.photos) == len(personal.thumbnails) == 12
    rows, labels, photos = personal.rows()
    assert rows.shape[0] == len(labels) == 36
    assert labels[:6].tolist() == [0] * 6
    assert photos[:7].tolist() == [0, 0, 0, 1, 1, 1, 2]
    paths = [folder / photo for photo in personal.photos]
    pixels = np.stack(
        [np.asarray(Image.open(path).convert("RGB").resize((SIZE, SIZE))) for path in paths]
    ).transpose(0, 3, 1, 2)
    for number, name in enumerate(VIEWS):
        seen = personal.embed(torch.from_numpy(view(pixels, name)))
        torch.testing.assert_close(personal.views[:, number], seen, rtol=0.02, atol=0.05)


def test_a_photo_is_left_out_with_all_of_its_views(base: MetaModel, folder: Path) -> None:
    personal = base.adapt(folder)
    rows, labels, photos = personal.rows()
    kept = photos != 5
    statistics = personal.head.fit(rows[kept], labels[kept], 3)
    expected = personal.head.logits(statistics, personal.features[5:6])
    torch.testing.assert_close(
        personal.leave_one_out_logits()[5:6], expected.float(), rtol=1e-3, atol=1e-3
    )


def test_views_are_kept_in_the_file(base: MetaModel, folder: Path, tmp_path: Path) -> None:
    personal = base.adapt(folder)
    loaded = PersonalModel.load(personal.save(tmp_path / "personal.safetensors"))
    assert torch.equal(loaded.views, personal.views)
    images = torch.rand(2, 3, SIZE, SIZE)
    torch.testing.assert_close(loaded.probabilities(images), personal.probabilities(images))


def test_photos_come_and_go_with_their_views(base: MetaModel, folder: Path, tmp_path: Path) -> None:
    whole = base.adapt(folder)
    gone = whole.photos[1]
    fewer = remove(whole, photos=[gone]).model
    assert fewer.views.shape[:2] == (11, 3)
    again = add(fewer, folder / gone, Path(gone).parts[0]).model
    assert recorded_views(again.provenance) == VIEWS
    (added,) = set(again.photos) - set(fewer.photos)
    place = again.photos.index(added)
    torch.testing.assert_close(again.views[place], whole.views[1], rtol=1e-4, atol=1e-4)


def test_classes_that_are_mirror_images_are_told_apart(base: MetaModel, tmp_path: Path) -> None:
    """Bright on the left, or on the right: mirrored views would be of the other class."""
    generator = np.random.default_rng(0)
    images, labels = [], []
    for number in range(12):
        pixels = generator.integers(0, 60, (3, SIZE, SIZE))
        side = slice(0, SIZE // 2) if number % 2 else slice(SIZE // 2, SIZE)
        pixels[:, :, side] += 150
        images.append(pixels.astype(np.uint8))
        labels.append("left" if number % 2 else "right")
    given = torch.from_numpy(np.stack(images))
    assert recorded_views(base.adapt(given, labels).provenance) == (AS_IS, ZOOMED)
    forced = base.adapt(given, labels, mirror=True)
    assert recorded_views(forced.provenance) == VIEWS
    assert recorded_views(base.adapt(given, labels, views=1).provenance) == (AS_IS,)


def test_a_careful_answer_is_the_mean_over_views(base: MetaModel, folder: Path) -> None:
    personal = base.adapt(folder)
    photo = next(folder.glob("*/*"))
    plain = personal.classify(photo, top=3)
    personal.careful = True
    careful = personal.classify(photo, top=3)
    assert careful.strangeness == plain.strangeness
    pixels = np.array(Image.open(photo).convert("RGB").resize((SIZE, SIZE)))
    images = [view(pixels.transpose(2, 0, 1)[None], name) for name in VIEWS]
    features = [personal.embed(torch.from_numpy(image)) for image in images]
    logits = torch.stack([personal.outputs_of(f).probabilities.log() for f in features])
    expected = logits.mean(0).softmax(1)[0]
    got = dict(careful.labels)
    for k, name in enumerate(personal.class_names):
        assert got[name] == pytest.approx(float(expected[k]), abs=0.05)


def test_the_mean_of_answers_is_that_of_their_logits() -> None:
    first, second = np.array([[0.5, 0.5]], np.float32), np.array([[0.9, 0.1]], np.float32)
    expected = np.array([[3.0, 1.0]]) / 4  # odds 1 and 9: their mean is 3
    np.testing.assert_allclose(mean_answers([first, second]), expected, rtol=1e-5)


@pytest.mark.parametrize("damage", [None, "as is", [], [3], ["mirrored"], ["as is", "upside down"]])
def test_a_record_that_names_no_views(damage: object) -> None:
    assert recorded_views({"views": damage}) == (AS_IS,)
