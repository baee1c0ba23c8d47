"""Names of files that are harmless on any disk, and what entries may say in `files`. tests/vectors has the hashes."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pchat.core.content.pieces import MAX_DISK_NAME_BYTES, PIECE_BYTES, disk_name, leaf_of, root_of
from p2pchat.core.log import Entry, FileRef, attachments_of, decode_entry, encode_entry

ROOT = "ab" * 32


@pytest.mark.parametrize(
    "name, plain",
    [
        ("report.pdf", "report.pdf"),
        ("日本語 с пробелом.tar.gz", "日本語 с пробелом.tar.gz"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\x\\nul.txt", "_nul.txt"),
        ("CON .txt", "_CON .txt"),
        ("com¹", "_com¹"),
        ("console.log", "console.log"),
        ("dir/", "dir"),
        ("..", "file"),
        ("", "file"),
        ("/", "file"),
        ("\u202e\u200f", "file"),
        (".bashrc", "bashrc"),
        ("~/.ssh/-oProxyCommand", "oProxyCommand"),
        ("x\u202egnp.exe", "xgnp.exe"),
        ("a:b?<c>.txt. .", "a_b__c_.txt"),
        ("two\r\nlines\0.txt", "twolines.txt"),
        ("half \ud83d.txt", "half .txt"),
    ],
)
def test_a_name_becomes_harmless(name: str, plain: str) -> None:
    assert disk_name(name) == plain


def test_a_long_name_is_cut_and_keeps_its_ending() -> None:
    assert disk_name("ü" * 2048 + ".png").endswith("ü.png")
    assert disk_name("a" + "\u0301\u0316" * 2047 + ".png").endswith(".png")
    assert disk_name("x." + "y" * 2048).startswith("x.yyy")
    for name in ("ü" * 2048 + ".png", "x." + "y" * 2048, "nul." + "y" * 2048, "😀" * 2048):
        assert MAX_DISK_NAME_BYTES - 8 < len(disk_name(name).encode()) <= MAX_DISK_NAME_BYTES


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("/\\.~- :\u202e\0con"))))
def test_every_name_becomes_one_visible_part_of_a_path(name: str) -> None:
    plain = disk_name(name)
    assert plain and plain not in (".", "..") and len(plain.encode()) <= MAX_DISK_NAME_BYTES
    assert not {*'/\\<>:"|?*\0'} & {*plain}
    assert plain[0] not in ".-~ " and plain[-1] not in ". "
    assert not {unicodedata.category(each) for each in plain} & {"Cc", "Cf", "Cs"}
    assert disk_name(plain) == plain


def test_the_root_covers_the_size_and_tells_a_list_from_a_piece() -> None:
    leaf = leaf_of(b"abc")
    assert root_of(3, [leaf]) == root_of(3, leaf) != root_of(4, [leaf])
    assert root_of(3, [leaf]) != leaf_of(leaf).hex()
    assert root_of(0, []) != leaf_of(b"").hex()
    assert PIECE_BYTES == 2**18


def test_an_entry_keeps_its_attachments() -> None:
    file = FileRef("a.png", 3, "image/png", ROOT)
    entry = Entry("text", 1, 2, b="look", files=(file,))
    assert decode_entry(encode_entry(entry)) == entry
    assert attachments_of(entry) == (file,)
    assert "a.png" not in repr(entry) + repr(file)


def test_an_entry_without_attachments_has_the_bytes_that_it_had() -> None:
    assert encode_entry(Entry("text", 1, 2, b="look")) == (2, '{"k":"text","at":1,"b":"look"}')


@pytest.mark.parametrize("before", ["7", "[[[[]]]]", '"x"', '[{"name":1}]'])
def test_of_a_repeated_key_the_last_counts(before: str) -> None:
    named = f'[{{"name":"a","size":1,"type":"","root":"{ROOT}"}}]'
    text = '{"k":"text","at":1,"b":"x","files":%s,"files":%s}'
    assert decode_entry((2, text % (before, named))).files == (FileRef("a", 1, "", ROOT),)
    assert decode_entry((2, text % (named, before))).files == ()
