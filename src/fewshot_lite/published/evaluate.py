"""`fewshot_lite.evaluate`: compare models on the tasks of a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fewshot_lite.core.config import switches_checked
from fewshot_lite.core.files import DEFAULT_BASE
from fewshot_lite.core.progress import Progress, Report
from fewshot_lite.core.ranks import Ranks
from fewshot_lite.evaluation.caches import ImageCache
from fewshot_lite.evaluation.names import parse_models
from fewshot_lite.evaluation.opening import Session
from fewshot_lite.evaluation.protocols.base import EvaluationProtocol
from fewshot_lite.evaluation.protocols.options import ProtocolKind, ProtocolOptions
from fewshot_lite.evaluation.session import Outcome, compare_models
from fewshot_lite.images.folders import some_folders
from fewshot_lite.images.photo import Source
from fewshot_lite.published.registry import open_protocol


@switches_checked
def evaluate(
    models: Sequence[str | Path],
    data: str | Path | Sequence[str | Path],
    options: ProtocolOptions | None = None,
    session: Session | None = None,
    *,
    query: str | Path | None = None,
    kind: ProtocolKind = "auto",
    baseline_backbone: str = DEFAULT_BASE,
    check: Callable[[EvaluationProtocol], None] = lambda protocol: None,
    log: Path | None = None,
    force: bool = False,
    report: Report = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
    ranks: Ranks | None = None,
) -> Outcome:
    """Compare models on exactly the same tasks: accuracies with intervals, and costs.

        options = ProtocolOptions.parse(shots="1,5", tasks=100)
        comparison = fewshot_lite.evaluate(["default", "cosine"], "my_images", options).comparison
        print({s.name: s.accuracy["default"].mean for s in comparison.sections})

    Args:
        models: `default`, checkpoints, or baselines (`names.BASELINES`), also as NAME:BACKBONE; the
            others are compared with the first.
        data: class folders, a folder of such data sets, or several of either; or the folder of a
            published benchmark.
        options: the settings of the tasks; by default those of the protocol.
        session: how networks are run.
        query: class folders of the queries, if they are not from `data`, which is then one folder.
        kind: the protocol; "auto" recognises the folder's format.
        baseline_backbone: the backbone of baselines that name none.
        check: called with the protocol before anything is scored; may raise.
        log: a .jsonl file for the scores of each task, from which the same call continues.
        force: overwrite a log of another comparison.
        report: called with the progress of reading and scoring.
        stop: asked after each task; True ends the run with the tasks done so far.
        ranks: processes that share the tasks; all return the same, the first one writes.

    Raises:
        UsageError, FewshotError: models, data or a log that cannot be used.
    """
    settings = options or ProtocolOptions()
    settings.check()
    folders = some_folders(data)

    def open_data(images: ImageCache, size: int) -> EvaluationProtocol:
        def find_unreadable(sources: Sequence[Source]) -> Mapping[Source, str]:
            return images.problems(
                sources, size, lambda done, total: report(Progress(done, total, "Reading photos"))
            )

        protocol = open_protocol(
            folders,
            settings,
            query=None if query is None else Path(query),
            kind=kind,
            find_unreadable=find_unreadable,
        )
        check(protocol)
        return protocol

    return compare_models(
        parse_models([str(model) for model in models], baseline_backbone),
        open_data,
        session or Session(),
        log=log,
        force=force,
        on_done=lambda done, total: report(Progress(done, total, "Evaluating")),
        stop=stop,
        ranks=ranks,
    )
