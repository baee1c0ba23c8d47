"""Queries of a search, and words."""

from __future__ import annotations

import time

import pytest

from p2pchat.storage.search_words import MOST_TYPED, fold, parse_query, words, words_in_place

# ---- words


CUT = {
    "Don't PANIC, foo_bar.baz!": ["don", "t", "panic", "foo", "bar", "baz"],
    "Ünïcödé, łódź and Ærø": ["unicode", "lodz", "and", "aero"],
    "e\u0301te\u0301 \ufb01n Straße ΣΊΣΥΦΟΣ": ["ete", "fin", "strasse", "σισυφοσ"],
    "東京タワーへ": ["東", "京", "タ", "ワ", "ー", "へ"],
    "ｶﾞｽ ガス": ["ガ", "ス", "ガ", "ス"],
    "iPhone手机": ["iphone", "手", "机"],
    "ไทย ok": ["ไ", "ท", "ย", "ok"],
    "हिन्दी में": ["हिन्दी", "में"],
    "한국어 검색": ["한국어", "검색"],
    "שָׁלוֹם مُحَمَّد": ["שלום", "محمد"],
    "👍🏽ok👨\u200d👩": ["👍", "ok", "👨", "👩"],
    "- _ ... \u200b": [],
}


@pytest.mark.parametrize("text", CUT)
def test_words_and_their_places_in_a_text(text: str) -> None:
    assert words(text) == CUT[text]
    found = words_in_place(text)
    assert [one.word for one in found] == CUT[text]
    assert all(one.word in fold(text[one.start : one.end]) for one in found)


@pytest.mark.parametrize(
    ("asked", "text", "found"),
    [
        ("fail", "it Failed, and fails", True),
        ("ailed", "it failed", False),
        ('"fail"', "it failed", False),
        ("backup failed", "failed: the last backup", True),
        ('"backup failed"', "failed: the last backup", False),
        ('"Backup failed"', "the BACKUP\n failed again", True),
        ('"backup fai"*', "the backup failed", True),
        ('"backup fai', "the backup failed", False),
        ("a", "all of it", False),
        ("cafe", "un Café noir", True),
        ("café", "un cafe noir", True),
        ("京タ", "東京タワー", True),
        ("京ワ", "東京タワー", False),
        ("C++", "c is enough", True),
        ("example.com", "see https://example.com/x", True),
        ("example.com", "com, for example", False),
        ("naïve x", "naive", False),
    ],
)
def test_which_texts_match_a_query(asked: str, text: str, found: bool) -> None:
    query = parse_query(asked)
    assert query.matches(text) == found
    assert bool(query.spans(text)) == found or len(query.terms) > 1


def test_matches_are_marked_at_their_places() -> None:
    text = "the Straße to the café: fail, Failed"
    marks = parse_query('strasse "the café" fail').spans(text)
    assert [text[start:end] for start, end in marks] == ["Straße", "the café", "fail", "Failed"]


def test_a_search_may_name_a_sender() -> None:
    assert parse_query('from:bob#K7QF2M3P tea "for two"').sender == "bob#K7QF2M3P"
    assert parse_query('from:"Anna Maria"#K7QF2M3P').sender == "Anna Maria#K7QF2M3P"
    assert parse_query('"from:bob"').sender == ""
    for typed in ("From:ada", "FROM:  ada", "from: ada"):
        assert parse_query(typed) == parse_query("from:ada")


@pytest.mark.parametrize(
    "run", ["\u0316\u0301", "\u0301\uff9e", "\u0f71\u0f72", "\u0f73"], ids=["marks", "half-width", "parts", "whole"]
)
def test_a_row_of_marks_takes_no_longer_than_letters(run: str) -> None:
    """One message of 32 KiB took 0.2 s of each search, and one search of 250 KB 12 s of all users of a gateway."""
    began = time.thread_time()
    text = "tea " + run * (32 * 1024 // len(run.encode())) + " time"
    assert parse_query("tea time").matches(text) and not parse_query("coffee").matches(text)
    with pytest.raises(ValueError, match="at most 4096 characters"):
        parse_query(run * (MOST_TYPED + 1))
    assert time.thread_time() - began < 0.15


@pytest.mark.parametrize("asked", ["", " ", "?!", '""', " ".join(map(str, range(65)))])
def test_a_search_with_no_word_or_too_many_is_refused(asked: str) -> None:
    with pytest.raises(ValueError, match="word"):
        parse_query(asked)
