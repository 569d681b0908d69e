"""FiLM as other values of the norm layers' own parameters is FiLM."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torchvision.models.convnext import LayerNorm2d

from fewshot_lite.core.errors import UsageError
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.film import (
    FilmGenerator,
    NormParameters,
    fold,
    modulate,
    modulated_layers,
)
from tiny import TinyBackbone


class Outputs(NamedTuple):
    """Features of the same images by the same network, modulated in different ways."""

    plain: Tensor
    explicit: Tensor
    """γ·y + β computed on the output y of each norm layer."""
    functional: Tensor
    folded: Tensor


def random_film(backbone: Backbone) -> dict[str, tuple[Tensor, Tensor]]:
    """γ and β of each norm layer, far from 1 and 0."""
    return {
        name: (torch.rand(n).double() * 1.2 + 0.4, torch.randn(n).double())
        for name, n in ((name, len(layer.weight)) for name, layer in backbone.norm_layers().items())
    }


def explicitly_modulated(
    backbone: Backbone, film: dict[str, tuple[Tensor, Tensor]], images: Tensor
) -> Tensor:
    hooks = []
    for name, layer in backbone.norm_layers().items():
        channels_first = isinstance(layer, nn.BatchNorm2d | LayerNorm2d)
        gamma, beta = (x.view(-1, 1, 1) if channels_first else x for x in film[name])
        hooks.append(
            layer.register_forward_hook(lambda _, __, y, gamma=gamma, beta=beta: gamma * y + beta)
        )
    features: Tensor = backbone(images)
    for hook in hooks:
        hook.remove()
    return features


NETWORKS = ["resnet18", "efficientnet_b0", "convnext_tiny"]


@pytest.fixture(
    scope="module", params=[*NETWORKS, pytest.param("vit_b_16", marks=pytest.mark.slow)]
)
def outputs(request: pytest.FixtureRequest) -> Outputs:
    torch.manual_seed(0)
    backbone = Backbone(request.param, image_size=32).eval().double().requires_grad_(False)
    for layer in backbone.norm_layers().values():  # as after training: w and b say something
        nn.init.uniform_(layer.weight, 0.5, 1.5)
        nn.init.normal_(layer.bias, 0.0, 0.3)
    images = torch.rand(2, 3, 32, 32).double()
    film = random_film(backbone)
    parameters: NormParameters = {}
    for name, layer in backbone.norm_layers().items():
        parameters |= modulate(name, layer, *film[name])
    plain = backbone(images)
    explicit = explicitly_modulated(backbone, film, images)
    functional = functional_call(backbone, parameters, (images,))
    fold(backbone, parameters)
    return Outputs(plain, explicit, functional, folded=backbone(images))


def relative_error(got: Tensor, exact: Tensor) -> float:
    return float((got - exact).abs().max() / exact.abs().max())


def test_norm_parameters_do_what_film_after_the_layer_does(outputs: Outputs) -> None:
    assert relative_error(outputs.functional, outputs.explicit) < 1e-10


def test_the_folded_network_is_the_adapted_one(outputs: Outputs) -> None:
    assert relative_error(outputs.folded, outputs.functional) < 1e-12


def test_film_far_from_the_identity_changes_the_features(outputs: Outputs) -> None:
    assert relative_error(outputs.functional, outputs.plain) > 0.1


@pytest.mark.parametrize(
    ("name", "layers", "values"),
    [
        ("resnet18", 20, 9_600),
        ("efficientnet_b0", 49, 42_016),
        ("mobilenet_v3_small", 34, 12_112),
        ("convnext_tiny", 23, 16_320),
        ("vit_b_16", 25, 38_400),
        ("swin_t", 29, 24_768),
    ],
)
def test_all_norm_layers_are_found(name: str, layers: int, values: int) -> None:
    with torch.device("meta"):  # shapes alone
        found = Backbone(name, image_size=32).norm_layers()
    assert len(found) == layers
    assert sum(layer.weight.numel() + layer.bias.numel() for layer in found.values()) == values


def tiny_generator(scale: float) -> tuple[TinyBackbone, FilmGenerator]:
    backbone = TinyBackbone()
    generator = FilmGenerator(backbone, embedding_dim=8)
    for name, parameter in generator.named_parameters():
        if name.endswith(("rho", "sigma")):
            nn.init.normal_(parameter, 0.0, scale)
    return backbone, generator


def test_without_rho_and_sigma_the_backbone_keeps_its_own_values() -> None:
    backbone, generator = tiny_generator(scale=0.0)
    parameters = generator(backbone, torch.randn(8))
    own = dict(backbone.named_parameters())
    assert set(parameters) == {
        f"{name}.{kind}" for name in backbone.norm_layers() for kind in ("weight", "bias")
    }
    for name, value in parameters.items():
        torch.testing.assert_close(value, own[name], rtol=0, atol=0)


def test_film_starts_close_to_the_identity() -> None:
    backbone = TinyBackbone()
    parameters = FilmGenerator(backbone, embedding_dim=8)(backbone, torch.randn(8))
    own = dict(backbone.named_parameters())
    for name, value in parameters.items():
        torch.testing.assert_close(value, own[name], rtol=0.02, atol=0.02)


def test_another_embedding_gives_other_values() -> None:
    backbone, generator = tiny_generator(scale=0.3)
    first, second = (generator(backbone, torch.randn(8)) for _ in range(2))
    assert all(not torch.allclose(first[name], second[name]) for name in first)


def test_gradients_reach_the_embedding_the_generator_and_the_backbone() -> None:
    backbone, generator = tiny_generator(scale=0.3)
    z = torch.randn(8, requires_grad=True)
    torch.stack([p.square().sum() for p in generator(backbone, z).values()]).sum().backward()
    norm_values = [p for layer in backbone.norm_layers().values() for p in layer.parameters()]
    for tensor in (z, *generator.parameters(), *norm_values):
        assert tensor.grad is not None
        assert tensor.grad.abs().max() > 0


def test_the_penalty_is_the_squared_length_of_rho_and_sigma() -> None:
    _, generator = tiny_generator(scale=0.3)
    named = generator.named_parameters()
    lengths = [p.norm() ** 2 for name, p in named if name.endswith(("rho", "sigma"))]
    assert len(lengths) == 4
    torch.testing.assert_close(generator.penalty(), torch.stack(lengths).sum())


def test_a_norm_layer_without_bias_cannot_carry_film() -> None:
    layer = nn.LayerNorm(4, bias=False)
    with pytest.raises(ValueError, match="norm layer last has no bias"):
        modulate("last", layer, torch.ones(4), torch.zeros(4))


def test_a_backbone_without_depthwise_convolutions_has_no_such_layers() -> None:
    with pytest.raises(UsageError, match="--film-layers depthwise: resnet18 has no depthwise"):
        modulated_layers(Backbone("resnet18", 32), "depthwise")
