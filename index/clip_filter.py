"""Which clips pass a `SearchFilter`."""

from index.catalogue_reader import CatalogueReader
from index.clip_labels import ClipLabels
from index.names import single_spaced
from index.types import SearchFilter


def matching_clips(
    reader: CatalogueReader, filter: SearchFilter, clip_labels: ClipLabels
) -> list[int]:
    """Return the rows of the clips that pass, newest first.

    A class added a moment ago counts.
    """
    row_ids = reader.clip_rows(
        tags=[single_spaced(tag) for tag in filter.tags],
        modality=filter.modality,
        created_after=filter.created_after,
        created_before=filter.created_before,
        clip_ids=filter.clip_ids,
        content_hash=filter.content_hash,
    )
    if filter.class_name is None:
        return row_ids
    return clip_labels.named(reader, filter.class_name, row_ids)
