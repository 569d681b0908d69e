"""e(x) of an image is its own: LITE's estimate is unbiased only then."""

from __future__ import annotations

import pytest
import torch

from fewshot_lite.networks.set_encoder import SetEncoder


@pytest.mark.parametrize("training", [True, False])
def test_an_embedding_does_not_depend_on_the_other_images(training: bool) -> None:
    encoder = SetEncoder(image_size=32).double().train(training)
    images = torch.rand(5, 3, 40, 40).double()
    images[1:] *= torch.tensor([0.0, 0.3, 1.0, 0.1]).view(4, 1, 1, 1)  # unlike each other
    together = encoder(images)
    alone = torch.cat([encoder(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (32, 32), (33, 47), (200, 64)])
def test_images_of_any_size_are_taken(size: tuple[int, int]) -> None:
    embeddings = SetEncoder(embedding_dim=24, image_size=32)(torch.rand(2, 3, *size))
    assert embeddings.shape == (2, 24)
    assert embeddings.isfinite().all()


def test_a_flat_image_has_the_same_embedding_at_any_size() -> None:
    encoder = SetEncoder(image_size=32).double()
    small, large = (encoder(torch.full((1, 3, s, s), 0.4).double()) for s in (8, 80))
    torch.testing.assert_close(small, large, rtol=0, atol=1e-9)


def test_large_images_are_averaged_down_not_sampled() -> None:
    """Fine stripes do not show."""
    encoder = SetEncoder(image_size=32).double()
    ramp = torch.linspace(0.2, 0.8, 256).double().expand(1, 3, 256, 256)
    stripes = 0.2 * torch.tensor([1, -1, -1, 1]).double().repeat(64).view(256, 1)
    plain, striped = encoder(ramp), encoder(ramp + stripes)
    assert (striped - plain).norm() < 0.02 * plain.norm()


def test_bytes_and_floats_of_an_image_agree() -> None:
    encoder = SetEncoder(image_size=32)
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(encoder(images), encoder(images / 255))


def test_different_images_have_different_embeddings() -> None:
    first, second = SetEncoder(image_size=32)(torch.rand(2, 3, 32, 32))
    assert not torch.allclose(first, second)


def test_all_parameters_are_learned_from() -> None:
    encoder = SetEncoder(embedding_dim=16, image_size=32)
    encoder(torch.rand(3, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in encoder.parameters())


def test_standardised_embeddings_have_mean_0_and_deviation_1() -> None:
    encoder = SetEncoder(embedding_dim=8, image_size=16)
    images = torch.rand(40, 3, 20, 20)
    before = encoder(images)
    encoder.standardise(images)
    embeddings = encoder(images)
    torch.testing.assert_close(embeddings.mean(0), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(embeddings.std(0, correction=0), torch.ones(8), atol=1e-3, rtol=0)
    encoder.standardise(images)  # anew, not on top
    torch.testing.assert_close(encoder(images), embeddings, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(before, embeddings)


def test_images_that_are_all_the_same_are_not_blown_up() -> None:
    encoder = SetEncoder(embedding_dim=8, image_size=16)
    encoder.standardise(torch.rand(1, 3, 16, 16).repeat(5, 1, 1, 1))
    assert bool((encoder.spread == 1).all())


def test_a_dimension_that_is_flat_among_others_stays_as_it_is() -> None:
    encoder = SetEncoder()
    norm = encoder.blocks[-3]
    with torch.no_grad():
        norm.weight[5] = 0.0
        norm.bias[5] = 0.25  # dimension 5 is 0.25 for every image, up to rounding
    images = torch.rand(16, 3, 48, 48)
    encoder.standardise(images)
    embeddings = encoder(images).detach()
    deviation = embeddings.std(0, correction=0)
    assert float(encoder.spread[5]) == 1.0
    assert float(deviation[5]) < 1e-5
    assert torch.allclose(deviation[:5], torch.ones(5), atol=1e-3)
