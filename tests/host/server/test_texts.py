"""Text of a stream: whole characters, no part of a stop, the same whatever the pieces are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ternac.host.server.texts import Reader, Turn, chat_prompt
from ternac.text.tokenizer import ByteTokenizer


def read(data: bytes, stops: list[str]) -> tuple[str, int, bool]:
    """Text, tokens read and whether a stop ended it."""
    reader = Reader(ByteTokenizer().stream(), stops)
    text = ""
    for n, token in enumerate(data, 1):
        piece = reader.feed(token)
        assert not any(stop in text + piece for stop in stops)
        text += piece
        if reader.stopped:
            return text, n, True
    return text + reader.finish(), len(data), reader.stopped


@given(
    text=st.text("abé\n€", max_size=40), stops=st.lists(st.text("abé\n", min_size=1, max_size=4), max_size=4)
)
def test_the_text_ends_where_the_first_stop_is_complete(text: str, stops: list[str]) -> None:
    """Against the plain definition: the shortest beginning of the text that holds a stop, without it."""
    found, tokens, stopped = read(text.encode(), stops)
    want = next((text[:n] for n in range(len(text) + 1) if any(s in text[:n] for s in stops)), None)
    if want is None:
        assert (found, stopped) == (text, False)
    else:
        assert stopped
        assert tokens == len(want.encode())
        assert found == want[: min(want.find(s) for s in stops if s in want)]


def test_a_cut_character_becomes_a_replacement_at_the_end_only() -> None:
    euro = "€".encode()
    assert read(b"a" + euro[:2], []) == ("a\ufffd", 3, False)
    reader = Reader(ByteTokenizer().stream())
    assert [reader.feed(token) for token in euro] == ["", "", "€"]


def test_what_may_begin_a_stop_waits() -> None:
    reader = Reader(ByteTokenizer().stream(), ["\n\nA"])
    assert [reader.feed(token) for token in b"x\n\nB\n"] == ["x", "", "", "\n\nB", ""]
    assert reader.finish() == "\n"


def test_chat_is_written_like_a_play() -> None:
    turns = [Turn("System", "Be brief."), Turn("ROMEO", " Hello?\n")]
    assert chat_prompt(turns, "JULIET") == "System:\nBe brief.\n\nROMEO:\nHello?\n\nJULIET:\n"
    assert chat_prompt(turns[1:], "JULIET", open_turn=True) == "\n\nROMEO:\nHello?\n\nJULIET:\n"
