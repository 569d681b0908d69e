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
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.common import Row, arguments, emit_rows, in_turns, random_images, random_learner
from fewshot_lite.core.devices import pick_device
from fewshot_lite.networks.micro_batches import Passes
from fewshot_lite.personal.meta_model import MetaModel
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
        learner = random_learner(args.base.removeprefix("random:"), args.image_size)
        model = MetaModel(learner.to(device).requires_grad_(False), args.image_size)
    else:
        model = MetaModel.load(args.base, device=str(device))
    emit_rows("throughput", args, (measure(model, shot, args, device) for shot in args.shots))


def measure(model: MetaModel, shot: int, args: argparse.Namespace, device: torch.device) -> Row:
    """One size of the support set."""
    photos = random_images(args.photos, model.image_size, seed=1)
    images = random_images(args.way * shot, model.image_size)
    adapt = partial(model.adapt, images, [f"class {n // shot}" for n in range(len(images))])
    personal = adapt()
    ways: dict[str, Callable[[], object]] = {
        "adapt": adapt,
        "adapt_bare": lambda: Passes().map(model.learner.backbone, images.to(device)),
        "classify": lambda: personal.outputs(photos),
        "classify_bare": lambda: Passes().map(model.learner.backbone, photos.to(device)),
    }
    if device.type == "cpu":
        with tempfile.TemporaryDirectory() as folder:  # as `classify` opens it
            quick = TorchFreeModel.load(personal.save(Path(folder) / "personal.safetensors"))
        if quick is not None:
            ways["classify_by_onnxruntime"] = lambda: quick.answers_of(photos.numpy())
    for way in ways.values():
        way()  # warms up
    beside = {"adapt": "adapt_bare", "classify": "classify_bare"}
    found = in_turns([ways] * args.repeats, beside, device)
    times = {name: s for name, s in found["processor_seconds"].items() if "classify" in name}
    each = {name: round(1e3 * seconds / len(photos), 2) for name, seconds in times.items()}
    about = {"way": args.way, "shot": shot, "image_size": model.image_size}
    return about | found | {"processor_ms_a_photo": each}


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
