"""torchvision's weights by the true path of torch.hub, from a file:// address."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torchvision import models
from torchvision.models._api import Weights

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.networks.architectures import preprocessing
from fewshot_lite.networks.downloads import fetch
from fewshot_lite.networks.weights import load_backbone

SMALL = "shufflenet_v2_x0_5"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    """A server's file, named by its hash, which torchvision's entry points at."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        state = models.get_model(SMALL, weights=None).state_dict()
    torch.save(state, tmp_path / "file")
    digest = hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest()
    path = (tmp_path / "file").rename(tmp_path / f"shuffle-{digest[:8]}.pth")
    serve(monkeypatch, path)
    return path


def serve(monkeypatch: pytest.MonkeyPatch, path: Path, **transforms: Any) -> None:
    real = models.get_model_weights(SMALL).DEFAULT
    given = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "crop_size": [224]}
    shown = SimpleNamespace(**(given | transforms))
    entry = Weights(url=path.as_uri(), transforms=lambda: shown, meta={})
    monkeypatch.setattr(real, "_value_", entry)


def test_weights_are_downloaded_once(
    published: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = fetch(SMALL)
    assert torch.equal(state["conv1.0.weight"], torch.load(published)["conv1.0.weight"])
    assert [path.name for path in cache.iterdir()] == [published.name]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Downloading" in shown.err
    published.unlink()
    assert fetch(SMALL).keys() == state.keys()
    assert capsys.readouterr().err == ""


def test_a_download_with_another_hash_is_refused_and_not_kept(published: Path, cache: Path) -> None:
    published.write_bytes(published.read_bytes() + b"!")
    with pytest.raises(FewshotError, match=f"weights of {SMALL} could not be had.*invalid hash"):
        fetch(SMALL)
    assert list(cache.iterdir()) == []


def test_a_damaged_file_in_the_cache_is_named(published: Path, cache: Path) -> None:
    fetch(SMALL)
    kept = cache / published.name
    kept.write_bytes(kept.read_bytes()[:-100])
    with pytest.raises(FewshotError, match=r"damaged, by its hash.*Delete it") as caught:
        fetch(SMALL)
    assert str(kept) in str(caught.value)


@pytest.mark.parametrize(
    "error", [URLError("Name or service not known"), TimeoutError("timed out")], ids=["dns", "slow"]
)
def test_without_a_network_the_alternatives_are_named(
    published: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    with pytest.raises(FewshotError, match=r"could not be had") as caught:
        fetch(SMALL)
    message = str(caught.value)
    for part in ("shipped model", "--base FILE", "--weights FILE"):
        assert part in message
    assert "\n" not in message


def test_the_images_are_as_the_weights_were_evaluated(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, published, mean=[0.5] * 3, std=[0.25] * 3, crop_size=[96])
    backbone, _ = load_backbone(SMALL, "default", None)
    assert backbone.image_size == 96
    assert backbone.mean.flatten().tolist() == [0.5] * 3
    assert backbone.std.flatten().tolist() == [0.25] * 3


def test_sizes_are_torchvisions() -> None:
    assert preprocessing("efficientnet_b0").size == 224
    assert preprocessing("efficientnet_b1").size == 240
    assert preprocessing("swin_v2_t").size == 256
