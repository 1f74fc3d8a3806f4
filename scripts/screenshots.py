"""Make the pictures in docs/images from the gold annotation of the sample corpus.

    python scripts/screenshots.py
    python scripts/screenshots.py --model training/sample/model-last

Chromium or Chrome takes the screenshots. With --model, relations.svg is drawn too: the predictions of
that pipeline for a new sentence.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from spacy_spanrel.cli import visualize
from spacy_spanrel.converters import spert_to_docs, squad_to_docs
from spacy_spanrel.visualize import relation_graph, render, write_graph

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "assets" / "sample"
IMAGES = ROOT / "docs" / "images"
SENTENCE = "Ada Bergstrom , a chemist at Kelvin Labs in Oslo , was born in Trondheim ."
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def take(browser: str, page: Path, image: Path, size: tuple[int, int]) -> None:
    """Take a screenshot of a page."""
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                browser,
                *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update"),
                *("--disable-sync", "--hide-scrollbars", f"--user-data-dir={profile}"),
                f"--window-size={size[0]},{size[1]}",
                f"--screenshot={image}",
                page.as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=300,
        )
    print(f"{image.relative_to(ROOT)}: {image.stat().st_size // 1024} KB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--browser", help="Chromium or Chrome (default: the first one that is installed)"
    )
    parser.add_argument("--model", help="folder of a pipeline with span_relation")
    args = parser.parse_args()
    browser = args.browser or next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        parser.error("no browser found; name one with --browser")
    IMAGES.mkdir(parents=True, exist_ok=True)

    gold = list(spert_to_docs(SAMPLE / "test.json"))
    arcs = sorted(gold, key=lambda doc: -len(doc._.relations))[:3]
    question_docs = list(squad_to_docs(SAMPLE / "qa_test.json"))[:1]
    graph = relation_graph(spert_to_docs(SAMPLE / "train.json"))
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        for theme in ("light", "dark"):
            options = {"theme": theme, "width": 100}
            page.write_text(render(arcs, page=True, jupyter=False, options=options), "utf8")
            take(browser, page, IMAGES / f"arcs_{theme}.png", (1080, 880))
        options = {"theme": "light"}
        answers = render(question_docs, "answers", page=True, jupyter=False, options=options)
        page.write_text(answers, "utf8")
        take(browser, page, IMAGES / "answers.png", (1000, 850))
        write_graph(graph, page, max_nodes=24, theme="light")
        take(browser, page, IMAGES / "graph.png", (1250, 760))
    if args.model:
        visualize(args.model, SENTENCE, output=IMAGES / "relations.svg", scores=True)
        print("docs/images/relations.svg")


if __name__ == "__main__":
    main()
