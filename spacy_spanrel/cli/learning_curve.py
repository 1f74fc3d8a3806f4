"""`python -m spacy spanrel learning-curve`: train on more and more of the data, and say whether more
annotation will pay."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import typer
from spacy.cli._util import parse_config_overrides, setup_gpu
from spacy.cli.train import train as spacy_train
from spacy.tokens import Doc, DocBin
from spacy.util import load_config

from ..annotations import get_relations
from ..evaluation.learning import LearningCurve, LearningPoint, render_curve
from ..files import to_json, write_whole
from ..reading import argument_error
from ..training.corpus import read_docs
from ._app import GpuId, Printer, app, failing_with

PERCENTS = (10.0, 20.0, 50.0, 100.0)
CURVE, PAGE, RESULT = "curve.json", "curve.html", "point.json"
# Evaluations of a training, if its schedule is set here.
_EVALUATIONS = 10


@app.command(
    "learning-curve",
    no_args_is_help=True,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def learning_curve_cli(
    ctx: typer.Context,
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Config of the training")],
    train: Annotated[
        Path, typer.Argument(metavar="TRAIN", help="Training Docs: .spacy file, or folder of such")
    ],
    dev: Annotated[
        Path, typer.Argument(metavar="DEV", help="Development Docs, on which all are scored")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the curve and of all trainings")
    ] = Path("learning_curve"),
    percents: Annotated[
        str, typer.Option("--percents", help="Shares of the data, separated by commas")
    ] = "10,20,50,100",
    draws: Annotated[
        int, typer.Option("--draws", min=1, help="Random orders of the Docs that are tried")
    ] = 1,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the random orders")] = 0,
    gpu_id: GpuId = -1,
) -> None:
    """Train on 10, 20, 50 and 100 % of the data, and say whether more annotation will pay.

    Each training is one of `spacy train`, with the same config. The Docs are shuffled once, and each
    share holds the smaller ones. CONFIG needs paths.train and paths.dev. If it has a section schedule
    as the configs of this package, its steps are set to fit the data: a share f of the data gets f ** 0.5
    of the steps, because less data need more epochs.

    The curve, and the score that twice the data should give, are written to OUTPUT as curve.html and
    curve.json. The same command continues after a stop: shares that are done are not trained again.
    Other settings of the config may be given, as for `spacy train`.

    Examples:

    \b
    $ python -m spacy spanrel learning-curve configs/span_relation_minilm.cfg train.spacy dev.spacy
    $ python -m spacy spanrel learning-curve config.cfg train.spacy dev.spacy --draws 3 --output curve
    """
    with failing_with(f"No curve in {output}"):
        setup_gpu(gpu_id, silent=True)
        curve = learning_curve(
            config,
            train,
            dev,
            output,
            percents=[_percent(text) for text in percents.split(",")],
            draws=draws,
            seed=seed,
            gpu_id=gpu_id,
            overrides=parse_config_overrides(ctx.args),
        )
    msg = Printer()
    msg.good(f"Learning curve in {output / PAGE} and {output / CURVE}")
    rows = [
        (f"{p.percent:g} %", p.docs, p.relations, p.draw + 1, f"{p.score:.1f}")
        for p in curve.points
    ]
    msg.table(rows, header=("Share", "Docs", "Relations", "Draw", "Score"), aligns=("r",) * 5)
    msg.info(curve.verdict)


def _percent(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise argument_error("--percents", repr(text), "numbers, such as 10,20,50,100") from error


def learning_curve(
    config: str | Path,
    train: str | Path,
    dev: str | Path,
    output: str | Path,
    *,
    percents: Sequence[float] = PERCENTS,
    draws: int = 1,
    seed: int = 0,
    gpu_id: int = -1,
    overrides: dict[str, Any] | None = None,
) -> LearningCurve:
    """Train on shares of the data, and draw the scores.

    config (str | Path): The config of the training.
    train, dev (str | Path): Training and development Docs: `.spacy` files, or folders of such.
    output (str | Path): The folder of the curve. Trainings that an earlier call has finished in it, with
        the same data and settings, are not repeated.
    percents (Sequence[float]): Shares of the training Docs, above 0 and up to 100.
    draws (int): Random orders of the Docs; the shares of each order are nested.
    seed (int): Seed of the orders.
    gpu_id (int): The GPU; -1 for the CPU.
    overrides (dict[str, Any] | None): Other settings of the config, as in `spacy train`.
    RETURNS (LearningCurve): The curve, which is also written to `curve.json` and `curve.html`.
    RAISES (ConversionError): If an argument is wrong or a file cannot be read.
    """
    output = Path(output)
    if not all(0 < percent <= 100 for percent in percents) or not percents:
        raise argument_error("--percents", str(list(percents)), "numbers above 0 and up to 100")
    overrides = dict(overrides or {})
    settings = load_config(config, overrides=overrides)
    if not {"train", "dev"} <= set(settings.get("paths", {})):
        raise argument_error(
            "CONFIG", f"'{config}' without them", "settings paths.train and paths.dev"
        )
    docs = list(read_docs(train))
    if not docs:
        raise argument_error("TRAIN", f"'{train}' without Docs", "training Docs")
    if not any(True for _ in read_docs(dev)):
        # Each share would be trained, and have the score 0.
        raise argument_error("DEV", f"'{dev}' without Docs", "development Docs")
    points = []
    for draw in range(draws):
        order = list(range(len(docs)))
        random.Random(f"{seed}-{draw}").shuffle(order)
        for percent in sorted(set(percents)):
            chosen = [docs[i] for i in order[: max(1, round(len(docs) * percent / 100))]]
            folder = output / f"{percent:g}_percent_draw_{draw + 1}"
            # The steps of a share follow from its size, whatever was given for the whole.
            values = {**overrides, **_schedule(settings, len(chosen), percent)}
            if "training.eval_frequency" in overrides:
                values["training.eval_frequency"] = overrides["training.eval_frequency"]
            points.append(_point(config, chosen, dev, folder, percent, draw, values, gpu_id))
            curve = LearningCurve(
                tuple(sorted(points, key=lambda p: (p.docs, p.draw))), _score_name(settings)
            )
            # After each training, so that a curve is there before the last one.
            write_whole(output / CURVE, f"{to_json(curve.to_dict(), indent=1)}\n".encode())
            write_whole(output / PAGE, render_curve(curve).encode())
    return curve


def _schedule(settings: dict[str, Any], n_docs: int, percent: float) -> dict[str, Any]:
    """Return settings that fit the schedule of our configs to a number of Docs; none for others."""
    schedule = settings.get("schedule", {})
    if not {"batch_size", "epochs", "warmup_steps", "total_steps"} <= set(schedule):
        return {}
    per_epoch = -(-n_docs // int(schedule["batch_size"]))
    epochs = round(int(schedule["epochs"]) / (percent / 100) ** 0.5)
    steps = per_epoch * epochs
    return {
        "schedule.epochs": epochs,
        "schedule.total_steps": steps,
        "schedule.warmup_steps": steps // 10,
        "training.eval_frequency": max(1, steps // _EVALUATIONS),
    }


def _point(
    config: str | Path,
    docs: Sequence[Doc],
    dev: str | Path,
    folder: Path,
    percent: float,
    draw: int,
    overrides: dict[str, Any],
    gpu_id: int,
) -> LearningPoint:
    """Train a pipeline in a folder, unless it is there, and return its scores."""
    data = DocBin(docs=docs, store_user_data=True).to_bytes()
    key = sha256()
    values = repr(sorted(overrides.items())).encode()
    for content in (data, Path(config).read_bytes(), values, *_contents(dev)):
        key.update(content)
    path = folder / RESULT
    if path.exists():
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved.pop("key") == key.hexdigest():
            return LearningPoint(**saved)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "train.spacy", data)
    spacy_train(
        Path(config),
        folder / "model",
        use_gpu=gpu_id,
        overrides={
            **overrides,
            "paths.train": str(folder / "train.spacy"),
            "paths.dev": str(dev),
        },
    )
    meta = json.loads((folder / "model" / "model-best" / "meta.json").read_text(encoding="utf-8"))
    weights = load_config(folder / "model" / "model-best" / "config.cfg")["training"][
        "score_weights"
    ]
    scores = meta["performance"]
    score = 100 * sum((scores.get(name) or 0) * (w or 0) for name, w in weights.items() if w)
    relations = sum(len(get_relations(doc)) for doc in docs)
    point = LearningPoint(percent, len(docs), relations, draw, score, scores)
    write_whole(path, f"{to_json({'key': key.hexdigest(), **vars(point)})}\n".encode())
    return point


def _contents(path: str | Path) -> Iterator[bytes]:
    files = sorted(Path(path).rglob("*.spacy")) if Path(path).is_dir() else [Path(path)]
    for file in files:
        yield file.read_bytes()


def _score_name(settings: dict[str, Any]) -> str:
    """Describe the score by which a training chooses its best pipeline."""
    weights = settings.get("training", {}).get("score_weights", {})
    used = {name: w for name, w in weights.items() if isinstance(w, int | float) and w}
    named = list(used) if len(used) == 1 else [f"{w:g} {name}" for name, w in used.items()]
    return " + ".join(named) or "the score of the training"
