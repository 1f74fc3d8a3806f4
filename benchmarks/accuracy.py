"""Tables of accuracy: what the benchmarks measured, beside published figures.

    python benchmarks/accuracy.py            # print them
    python benchmarks/accuracy.py --write    # put them into docs/results.md and README.md

The rows of `docs/results/*.jsonl` come from `conll04.py`, `scierc.py`, `kbp37.py`, `semeval.py` and
`squad.py`. Recipes stand beside published figures; variants of `--set`, which are steps on the way to a
recipe, get a table of their own, with the difference to the recipe that has the same encoder and number of
epochs. In the pages, a table stands between
`<!-- accuracy: NAME -->` and `<!-- end of NAME -->`.
"""

from __future__ import annotations

import argparse
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recipes import Row, groups_of, mean, mean_and_spread, read_rows

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
PAGES = (ROOT / "docs" / "results.md", ROOT / "README.md")
PARAMETERS = {"all-MiniLM-L6-v2": "22.7 M", "all-mpnet-base-v2": "109 M"}


@dataclass(frozen=True)
class Published:
    """A published figure.

    system (str), encoder (str), source (str): What was measured, on which encoder, who says so.
    data (str): What it was trained and scored on.
    scores (dict[str, str]): Scores by the names of the columns.
    """

    system: str
    encoder: str
    data: str
    source: str
    scores: dict[str, str]


@dataclass(frozen=True)
class Benchmark:
    """The table of a benchmark.

    component (str): The component that is measured.
    columns (dict[str, str]): Headings of the scores, and columns of the rows; the last one decides.
    published (Sequence[Published]): Figures of others.
    decoding (str | None): Which decoding counts, where rows have several.
    best (str): The recipe.
    recipes (Sequence[str]): Other variants to show as recipes.
    base (str | None): The variant with which those of `--set` are compared, if it is not `best`.
    """

    component: str
    columns: dict[str, str]
    published: Sequence[Published]
    decoding: str | None = None
    best: str = "best"
    recipes: Sequence[str] = ("base size",)
    base: str | None = None


JOINT = {"NER F1": "ents_f", "boundaries F1": "rel_f", "strict F1": "rel_strict_f"}
PAIRS = {"micro F1": "rel_f", "macro F1": "rel_semeval_macro_f"}
SPERT = "Eberts and Ulges 2020"
MTB = "Baldini Soares et al. 2019, tables 4 and 5"
EZNLP = "github.com/syuoni/eznlp, docs/relation_extraction.md"
PURE = "github.com/princeton-nlp/PURE, released models"
PFN = "github.com/Coopercoppers/PFN"
EDGEXTRACT = "github.com/raphaelmansuy/edgextract, specs/0001-implementation/14-evaluation.md"


def published(columns: Iterable[str], *rows: tuple[str, ...]) -> list[Published]:
    """Return published figures.

    columns (Iterable[str]): Headings of the scores.
    *rows (tuple[str, ...]): System, encoder, data and source, then the scores; "" for one that is not
        reported.
    RETURNS (list[Published]): The figures.
    """
    return [Published(*row[:4], dict(zip(columns, row[4:], strict=True))) for row in rows]


BENCHMARKS = {
    "conll04": Benchmark(
        "span_relation",
        JOINT,
        published(
            JOINT,
            ("SpERT", "BERT base (110 M)", "train+dev, test", SPERT, "88.94", "", "71.47"),
            ("SpERT", "BERT base (110 M)", "test", EZNLP, "88.93", "", "70.82"),
            ("SpERT + LSTM", "BERT base (110 M)", "test", EZNLP, "89.86", "", "72.51"),
            ("SpERT + LSTM", "RoBERTa base (125 M)", "test", EZNLP, "89.17", "", "75.03"),
            ("PFN", "ALBERT xxlarge (223 M)", "test", PFN, "89.6", "", "75.0"),
            ("edgextract, final", "GLiNER2.5 base", "none, test", EDGEXTRACT, "69.0", "", "38.8"),
            ("edgextract, first", "GLiNER2.5", "none, test", EDGEXTRACT, "65.8", "", "41.1"),
            ("Mistral Small", "", "none, test", EDGEXTRACT, "64.3", "", "33.0"),
        ),
        decoding="+ best overlap",
        recipes=(
            "base size",
            "best, taught",
            "best, taught by three seeds",
            "best, 3 layers",
            "best, 3 layers, taught",
            "best, 3 layers, taught by three seeds",
            "without distance and types",
        ),
        base="without distance and types",
    ),
    "scierc": Benchmark(
        "span_relation",
        JOINT,
        published(
            JOINT,
            ("SpERT", "SciBERT (110 M)", "train+dev, test", SPERT, "70.33", "50.84", ""),
            ("SpERT", "BERT base (110 M)", "train+dev, test", SPERT, "67.62", "46.44", ""),
            ("SpERT", "BERT base (110 M)", "test", EZNLP, "66.71", "46.07", "33.94"),
            ("SpERT", "RoBERTa base (125 M)", "test", EZNLP, "69.29", "48.93", "36.65"),
            (
                "PURE, sentences",
                "two SciBERT (220 M)",
                "train, test",
                PURE,
                "66.7",
                "48.7",
                "35.7",
            ),
            ("PURE, context", "two SciBERT (220 M)", "train, test", PURE, "69.5", "51.5", "37.7"),
            ("PFN", "SciBERT (110 M)", "train, test", PFN, "66.8", "", "38.4"),
        ),
        recipes=(
            "base size",
            "without distance and types",
        ),
        base="without distance and types",
    ),
    "kbp37": Benchmark(
        "relation_classifier",
        PAIRS,
        published(
            ["macro F1"],
            ("entity markers", "BERT large (340 M)", "train, dev", MTB, "69.5"),
            ("entity markers", "BERT large (340 M)", "train, test", MTB, "68.3"),
            ("the same + MTB", "BERT large (340 M)", "train, dev", MTB, "70.3"),
            ("the same + MTB", "BERT large (340 M)", "train, test", MTB, "69.3"),
        ),
        best="typed_markers",
    ),
    "semeval": Benchmark(
        "relation_classifier",
        {"micro F1": "rel_f", "official macro F1": "rel_semeval_macro_f"},
        published(
            ["official macro F1"],
            ("R-BERT", "BERT base (110 M)", "8,000, test", "Wu and He 2019", "89.25"),
            ("entity markers", "BERT large (340 M)", "8,000, test", MTB, "89.2"),
            ("the same + MTB", "BERT large (340 M)", "8,000, test", MTB, "89.5"),
        ),
        best="typed_markers",
    ),
    "squad": Benchmark(
        "extractive_qa",
        {"exact": "qa_exact", "F1": "qa_f1", "best F1": "qa_best_f1"},
        [],
        best="made questions, then 6 epochs",
    ),
}


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def encoder_name(row: Row) -> str:
    """Return the encoder of a row and its number of parameters."""
    size = PARAMETERS.get(row["encoder"])
    return row["encoder"] + (f" ({size})" if size else "")


def minutes(rows: Sequence[Row]) -> str:
    """Return the mean minutes of trainings with their scoring, the machine, and the precision where the row
    says it."""
    seconds = [row.get("seconds") or row["cpu_seconds"] for row in rows]
    where = ", ".join(
        sorted({" in ".join(filter(None, (row["device"], row.get("precision")))) for row in rows})
    )
    return f"{statistics.mean(seconds) / 60:.1f}, {where}"


def read_benchmark(name: str) -> list[Row]:
    """Return the rows of a benchmark that count: of whole trainings, with one decoding."""
    benchmark = BENCHMARKS[name]
    return [
        row
        for row in read_rows(RESULTS / f"{name}.jsonl")
        if row.get("decoding") == benchmark.decoding
        and not row.get("start")
        and not row.get("frozen")
    ]


def statement(name: str) -> str:
    """Return what recipes give, beside published figures."""
    benchmark = BENCHMARKS[name]
    recipes = (benchmark.best, *benchmark.recipes)
    rows = [row for row in read_benchmark(name) if row["variant"] in recipes]
    columns = [*benchmark.columns.values()]
    lines = [
        [each.system, each.encoder, each.data, ""]
        + [each.scores.get(column, "") for column in benchmark.columns]
        + ["", each.source]
        for each in benchmark.published
    ]
    groups = groups_of(rows, "encoder", "variant", "epochs", "trained_on", "scored_on")
    for (_, variant, epochs, trained_on, scored_on), group in sorted(
        groups.items(), key=lambda item: -(mean(item[1], columns[-1]) or 0.0)
    ):
        lines.append(
            [
                f"`{benchmark.component}`, {variant}, {epochs} epochs",
                encoder_name(group[0]),
                f"{trained_on}, {scored_on}",
                str(len(group)),
                *(mean_and_spread(group, column) for column in columns),
                minutes(group),
                f"`benchmarks/{name}.py`",
            ]
        )
    header = ["system", "encoder (parameters)", "trained on, scored on", "seeds"]
    return markdown([*header, *benchmark.columns, "minutes, on", "source"], lines)


def ablation(name: str) -> str:
    """Return what single settings change, on the data on which they were chosen."""
    benchmark = BENCHMARKS[name]
    shared = ("encoder", "epochs", "trained_on", "scored_on")
    columns = benchmark.columns.values()
    lines = []
    for key, rows in groups_of(read_benchmark(name), *shared).items():
        groups = groups_of(rows, "variant")
        if all(not row["settings"] for row in rows):
            continue
        base = groups.get((benchmark.base,)) or groups.get((benchmark.best,), [])
        for (variant,), group in groups.items():
            settings = ", ".join(
                f"`{setting.split('.', 2)[-1]} = {value}`"
                for setting, value in group[0]["settings"].items()
            )
            cells = [mean_and_spread(group, column) for column in columns]
            for i, column in enumerate(columns):
                ours, other = mean(group, column), mean(base, column)
                if group is not base and ours is not None and other is not None:
                    cells[i] += f" ({ours - other:+.2f})"
            lines.append(
                [variant, settings, *map(str, key), str(len(group)), *cells, minutes(group)]
            )
    header = ["variant", "settings", "encoder", "epochs", "trained on", "scored on", "seeds"]
    return markdown([*header, *benchmark.columns, "minutes, on"], lines) if lines else ""


def summary() -> str:
    """Return the table of the README: strict F1 on CoNLL04 test, of what has several seeds."""
    benchmark = BENCHMARKS["conll04"]
    shown = [p for p in benchmark.published if p.source != EZNLP or "RoBERTa" in p.encoder]
    lines = [
        [
            ", ".join(filter(None, (each.system, each.encoder))),
            "no" if each.data.startswith("none") else "yes",
            each.scores["strict F1"],
            f"published: {each.source.split(',')[0]}",
        ]
        for each in shown
    ]
    rows = [
        row
        for row in read_benchmark("conll04")
        if row["scored_on"] == "test" and row["variant"] in (benchmark.best, *benchmark.recipes)
    ]
    for (_, variant), group in groups_of(rows, "encoder", "variant").items():
        if len(group) == 1:
            continue
        score = mean_and_spread(group, "rel_strict_f")
        how = variant.removeprefix("best").removeprefix("base size").strip(", ")
        system = ", ".join(filter(None, ["`span_relation`", encoder_name(group[0]), how]))
        measured = f"{len(group)} seeds, [results](docs/results.md)"
        lines.append([f"**{system}**", "yes", f"**{score}**", measured])
    lines.append(
        [
            "SpERT's program, all-MiniLM-L6-v2 (22.7 M)",
            "yes",
            "62 to 64.5, by seed",
            "run for this comparison",
        ]
    )
    lines.sort(key=lambda line: -float(re.findall(r"[\d.]+", line[2])[0]))
    return markdown(["system", "trained on CoNLL04", "strict relation F1", "source"], lines)


TABLES: dict[str, Callable[[], str]] = {"summary": summary}
for _name in BENCHMARKS:
    TABLES[_name] = lambda name=_name: statement(name)
    TABLES[f"{_name}, settings"] = lambda name=_name: ablation(name)


def fill(page: str) -> str:
    """Return a page with its tables renewed."""
    for name, table in TABLES.items():
        begin, end = f"<!-- accuracy: {name} -->", f"<!-- end of {name} -->"
        pattern = re.compile(re.escape(begin) + r".*?" + re.escape(end), re.DOTALL)
        content = "\n\n".join(filter(None, (begin, table(), end)))
        page = pattern.sub(lambda _, content=content: content, page)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the tables into the pages")
    if not parser.parse_args().write:
        for name, table in TABLES.items():
            print(f"{name}\n\n{table()}\n")
        return
    for path in PAGES:
        path.write_text(fill(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
