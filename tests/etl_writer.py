"""Records of the ETL sets, written field by field as AIST's specification lists them, without what reads them."""

import struct
from dataclasses import dataclass, field

import numpy as np

T56 = "0123456789[#@:>? ABCDEFGHI&.](<  JKLMNOPQR-$*);'|/STUVWXYZ ,%=\"!"  # the place of a character is its code
SHAPES = {"M": (63, 64, 15), "C": (76, 72, 15), "K": (60, 60, 63), "8B": (63, 64, 1), "9B": (63, 64, 1)}
SHAPES["8G"] = (127, 128, 15)  # height, width, darkest
SIZES = {"M": 2052, "C": 2952, "K": 2745, "8B": 512, "9B": 576, "8G": 8199}
TYPES = dict.fromkeys(("ETL1", "ETL6", "ETL7"), "M") | dict.fromkeys(("ETL3", "ETL4", "ETL5"), "C")
TYPES |= {"ETL2": "K", "ETL8B2": "8B", "ETL9B": "9B", "ETL8G": "8G"}


@dataclass
class Sample:
    """What a record says; `image` has the values of its type, 0 = paper."""

    code: int
    image: np.ndarray
    sheet: int = 1
    serial: int = 1
    sex: int = 1
    age: int = 30
    industry: int = 5
    occupation: int = 7
    reading: bytes = field(default=b"A.ME")


def packed(values: np.ndarray, bits: int) -> bytes:
    """Values of so many bits one after the other, the high bit first."""
    return in_bytes("".join(f"{value:0{bits}b}" for value in values.ravel().tolist()))


def in_bytes(digits: str) -> bytes:
    assert len(digits) % 8 == 0
    return int("1" + digits, 2).to_bytes(len(digits) // 8 + 1, "big")[1:]


def six(text: str) -> str:
    """T56 characters as binary digits."""
    return "".join(f"{T56.index(char):06b}" for char in text)


def m_type(s: Sample) -> bytes:
    fields = (s.serial % 65536, b"KA", s.sheet, s.code, 0xC1, 1, 2, s.sex, s.age, s.serial, s.industry, s.occupation)
    return (
        struct.pack(">H2sHBBBBBBIHHHHBBBBHH", *fields, 7309, 7312, 3, 4, 10, 200, 0, 0) + packed(s.image, 4) + bytes(4)
    )


def c_type(s: Sample) -> bytes:
    numbers = [1, 2, 3, 4, s.sex, s.age, s.industry, s.occupation, 7404, 7405, 72, 76, 16, 50, 9]
    header = f"{s.serial:036b}{s.sheet:036b}{s.code:08b}{0:028b}{0xC1:08b}{0:028b}{six('K KA')}{six('  ')}"
    return in_bytes(header + "".join(f"{n:036b}" for n in numbers) + "0" * 6 * 168) + packed(s.image, 4)


def k_type(s: Sample) -> bytes:
    header = f"{s.serial:036b}{six('A')}{six(' ' * 5)}{six('KANJI ')}{six('MINCHO')}{0:024b}"
    return in_bytes(header + f"{s.code >> 6:06b}{s.code & 63:06b}" + "0" * 6 * 30) + packed(s.image, 6)


def b_type(s: Sample, rest: int) -> bytes:
    return struct.pack(">HH4s", s.sheet, s.code, s.reading) + packed(s.image, 1) + bytes(rest)


def g_type(s: Sample) -> bytes:
    head = (s.sheet, s.code, s.reading, s.serial, 1, 2, s.sex, s.age, s.industry, s.occupation, 7801, 7802, 5, 6)
    return struct.pack(">HH8sIBBBBHHHHBB30x", *head) + packed(s.image, 4) + bytes(11)


def record(kind: str, sample: Sample) -> bytes:
    write = {"M": m_type, "C": c_type, "K": k_type, "8G": g_type}
    write |= {"8B": lambda s: b_type(s, 0), "9B": lambda s: b_type(s, 64)}
    content = write[kind](sample)
    assert len(content) == SIZES[kind]
    return content


def shape(kind: str, random: np.random.Generator) -> np.ndarray:
    """A cross somewhere in the middle of a frame."""
    height, width, darkest = SHAPES[kind]
    image = np.zeros((height, width), np.uint8)
    y, x = (int(side * random.uniform(0.4, 0.6)) for side in (height, width))
    image[y - height // 4 : y + height // 4, x - 1 : x + 2] = random.integers(1, darkest + 1)
    image[y - 1 : y + 2, x - width // 4 : x + width // 4] = darkest
    return image
