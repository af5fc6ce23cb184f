"""The file in which the windows of segments are saved, laid out as `vector_file` lays out vectors.

Its sections are the columns of `WindowRows`: row ids, clips' rows, starts and ends.
"""

from pathlib import Path

import numpy as np

from index.catalogue_reader import WINDOW_DTYPE
from index.catalogue_records import WindowRows
from index.vector_file import VectorFileHeader, open_vector_file, write_sections

WINDOWS = "windows"
"""What a header names instead of vectors."""
COLUMNS = len(WindowRows._fields)


def write_window_file(path: Path, rows: WindowRows, *, model_id: str, generation: int) -> None:
    """Write N windows as one step. Raises OSError."""
    header = VectorFileHeader(WINDOWS, model_id, COLUMNS, len(rows.ids), generation)
    write_sections(path, header, [[column] for column in rows])


def read_window_file(path: Path, *, model_id: str) -> tuple[int, WindowRows]:
    """Return the generation and the windows of a file that must be of this model.

    Raises ValueError where it is another's, is damaged, or cannot be read.
    """
    with open_vector_file(path, name=WINDOWS, model_id=model_id, dim=COLUMNS) as reader:
        count = reader.header.count
        rows = WindowRows(*(np.empty(count, WINDOW_DTYPE[name]) for name in WindowRows._fields))
        for column in rows:
            reader.read_into(column)
            reader.end_section()
        reader.end()
    return reader.header.generation, rows
