"""M-type records of 2,052 bytes: ETL1, ETL6 and ETL7. Source: AIST, "M-Type Data Format"."""

import numpy as np

from records.record_type import RecordType, columns

RECORD = np.dtype(
    [
        ("number", ">u2"),
        ("name", "S2"),  # as "0 ", "A ", " A", "KA"
        ("sheet", ">u2"),
        ("jis", "u1"),  # JIS X 0201
        ("ebcdic", "u1"),
        ("quality", "u1"),
        ("group_quality", "u1"),
        ("sex", "u1"),
        ("age", "u1"),
        ("serial", ">u4"),
        ("industry", ">u2"),
        ("occupation", ">u2"),
        ("gathered", ">u2"),  # YYMM
        ("scanned", ">u2"),  # YYMM
        ("y", "u1"),
        ("x", "u1"),
        ("lowest_level", "u1"),
        ("highest_level", "u1"),
        ("undefined", "V4"),
        ("image", "u1", (63, 32)),  # 64 pixels a row, two a byte
        ("uncertain", "V4"),
    ]
)
M_TYPE = RecordType(RECORD, people=columns("sex", "age", "industry", "occupation"))
