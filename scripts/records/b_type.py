"""B-type records, 64 x 63 pixels of one bit: of 512 bytes in ETL8B2, of 576 in ETL9B. The first of a file is a dummy.
Source: AIST, "B-Type Data Format"."""

import numpy as np

from records.record_type import RecordType

RECORD = np.dtype([("sheet", ">u2"), ("jis", ">u2"), ("reading", "S4"), ("image", "u1", (63, 8))])


def _frames(records: np.ndarray) -> np.ndarray:
    return np.unpackbits(records["image"], axis=2)


B8_TYPE = RecordType(RECORD, _frames)
B9_TYPE = RecordType(np.dtype([*RECORD.descr, ("uncertain", "V64")]), _frames)
