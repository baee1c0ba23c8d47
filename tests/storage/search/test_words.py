"""What a word is: one rule for the index and for the search without one."""

from __future__ import annotations

import pytest

from p2pchat.storage.search import fold, parse_query, words, words_in_place

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
def test_a_text_is_cut_into_words_and_each_stands_where_it_is_said_to(text: str) -> None:
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
def test_what_fits(asked: str, text: str, found: bool) -> None:
    query = parse_query(asked)
    assert query.matches(text) == found
    assert bool(query.spans(text)) == found or len(query.terms) > 1


def test_what_is_found_is_marked_where_it_stands() -> None:
    text = "the Straße to the café: fail, Failed"
    marks = parse_query('strasse "the café" fail').spans(text)
    assert [text[start:end] for start, end in marks] == ["Straße", "the café", "fail", "Failed"]


def test_a_search_names_whom_it_is_from() -> None:
    assert parse_query('from:bob#K7QF2M3P tea "for two"').sender == "bob#K7QF2M3P"
    assert parse_query('from:"Anna Maria"#K7QF2M3P').sender == "Anna Maria#K7QF2M3P"
    assert parse_query('"from:bob"').sender == ""


@pytest.mark.parametrize("asked", ["", " ", "?!", '""', " ".join(map(str, range(65)))])
def test_a_search_for_nothing_or_for_far_too_much_is_refused(asked: str) -> None:
    with pytest.raises(ValueError, match="word"):
        parse_query(asked)
