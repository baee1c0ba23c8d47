"""Typed words with the quotes of many languages: what all that read them make of each line."""

from __future__ import annotations

TYPED_WORDS: dict[str, list[str] | str] = {
    '"Lunch?" pizza soup': ["Lunch?", "pizza", "soup"],
    "„Mittag heute?“ Pizza „Suppe mit Brot“": ["Mittag heute?", "Pizza", "Suppe mit Brot"],
    "« Midi ? » pizza « soupe chaude »": ["Midi ?", "pizza", "soupe chaude"],
    "»Mittag heute?« Pizza »Suppe mit Brot«": ["Mittag heute?", "Pizza", "Suppe mit Brot"],
    "‚was nun‘ ja nein": ["was nun", "ja", "nein"],
    "'what now' 'we don't know' yes": ["what now", "we don't know", "yes"],
    "‘what now’ no": ["what now", "no"],
    "‹quoi donc› ‹ou ça›": ["quoi donc", "ou ça"],
    "「お昼は？」 『ピザ』": ["お昼は？", "ピザ"],
    "‹quoi donc": "‹quoi",
    "“what now” no": ["what now", "no"],
    "”vad nu” nej": ["vad nu", "nej"],
    '„what now" no': ["what now", "no"],
    '"say ""hi"" now" x': ['say "hi" now', "x"],
    '"Anna Maria"#K7QF2M3P hi': ["Anna Maria#K7QF2M3P", "hi"],
    "rock 'n' roll": ["rock", "n", "roll"],
    "don't 5\" it's": ["don't", '5"', "it's"],
    "  a\tb \n": ["a", "b"],
    "": [],
    '"open pizza': '"open',
    "Lunch? „pea soup": "„pea",
    "'tis so": "'tis",
    "« midi": "«",
}
"""By the line its words; a text: the quote that does not end."""
