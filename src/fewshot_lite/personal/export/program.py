"""A personal model as one function of pixels, traced; its class statistics are constants in it."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.personal.personal_model import PersonalModel


class PixelProgram(nn.Module):
    """Pixels to probabilities and strangeness, with nothing left to be prepared outside."""

    def __init__(self, personal: PersonalModel) -> None:
        super().__init__()
        self.backbone = personal.backbone
        self.head = personal.head
        self._outputs_of = personal.outputs_of
        _ = personal.novelty  # fitted now, not while it is traced

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Answers.

        Args:
            pixels: uint8 (B, S, S, 3), RGB.

        Returns:
            Probabilities (B, K) and strangeness (B,), float32.
        """
        outputs = self._outputs_of(self.backbone(pixels.permute(0, 3, 1, 2)))
        return outputs.probabilities, outputs.strangeness


def trace(program: PixelProgram, pixels: Tensor) -> ExportedProgram:
    """The program for any number of images of this size.

    Args:
        pixels: an example, uint8 (2, S, S, 3): torch takes 0 and 1 for fixed.

    Raises:
        FewshotError: a network that torch.export cannot follow.
    """
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about torch's own workings
            traced = torch.export.export(
                program, (pixels,), dynamic_shapes={"pixels": {0: Dim("batch")}}
            )
    except Exception as error:  # whatever tracing comes upon
        raise FewshotError(
            f"The network cannot be exported: torch.export failed ({first_line(error)})."
        ) from None
    for node in traced.graph.nodes:  # where things lie on this computer is nobody's business
        node.meta.pop("stack_trace", None)
    return traced


def first_line(error: Exception) -> str:
    """The beginning of an error's message."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
