"""Seconds to adapt and photos a second to classify, of images in memory, beside the bare backbone.

    python -m benchmarks.cost.throughput --base default --shots 5,20 --device cpu
    python -m benchmarks.cost.throughput --base random:efficientnet_b0 --device cuda

`random:NAME` is Simple CNAPs on a backbone of random weights: cost does not depend on them. What is
timed takes turns; medians over the repeats; `classify` by torch, and on a CPU as the command line
does it. On a busy machine processor time, of all threads, tells more than the clock.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks.common import Row, arguments, emit, in_turns, medians, random_images, random_learner
from fewshot_lite.core.devices import pick_device
from fewshot_lite.networks.micro_batches import Passes
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.torch_free_model import TorchFreeModel


def main() -> None:
    args = arguments(
        __doc__,
        base="default",
        image_size=(224, "of random:NAME"),
        way=5,
        shots=[5],
        photos=(64, "to classify"),
        repeats=5,
        device="auto",
        keep=(Path, "write the JSON to this file, anew after each row"),
    )
    device = pick_device(args.device)
    if args.base.startswith("random:"):
        learner = random_learner("simple-cnaps", args.base.removeprefix("random:"), args.image_size)
        model = MetaModel(learner.to(device).requires_grad_(False), args.image_size)
    else:
        model = MetaModel.load(args.base, device=str(device))
    photos = random_images(args.photos, model.image_size, seed=1)
    rows: list[Row] = []
    for shot in args.shots:
        rows.append(measure(model, shot, photos, args, device))
        if args.keep:
            emit("throughput", vars(args), rows)
    emit("throughput", vars(args), rows)


def measure(
    model: MetaModel,
    shot: int,
    photos: torch.Tensor,
    args: argparse.Namespace,
    device: torch.device,
) -> Row:
    """One size of the support set."""
    names = [f"class {k}" for k in range(args.way) for _ in range(shot)]
    images = random_images(len(names), model.image_size)
    personal = model.adapt(images, names)
    ways = {
        "adapt": lambda: model.adapt(images, names),
        "adapt_bare": lambda: Passes().map(model.learner.backbone, images.to(device)),
        "classify": lambda: personal.outputs(photos),
        "classify_bare": lambda: Passes().map(model.learner.backbone, photos.to(device)),
    }
    if device.type == "cpu" and (quick := without_torch(personal)) is not None:
        ways["classify_by_onnxruntime"] = lambda: quick.answers_of(photos.numpy())
    seconds, processor = in_turns(ways, args.repeats, device)
    found, busy = medians(seconds), medians(processor)
    return {
        "way": args.way,
        "shot": shot,
        "image_size": model.image_size,
        "seconds": found,
        "adapt_over_bare": round(found["adapt"] / found["adapt_bare"], 2),
        "classify_over_bare": round(found["classify"] / found["classify_bare"], 2),
        "processor_seconds": busy,
        "classify_processor_ms_a_photo": {
            name: round(1e3 * value / len(photos), 2)
            for name, value in busy.items()
            if name.startswith("classify")
        },
    }


def without_torch(personal: PersonalModel) -> TorchFreeModel | None:
    """What `classify` opens of a file of this model."""
    with tempfile.TemporaryDirectory() as folder:
        return TorchFreeModel.load(personal.save(Path(folder) / "personal.safetensors"))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
