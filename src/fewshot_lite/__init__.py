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
    from fewshot_lite.core.errors import FewshotError, UsageError
    from fewshot_lite.demo.run import run_demo
    from fewshot_lite.evaluation.lambda_search.options import SearchOptions
    from fewshot_lite.evaluation.lambda_search.search import search_patterns
    from fewshot_lite.evaluation.protocols.options import ProtocolOptions
    from fewshot_lite.images.photo import load_square
    from fewshot_lite.images.preflight import check
    from fewshot_lite.images.regions import Region
    from fewshot_lite.personal.editing import add, remove, rename
    from fewshot_lite.personal.estimator import FewShotClassifier
    from fewshot_lite.personal.export.writing import export_model
    from fewshot_lite.personal.loading import describe, load, open_base, open_personal
    from fewshot_lite.personal.meta_model import MetaModel
    from fewshot_lite.personal.personal_model import PersonalModel
    from fewshot_lite.personal.quality import assess
    from fewshot_lite.personal.suggesting import suggest
    from fewshot_lite.personal.undo import undo
    from fewshot_lite.published.check import check_data
    from fewshot_lite.published.evaluate import evaluate
    from fewshot_lite.training.meta_config import MetaTrainConfig
    from fewshot_lite.training.meta_train import meta_train
    from fewshot_lite.training.pretrain import pretrain
    from fewshot_lite.training.pretrain_config import PretrainConfig
    from fewshot_lite.training.tune_config import TuneConfig
    from fewshot_lite.training.tuning import tune

__version__ = "0.1.0"

_HOMES = {
    "add": "personal.editing",
    "assess": "personal.quality",
    "check": "images.preflight",
    "check_data": "published.check",
    "describe": "personal.loading",
    "load": "personal.loading",
    "FewShotClassifier": "personal.estimator",
    "FewshotError": "core.errors",
    "UsageError": "core.errors",
    "evaluate": "published.evaluate",
    "export_model": "personal.export.writing",
    "load_square": "images.photo",
    "open_base": "personal.loading",
    "open_personal": "personal.loading",
    "MetaModel": "personal.meta_model",
    "MetaTrainConfig": "training.meta_config",
    "meta_train": "training.meta_train",
    "PersonalModel": "personal.personal_model",
    "PretrainConfig": "training.pretrain_config",
    "Region": "images.regions",
    "ProtocolOptions": "evaluation.protocols.options",
    "pretrain": "training.pretrain",
    "remove": "personal.editing",
    "rename": "personal.editing",
    "run_demo": "demo.run",
    "search_patterns": "evaluation.lambda_search.search",
    "SearchOptions": "evaluation.lambda_search.options",
    "suggest": "personal.suggesting",
    "tune": "training.tuning",
    "TuneConfig": "training.tune_config",
    "undo": "personal.undo",
}

__all__ = [
    "FewShotClassifier",
    "FewshotError",
    "MetaModel",
    "MetaTrainConfig",
    "PersonalModel",
    "PretrainConfig",
    "ProtocolOptions",
    "Region",
    "SearchOptions",
    "TuneConfig",
    "UsageError",
    "__version__",
    "add",
    "assess",
    "check",
    "check_data",
    "describe",
    "evaluate",
    "export_model",
    "load",
    "load_square",
    "meta_train",
    "open_base",
    "open_personal",
    "pretrain",
    "remove",
    "rename",
    "run_demo",
    "search_patterns",
    "suggest",
    "tune",
    "undo",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fewshot_lite' has no attribute {name!r}")
    return getattr(import_module(f"fewshot_lite.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
