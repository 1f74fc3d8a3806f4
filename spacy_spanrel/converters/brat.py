"""Standoff files of brat, pairs of .txt and .ann: to gold Docs and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, combinations, count, pairwise
from pathlib import Path

from spacy.language import Language
from spacy.tokens import Doc

from ..annotations.relations import RecordId
from ..errors import Errors
from ..reading import ErrorHandler, Place, raise_error, read_lines, read_text, short
from .common import DocMaker, Edge, Entity
from .offsets import Fragments, QuotedSpan, locate
from .report import ConversionReport, ExportReport, Finding
from .type_names import TypeNames
from .writing import read_text_annotations, score_of

TEXT_SUFFIX, ANN_SUFFIX = ".txt", ".ann"
EQUIV = "Equiv"
# An Equiv line of n entities is n * (n - 1) / 2 relations; a text has at most so many of them.
MAX_EQUIVALENT_PAIRS = 20_000
# First letter of an id -> the kind of annotation, for kinds that are counted and not read.
UNREAD = {
    "E": "events",
    "A": "attributes",
    "M": "attributes of the old form",
    "N": "normalizations",
    "#": "comments",
}
_OFFSETS = re.compile(r"[0-9]{1,18} [0-9]{1,18}(?:;[0-9]{1,18} [0-9]{1,18})*")
_NOT_IN_NAMES = re.compile(r"[^\w.-]+")


def brat_to_docs(
    path: str | Path,
    *,
    nlp: Language | None = None,
    types: str | Path | TypeNames | None = None,
    keep_unannotated: bool = False,
    coref: str | None = None,
    on_error: ErrorHandler = raise_error,
    report: ConversionReport | None = None,
) -> Iterator[Doc]:
    """Read standoff files of brat, one Doc per text.

    A text is a pair of files, DOC.txt and DOC.ann. Offsets count characters, and ends are exclusive;
    columns are separated by tabs. Sample of an .ann file for the text "Ann Lee lives in Oslo"::

        T1	Person 0 7	Ann Lee
        T2	City 17 21	Oslo
        R1	Lives_In Arg1:T1 Arg2:T2

    - The head of a relation is its argument Arg1, the tail is Arg2; with other names, the first
      argument is the head. A line ``*	Equiv T1 T2 ...`` relates every pair of its entities, in the
      order of the text; more than 20,000 such pairs in a text are an error.
    - An entity in several fragments is read if there are only blanks between them, as when it
      crosses the end of a line. Otherwise it is left out with its relations, and this is reported.
    - Events, attributes, normalizations and comments are counted and not read. Relations with an
      event are left out and reported.
    - The quoted texts must be found at their offsets. If they are found only when offsets count
      UTF-16 units, or a line end of two characters as one, the offsets are converted, and this is
      counted.
    - An entity that ends inside a token is widened to whole tokens and reported.

    The id of a Doc is the name of its files; when a folder is read, the path inside the folder.

    path (str | Path): An .ann or .txt file, or a folder. All pairs in a folder and in the folders
        inside it are read, in the order of their names, except for hidden files.
    keep_unannotated (bool): Read a .txt without .ann as a text without entities. Otherwise it is
        left out and counted, or, if `path` is this one file, an error.
    coref (str | None): The name of coreference, as in `common.DocMaker`: of lines ``*	NAME T1 T2 ...``,
        of relations, and of text-bound annotations that are mentions only.
    nlp, types, on_error, report: As in `common.DocMaker`.
    YIELDS (Doc): The gold Docs.
    RAISES (ConversionError): If there is nothing to read or, with the default `on_error`, a text is
        bad.
    """
    maker = DocMaker(nlp, types, on_error, report, coref)

    def to_doc(name_and_stem: tuple[str, Path]) -> Doc:
        name, stem = name_and_stem
        text_path, ann_path = (Path(f"{stem}{suffix}") for suffix in (TEXT_SUFFIX, ANN_SUFFIX))
        place = Place(str(ann_path), "", name)
        if not text_path.is_file():
            raise place.error(Errors.E625, found="no text", expected=f"the file {str(text_path)!r}")
        text = read_text(text_path, name)
        if ann_path.is_file():
            standoff = _parse(ann_path, place, maker.report)
        else:
            maker.report.notes["texts without an .ann file, kept"] += 1
            standoff = _Standoff()
        doc = maker.tokenize(text, Place(str(text_path), "", name))
        entities, relations = _resolve(standoff, doc, text, place, maker)
        return maker.annotate(doc, entities, relations, place)

    yield from maker.each(_find_texts(Path(path), keep_unannotated, maker.report), to_doc)


def _find_texts(
    path: Path, keep_unannotated: bool, report: ConversionReport
) -> list[tuple[str, Path]]:
    """Return the name of each text, and the path of its files without suffix."""
    place = Place(str(path))
    if not path.exists():
        raise place.error(
            Errors.E601,
            found="no such file or folder",
            expected=f"a folder, or a file with the suffix {ANN_SUFFIX} or {TEXT_SUFFIX}",
        )
    if path.is_dir():
        with_text, with_ann = (
            {
                file.with_suffix("").relative_to(path).as_posix()
                for file in path.rglob(f"*{suffix}")
                if file.is_file()
                and not any(part.startswith(".") for part in file.relative_to(path).parts)
            }
            for suffix in (TEXT_SUFFIX, ANN_SUFFIX)
        )
        without = len(with_text - with_ann)
        if without and not keep_unannotated:
            report.notes["texts without an .ann file, left out"] += without
        names = with_ann | (with_text if keep_unannotated else set())
        if not names:
            raise place.error(
                Errors.E609,
                found=f"a folder with {without} {TEXT_SUFFIX} and no {ANN_SUFFIX} files",
                expected=f"{ANN_SUFFIX} files"
                + (", or the option to keep such texts" * bool(without)),
            )
        return [(name, path / name) for name in sorted(names)]
    if path.suffix not in (TEXT_SUFFIX, ANN_SUFFIX):
        raise place.error(
            Errors.E613,
            found=f"the suffix {path.suffix!r}",
            expected=f"a folder, or a file with the suffix {ANN_SUFFIX} or {TEXT_SUFFIX}",
        )
    annotations = path.with_suffix(ANN_SUFFIX)
    if not annotations.is_file() and not keep_unannotated:
        raise place.error(
            Errors.E625,
            found="a text without annotations",
            expected=f"the file {str(annotations)!r}, or the option to keep such texts "
            "(keep_unannotated, on the command line --keep-unannotated)",
        )
    return [(path.stem, path.with_suffix(""))]


# Reading


@dataclass(frozen=True)
class _TextBound:
    label: str
    span: QuotedSpan


@dataclass(frozen=True)
class _Relation:
    """A relation of two arguments, or an equivalence of two or more."""

    name: str
    label: str
    arguments: tuple[str, ...]
    is_symmetric: bool
    place: Place


@dataclass
class _Standoff:
    """The content of an .ann file.

    text_bounds (dict[str, _TextBound]): By their ids.
    relations (list[_Relation]): In the order of the file.
    unread (dict[str, str]): Ids of other annotations, and their kinds.
    """

    text_bounds: dict[str, _TextBound] = field(default_factory=dict)
    relations: list[_Relation] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)


def _parse(path: Path, file: Place, report: ConversionReport) -> _Standoff:
    standoff = _Standoff()
    for number, line in read_lines(path, file.id):
        if not line.strip():
            continue
        place = file.at(f"line {number}")
        name, tab, rest = line.partition("\t")
        kind = name[:1]
        if not tab or (kind not in {"T", "R", "*"} and kind not in UNREAD):
            raise place.error(
                Errors.E610,
                found=short(line),
                expected="an id that begins with one of T R * " + " ".join(UNREAD) + ", and a tab",
            )
        if name in standoff.text_bounds or name in standoff.unread:
            raise place.error(Errors.E621, found=f"{short(name)} again", expected="different ids")
        if kind == "T":
            standoff.text_bounds[name] = _parse_text_bound(rest, place)
        elif kind in UNREAD:
            report.notes[f"{UNREAD[kind]} of brat, not read"] += 1
            standoff.unread[name] = UNREAD[kind]
        else:
            standoff.relations.append(_parse_relation(name, rest, place))
    return standoff


def _parse_text_bound(rest: str, place: Place) -> _TextBound:
    data, tab, quote = rest.partition("\t")
    label, _, offsets = data.partition(" ")
    offsets = offsets.strip()
    if not label or not _OFFSETS.fullmatch(offsets):
        raise place.error(
            Errors.E610,
            found=short(rest),
            expected="a type without blanks, start and end (or several, as 0 3;5 9), a tab and the "
            "text",
        )
    pairs = (fragment.split(" ") for fragment in offsets.split(";"))
    fragments = tuple((int(start), int(end)) for start, end in pairs)
    return _TextBound(label, QuotedSpan(fragments, quote if tab else None, place))


def _parse_relation(name: str, rest: str, place: Place) -> _Relation:
    # Text behind a second tab is no part of the relation.
    label, *arguments = rest.partition("\t")[0].split() or [""]
    if name == "*":
        if len(arguments) < 2:
            expected = f"{EQUIV} and two or more ids"
            raise place.error(Errors.E610, found=short(rest), expected=expected)
        return _Relation(name, label, tuple(arguments), True, place)
    pairs = [argument.partition(":") for argument in arguments]
    roles = [role for role, _, _ in pairs]
    if len(pairs) != 2 or not all(role and target for role, _, target in pairs):
        raise place.error(
            Errors.E610,
            found=short(rest),
            expected="a type and two arguments, as Origin Arg1:T1 Arg2:T2",
        )
    if roles == ["Arg2", "Arg1"]:
        pairs.reverse()
    return _Relation(name, label, tuple(target for _, _, target in pairs), False, place)


def _resolve(
    standoff: _Standoff, doc: Doc, text: str, place: Place, maker: DocMaker
) -> tuple[list[Entity], list[Edge]]:
    """Return entities by tokens, and relations by indices of entities."""
    report = maker.report
    entities: list[Entity] = []
    index: dict[str, int] = {}
    lost: dict[str, str] = {
        name: f"is one of the {kind}, which are not read" for name, kind in standoff.unread.items()
    }
    located = locate(text, [bound.span for bound in standoff.text_bounds.values()], report)
    for (name, bound), fragments in zip(standoff.text_bounds.items(), located, strict=True):
        joined = _join(fragments, text)
        if len(joined) > 1:
            words = " ... ".join(text[start:end] for start, end in joined)
            report.lost_entities.append(
                Finding(place.ref, f"{name} {short(words)} ({bound.label}) is discontinuous")
            )
            lost[name] = "is discontinuous"
            continue
        if len(fragments) > 1:
            report.notes["entities in fragments with only blanks between them, read as one"] += 1
        ((start, end),) = joined
        index[name] = len(entities)
        entities.append(maker.trimmed_entity(doc, text, start, end, bound.label, bound.span.where))
    edges: list[Edge] = []
    n_equivalent = 0
    for relation in standoff.relations:
        for target in relation.arguments:
            if target not in index and target not in lost:
                raise relation.place.error(
                    Errors.E607,
                    found=f"{relation.name} with the argument {short(target)}",
                    expected="ids of the file's entities",
                )
        gone = [target for target in relation.arguments if target in lost]
        if gone:
            reasons = ", ".join(f"{target} {lost[target]}" for target in gone)
            what = f"{relation.name} {relation.label} of {', '.join(relation.arguments)}"
            report.lost_relations.append(Finding(place.ref, f"{what}: {reasons}"))
        there = [index[target] for target in relation.arguments if target in index]
        if relation.is_symmetric:
            # It has no direction, so take the order of the text.
            there = sorted(
                dict.fromkeys(there), key=lambda i: (entities[i].start, entities[i].end, i)
            )
            if relation.label == maker.coref:
                edges.extend(Edge(a, b, relation.label) for a, b in pairwise(there))
                continue
            n_equivalent += len(there) * (len(there) - 1) // 2
            if n_equivalent > MAX_EQUIVALENT_PAIRS:
                raise relation.place.error(
                    Errors.E626,
                    found=f"{n_equivalent} pairs up to this line, which has {len(there)} entities",
                    expected=f"at most {MAX_EQUIVALENT_PAIRS} in a text",
                )
            edges.extend(Edge(a, b, relation.label) for a, b in combinations(there, 2))
        elif not gone:
            edges.append(Edge(there[0], there[1], relation.label))
    return entities, edges


def _join(fragments: Fragments, text: str) -> Fragments:
    """Join fragments that have only blanks between them."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(fragments):
        if joined and not text[joined[-1][1] : start].strip():
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)


# Writing


@dataclass(frozen=True)
class BratDocument:
    """A Doc as a pair of files, to be written as they are, in UTF-8.

    name (str): The name of both files, without suffix.
    text (str): The content of the .txt file.
    ann (str): The content of the .ann file.
    """

    name: str
    text: str
    ann: str


def docs_to_brat(
    docs: Iterable[Doc],
    report: ExportReport,
    *,
    coref: str | None = None,
    suggestions: bool = False,
) -> Iterator[BratDocument]:
    """Make standoff files of Docs, gold or predicted.

    - The files are named after the ids of the Docs, with _ for characters that do not suit a file
      name. No two names differ only in case. Docs without an id are numbered.
    - Relations with the label Equiv become lines ``*	Equiv``, which have no direction.
    - With `coref`, each cluster becomes a line ``*	NAME T1 T2 ...``, and mentions that are no entities
      become text-bound annotations of this type.
    - An entity over several lines is written in fragments, one per line. Line ends around it are cut
      off, and an entity of blanks alone is left out. Blanks in labels become _.
    - With `suggestions`, each entity and relation that has a score gets a note (``AnnotatorNotes``) with
      it, which brat shows. brat does not know whether anybody has checked a text.

    docs (Iterable[Doc]): Gold or predicted Docs.
    report (ExportReport): Counts what is written, changed and left out. Scores are left out, unless
        they are suggestions.
    coref (str | None): The name of coreference, for the same argument of `brat_to_docs`. None to
        leave clusters out.
    suggestions (bool): Write scores as notes.
    YIELDS (BratDocument): The files of each Doc, which `brat_to_docs` reads.
    """
    taken: set[str] = set()
    for number, doc in enumerate(docs):
        annotated = read_text_annotations(doc, report, coref, suggestions)
        name = _file_name(annotated.id, number, taken, report)
        lines: list[str] = []
        scored: list[tuple[str, Entity | Edge]] = []
        ids: dict[int, str] = {}
        for i, (entity, (start, end)) in enumerate(
            zip(annotated.entities, annotated.bounds, strict=True)
        ):
            fragments = _fragments(annotated.text, start, end)
            if not fragments:
                report.notes["entities that are only blanks, left out"] += 1
                continue
            if (fragments[0][0], fragments[-1][1]) != (start, end):
                report.notes["entities with line ends around them, cut off"] += 1
            ids[i] = f"T{len(ids) + 1}"
            offsets = ";".join(f"{first} {last}" for first, last in fragments)
            quote = " ".join(annotated.text[first:last] for first, last in fragments)
            label = _without_blanks(entity.label, report)
            lines.append(f"{ids[i]}\t{label} {offsets}\t{quote}\n")
            scored.append((ids[i], entity))
        n_relations = 0
        for edge in annotated.relations:
            if edge.head not in ids or edge.tail not in ids:
                report.notes["relations of entities left out"] += 1
                continue
            head, tail = ids[edge.head], ids[edge.tail]
            if edge.label == EQUIV and edge.head != edge.tail:
                lines.append(f"*\t{EQUIV} {head} {tail}\n")
                report.notes[f"relations {EQUIV}, written without direction"] += 1
            else:
                label = _without_blanks(edge.label, report)
                lines.append(f"R{n_relations + 1}\t{label} Arg1:{head} Arg2:{tail}\n")
                scored.append((f"R{n_relations + 1}", edge))
            n_relations += 1
        clusters = [[ids[i] for i in cluster if i in ids] for cluster in annotated.clusters]
        clusters = [cluster for cluster in clusters if len(cluster) > 1]
        name_of_coref = _without_blanks(annotated.coref, report) if clusters else ""
        scores = [
            (id, score) for id, item in scored for score in score_of(item, suggestions).values()
        ]
        lines += [
            f"#{i}\tAnnotatorNotes {id}\tsuggested, score {score}\n"
            for i, (id, score) in enumerate(scores, start=1)
        ]
        lines += [f"*\t{name_of_coref} {' '.join(cluster)}\n" for cluster in clusters]
        n_entities = sum(annotated.entities[i].label != coref for i in ids)
        report.count(n_entities, n_relations, len(clusters))
        yield BratDocument(name, annotated.text, "".join(lines))


def _fragments(text: str, start: int, end: int) -> Fragments:
    """Return the fragments of an entity: its text between line ends, without blanks around it."""
    covered = text[start:end]
    if not covered.strip():
        return ()
    before, behind = covered[: -len(covered.lstrip())], covered[len(covered.rstrip()) :]
    # Blanks without a line end stay.
    start += len(before) if "".join(before.splitlines()) != before else 0
    end -= len(behind) if "".join(behind.splitlines()) != behind else 0
    fragments = []
    for line in text[start:end].splitlines(keepends=True):
        (content,) = line.splitlines()
        if content:
            fragments.append((start, start + len(content)))
        start += len(line)
    return tuple(fragments)


def _without_blanks(label: str, report: ExportReport) -> str:
    name = "_".join(label.split()) or "_"
    if name != label:
        report.notes[f"labels {short(label)}, written as {name}"] += 1
    return name


def _file_name(orig_id: RecordId | None, number: int, taken: set[str], report: ExportReport) -> str:
    """Return a name that every file system accepts, and add it to the taken names."""
    safe = _NOT_IN_NAMES.sub("_", "" if orig_id is None else str(orig_id)).lstrip(".")
    # File systems count bytes.
    base = safe.encode()[:150].decode(errors="ignore").rstrip(".") or f"doc-{number:06d}"
    names = chain([base], (f"{base}-{repeats}" for repeats in count(2)))
    name = next(name for name in names if name.casefold() not in taken)
    taken.add(name.casefold())
    if orig_id is not None and name != str(orig_id):
        report.notes["ids that cannot name a file or are repeated, changed"] += 1
    return name
