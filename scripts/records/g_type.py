"""G-type records of ETL8G, 8,199 bytes as ETL9G's, the image four bytes earlier. AIST, "G-Type Data Format (ETL8)"."""

import numpy as np

from records import etl9g
from records.record_type import RecordType

HEADER = etl9g.RECORD.descr[: etl9g.RECORD.names.index("undefined")]
G8_TYPE = RecordType(np.dtype([*HEADER, ("undefined", "V30"), ("image", "u1", (127, 64)), ("uncertain", "V11")]))
