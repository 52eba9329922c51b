"""C-type records of 2,952 bytes, written in characters of six bits: ETL3, ETL4 and ETL5. AIST, "C-Type Data Format"."""

import numpy as np

from records.record_type import RecordType, integers, sextets

# The header is twenty integers of 36 bits.
RECORD = np.dtype([("header", "u1", 90), ("undefined", "V126"), ("image", "u1", (76, 36))])
SHEET, JIS, SEX, AGE, INDUSTRY, OCCUPATION = 1, 2, 9, 10, 11, 12
JIS_SHIFT = 28  # the code, JIS X 0201, is the highest eight bits of its integer


def _header(records: np.ndarray) -> np.ndarray:
    return integers(sextets(records["header"]))


C_TYPE = RecordType(
    RECORD,
    codes=lambda records: _header(records)[:, JIS] >> JIS_SHIFT,
    sheets=lambda records: _header(records)[:, SHEET],
    people=lambda records: _header(records)[:, [SEX, AGE, INDUSTRY, OCCUPATION]],
)
