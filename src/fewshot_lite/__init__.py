"""Few-shot personalisation: adapt to a person's own photos in one forward pass.

    model = fewshot_lite.load()                # the shipped model, or a checkpoint of your own
    personal = model.adapt("my_objects")       # one folder of photos per class
    personal.save("personal.safetensors")
    print(personal.classify("photo.jpg").label)

Names are imported when first used: `import fewshot_lite` and `fewshot-lite --help` stay quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewshot_lite.data.photos import load_square
    from fewshot_lite.editing import add, remove, rename
    from fewshot_lite.errors import FewshotError, UsageError
    from fewshot_lite.evaluation import evaluate
    from fewshot_lite.export.writing import export_model
    from fewshot_lite.meta_config import MetaTrainConfig
    from fewshot_lite.meta_model import MetaModel, load
    from fewshot_lite.meta_training import meta_train
    from fewshot_lite.personal import PersonalModel
    from fewshot_lite.personal_files import open_personal
    from fewshot_lite.pretrain_config import PretrainConfig
    from fewshot_lite.pretraining import pretrain

__version__ = "0.1.0"

_HOMES = {
    "add": "editing",
    "load": "meta_model",
    "FewshotError": "errors",
    "UsageError": "errors",
    "evaluate": "evaluation",
    "export_model": "export.writing",
    "load_square": "data.photos",
    "open_personal": "personal_files",
    "MetaModel": "meta_model",
    "MetaTrainConfig": "meta_config",
    "meta_train": "meta_training",
    "PersonalModel": "personal",
    "PretrainConfig": "pretrain_config",
    "pretrain": "pretraining",
    "remove": "editing",
    "rename": "editing",
}

__all__ = [
    "FewshotError",
    "MetaModel",
    "MetaTrainConfig",
    "PersonalModel",
    "PretrainConfig",
    "UsageError",
    "__version__",
    "add",
    "evaluate",
    "export_model",
    "load",
    "load_square",
    "meta_train",
    "open_personal",
    "pretrain",
    "remove",
    "rename",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fewshot_lite' has no attribute {name!r}")
    return getattr(import_module(f"fewshot_lite.{_HOMES[name]}"), name)
