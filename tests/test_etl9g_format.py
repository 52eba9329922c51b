"""The raw record against Python's own struct, the codec, and the facts known of the real database."""

import struct

import numpy as np

from characters import jis
from characters.kinds import is_hiragana, kind_of
from records import etl9g

STRUCT = ">2H8sI4B4H2B34x8128s7x"


def test_the_record_is_the_documented_struct():
    assert struct.calcsize(STRUCT) == etl9g.RECORD.itemsize == 8199
    assert etl9g.RECORD.fields["image"][1] == 64
    image = bytes(range(256)) * 31 + bytes(192)
    packed = struct.pack(STRUCT, 7, 0x3021, b"A.KAN   ", 123456, 201, 202, 203, 244, 5, 6, 8310, 8401, 9, 8, image)
    record = np.frombuffer(packed, etl9g.RECORD)[0]
    assert record.tolist()[:14] == (7, 0x3021, b"A.KAN   ", 123456, 201, 202, 203, 244, 5, 6, 8310, 8401, 9, 8)
    pixels = etl9g.unpack_images(np.array([record]))[0]
    assert pixels.shape == (127, 128)
    assert pixels[0, :8].tolist() == [0, 0, 0, 1, 0, 2, 0, 3]  # bytes 0x00 0x01 0x02 0x03, the high nibble first
    assert pixels.reshape(-1)[2 * 0x4F : 2 * 0x4F + 2].tolist() == [0x4, 0xF]


def test_classes_against_the_codec():
    classes = jis.etl9g_classes()
    assert len(classes) == len(set(classes)) == 3036
    assert "".join(sorted(classes, key=jis.jis_code)) == classes
    assert (jis.jis_code("亜"), jis.jis_code("腕")) == (0x3021, 0x4F53)
    assert not set("ぁぃぅぇぉっゃゅょゎゐゑァ弌") & set(classes)
    for char in classes[::97]:
        assert bytes.fromhex(f"1b2442{jis.jis_code(char):04x}1b2842").decode("iso2022_jp") == char


def test_kinds_of_characters():
    assert [kind_of(char) for char in "んヶー亜弌𠮟A、"] == [
        *("hiragana", "katakana", "katakana", "kanji", "kanji", "kanji", "other", "other")
    ]
    kana = [is_hiragana(char) for char in jis.etl9g_classes()]
    assert kana == [True] * 71 + [False] * 2965


def test_the_known_layout_of_a_set():
    characters, sheets, places = etl9g.set_layout()
    assert sorted(characters) == sorted(jis.etl9g_classes())
    assert [characters[i] for i in (15, 31, 47)] == list("あいう")
    assert [characters[i] for i in (2900, 2916, 2932)] == list("わをん")
    assert np.bincount(sheets)[1:].tolist() == [152] * 16 + [151] * 4
    assert places.max() == 151
    assert [characters[152 + 16 * row + 15] for row in range(3)] == list("えおか")
    kana_of_sheet = np.bincount(sheets[[is_hiragana(c) for c in characters]])[1:]
    assert kana_of_sheet.tolist() == [3] * 5 + [4] * 11 + [3] * 4
    kanji = [c for c in characters if not is_hiragana(c)]
    assert kanji == sorted(kanji, key=jis.jis_code)


def test_images_survive_packing():
    images = np.random.default_rng(0).integers(0, 16, (5, 127, 128), dtype=np.uint8)
    positions = np.array([0, 15, 500, 2900, 3035])
    records = etl9g.new_records(images, 7, positions, b"mark")
    np.testing.assert_array_equal(etl9g.unpack_images(records), images)
    characters, _, _ = etl9g.set_layout()
    assert records["jis"].tolist() == [jis.jis_code(characters[i]) for i in positions]
    assert records["serial"].tolist() == [7 * 3036 + i + 1 for i in positions]
    assert records["sheet"].tolist() == [1, 1, 4, 20, 20]  # 16 sheets of 152, then 4 of 151
    places = zip(records["x"].tolist(), records["y"].tolist(), strict=True)
    assert list(places) == [(0, 0), (15, 0), (12, 2), (15, 0), (6, 9)]  # places 0, 15, 44, 15 and 150 on their sheets


def test_a_standin_is_known_by_its_mark():
    images = np.ones((2, 127, 128), np.uint8)
    mark = etl9g.STANDIN_MARK + b" 1 seed 0"
    assert etl9g.standin_mark(etl9g.new_records(images, 0, np.arange(2), mark)) == mark.decode()
    assert etl9g.standin_mark(etl9g.new_records(images, 0, np.arange(2), b"\x01\x02 scanned")) is None
    assert etl9g.standin_mark(np.zeros(0, etl9g.RECORD)) is None


def test_damage_has_one_reason_a_record():
    images = np.full((4, 127, 128), 3, np.uint8)
    images[2:] = 0
    records = etl9g.new_records(images, 0, np.arange(4), b"")
    records["jis"][1] = 0x2421  # ぁ is not a class
    records["jis"][3] = 0xFFFF
    unknown = "JIS code 0x{} is not a class of ETL9G".format
    damage = etl9g.find_damage(records, images)
    assert damage == {1: unknown("2421"), 2: "the image has no ink", 3: unknown("FFFF")}


def test_shifted_images_are_noticed():
    frames = np.zeros((200, 127, 128), np.uint8)
    frames[:, 30:100, 25:95] = 6  # centred at column 60
    assert not etl9g.looks_shifted(frames)
    assert etl9g.looks_shifted(np.roll(frames, -8, axis=2))
    pieces = frames.copy()
    pieces[::2, 20:110, :15] = 6  # of the character to the left, in every other frame
    assert not etl9g.looks_shifted(pieces)
    assert etl9g.looks_shifted(np.roll(pieces, -8, axis=2))
    assert not etl9g.looks_shifted(np.roll(frames, -8, axis=2)[:20])  # too few to tell
    assert not etl9g.looks_shifted(np.zeros_like(frames))
