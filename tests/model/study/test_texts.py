"""The collected text: what is prose, what is excluded, pieces, validation and manifest."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ternac.errors import UsageError
from ternac.files import read_bytes
from ternac.model.study import texts
from ternac.model.study.texts import Document, Excluded, Source, collect, pieces, prose_of_html, wikitext_form

SENTENCE = (
    "The common starling is a bird of medium size that sings well and lives near towns and farms all year"
)


def read(folder: Path) -> Iterator[Document]:
    """Yield the documents of the package that `package` makes."""
    for path in sorted(folder.rglob("*.txt")):
        yield path.stem, path.read_text("utf-8")


SOURCE = Source("birds", "pypi", "encyclopedia", "CC0", read, encyclopedic=True)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Return a folder with a package of 60 documents."""
    folder = tmp_path / "cache"
    folder.mkdir()
    with zipfile.ZipFile(folder / "birds-1.0-py3-none-any.whl", "w") as wheel:
        for k in range(60):
            wheel.writestr(
                f"birds/{k:02}.txt", f"Bird number {k} “has” 1,000 well-known songs.\n{SENTENCE}, {k}."
            )
    return folder


def test_a_text_is_a_function_of_its_packages_and_its_manifest_says_so(tmp_path: Path, cache: Path) -> None:
    for name in ("one", "two"):
        collect(tmp_path / name, cache, [SOURCE])
    assert read_bytes(tmp_path / "one.txt") == read_bytes(tmp_path / "two.txt")
    manifest = json.loads(read_bytes(tmp_path / "one.json"))
    (row,) = manifest["sources"]
    package = read_bytes(cache / row["file"])
    assert row["sha256"] == hashlib.sha256(package).hexdigest() and row["licence"] == "CC0"
    for part, end, size in (
        ("train", ".txt", row["train_bytes"]),
        ("validation", ".val.txt", row["validation_bytes"]),
    ):
        data = read_bytes(tmp_path / f"one{end}")
        assert manifest[part] == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        assert len(data) == size > 0


def test_a_document_is_whole_for_training_or_for_validation(tmp_path: Path, cache: Path) -> None:
    collect(tmp_path / "t", cache, [SOURCE])
    train, held = (read_bytes(tmp_path / f"t{end}").decode() for end in (".txt", ".val.txt"))
    for k in range(60):
        counts = [text.count(f"Bird number {k} ") for text in (train, held)]
        assert sorted(counts) == [0, 2], k  # plain and as WikiText spells it


def test_what_an_excluded_text_has_is_left_out(tmp_path: Path, cache: Path) -> None:
    """The planted fault: nine words in a row are let through, ten are not."""
    words = SENTENCE.split()
    for count, found in ((9, True), (10, False)):
        (tmp_path / "excluded.txt").write_text(" ".join(words[:count]))
        collect(tmp_path / "t", cache, [SOURCE], exclude=[tmp_path / "excluded.txt"])
        assert (SENTENCE in read_bytes(tmp_path / "t.txt").decode()) == found
    excluded = Excluded([" \n = Homarus gammarus = \n \n a lobster \n"])
    assert excluded.keep("Homarus Gammarus", "a text") == ""
    assert excluded.keep("Homarus", "a text") == "a text"


def test_novels_come_in_pieces_with_nothing_lost(tmp_path: Path, cache: Path) -> None:
    novel = "".join(f"{k}: {SENTENCE}.\n" for k in range(3000))
    assert "".join(piece for _, piece in pieces("novel", novel)) == novel
    assert all(len(piece) <= texts.PIECE for _, piece in pieces("novel", novel))
    (tmp_path / "novel.txt").write_text(novel)
    collect(tmp_path / "t", cache, [SOURCE], novels=tmp_path / "novel.txt")
    text = read_bytes(tmp_path / "t.txt").decode()
    assert all(f"\n{k}: " in text or text.startswith(f"{k}: ") for k in range(3000))


def test_wikitext_spells_marks_numbers_and_rare_words_its_way() -> None:
    known = {"The", "bird", "is", "well", "known"}.__contains__
    found = wikitext_form("Bird", "The bird, Sturnus, is well-known (1,000).", known)
    assert found == " \n = Bird = \n \n The bird , <unk> , is well @-@ known ( 1 @,@ 000 ) . \n"


def test_code_and_short_lines_are_no_prose() -> None:
    page = f"<p>{SENTENCE} &amp; <i>sings</i>.</p><p>Short.</p><p>{'x = {y: [z]}; ' * 9}</p>"
    assert prose_of_html(page) == f"{SENTENCE} & sings."


def test_a_source_that_nobody_knows_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert texts.main([str(tmp_path / "t"), "only=nothing"]) == 2
    assert "no source nothing" in capsys.readouterr().err
    assert texts.main([str(tmp_path / "t"), "nothing=x"]) == 2
    assert "python -m ternac.model.study.texts" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_package_that_cannot_be_had_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    source = Source("no-such", "debian", "x", "x", read)
    with pytest.raises(UsageError, match="cannot download no-such"):
        collect(tmp_path / "t", tmp_path / "cache", [source])
