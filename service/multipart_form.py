"""A multipart form as it arrives: a push parser that keeps the fields and hands the file on."""

import unicodedata
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from model.errors import FileTooLarge
from service.errors import FormTooLarge, MalformedMultipart, MissingFile, TooManyFiles, shown

FILE_FIELD = "file"
FILENAME_LIMIT = 255

BYTES_PER_FIELD = 1024
"""What a field's value may have on average."""

OVERHEAD_PER_FIELD = 1024
"""What a boundary and the head of a part may add to it."""


@dataclass(frozen=True, slots=True)
class FormLimits:
    """What one form may hold: bytes of the file, and how many other fields."""

    max_file_bytes: int
    max_fields: int

    @property
    def max_field_bytes(self) -> int:
        """Bytes of all other fields together."""
        return self.max_fields * BYTES_PER_FIELD

    @property
    def max_body_bytes(self) -> int:
        """Bytes of the whole body."""
        return self.max_file_bytes + self.max_field_bytes + self.max_fields * OVERHEAD_PER_FIELD


class FormReader:
    """A form as it arrives: `feed` takes bytes of the body and returns those of the file."""

    def __init__(self, boundary: bytes, limits: FormLimits) -> None:
        self.filename = ""
        self.content_type = ""
        self.fields: dict[str, list[str]] = {}
        self._limits = limits
        self._head: dict[str, str] = {}
        self._header_name = b""
        self._header_value = b""
        self._field: str | None = None
        self._value = bytearray()
        self._file_piece = bytearray()
        self._file_bytes = 0
        self._field_count = 0
        self._field_bytes = 0
        self._has_file = False
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._read_header_name,
                    "on_header_value": self._read_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_head,
                    "on_part_data": self._read_data,
                    "on_part_end": self._end_part,
                    "on_end": self._end_form,
                },
            )
        except FormParserError as error:
            raise MalformedMultipart(f"The form's boundary cannot be used: {error}.") from error

    def feed(self, chunk: bytes) -> bytes:
        """Parse a chunk of the body and return the bytes of the file in it.

        Raises MalformedMultipart, MissingFile, TooManyFiles, FileTooLarge, FormTooLarge.
        """
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise MalformedMultipart(
                f"The body is not a multipart form: {error}. Let the client's library build it."
            ) from error
        piece = bytes(self._file_piece)
        self._file_piece.clear()
        return piece

    def finish(self) -> None:
        """Check that the form is whole. Raises MalformedMultipart, MissingFile."""
        if not self._ended:
            raise MalformedMultipart(
                "The form ends before its closing boundary; it was cut short on the way, send it "
                "again."
            )
        if not self._has_file:
            raise MissingFile(
                f"The form has no file; send one in a part named {FILE_FIELD!r}, as "
                f"`curl -F {FILE_FIELD}=@clip.mp4` does."
            )

    def _begin_part(self) -> None:
        self._head = {}

    def _read_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _read_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        name = self._header_name.decode("latin-1").lower()
        self._head[name] = self._header_value.decode("latin-1")
        self._header_name = self._header_value = b""

    def _end_head(self) -> None:
        disposition, options = parse_options_header(self._head.get("content-disposition"))
        if disposition != b"form-data" or b"name" not in options:
            raise MalformedMultipart(
                "A part of the form has no 'Content-Disposition: form-data; name=...'; let the "
                "client's library build the form."
            )
        name = _decoded(options[b"name"], "A field's name")
        if b"filename" in options:
            self._begin_file(name, options[b"filename"])
        else:
            self._begin_field(name)

    def _begin_file(self, name: str, filename: bytes) -> None:
        if name != FILE_FIELD:
            raise MissingFile(
                f"The file was sent as {shown(name)}; send it in a part named {FILE_FIELD!r}."
            )
        if self._has_file:
            raise TooManyFiles("The form has more than one file; send one request for each.")
        self._has_file = True
        self._field = None
        self.filename = safe_filename(filename.decode("utf-8", "replace"))
        self.content_type = self._head.get("content-type", "")

    def _begin_field(self, name: str) -> None:
        if name == FILE_FIELD:
            raise MissingFile(
                f"The part named {FILE_FIELD!r} holds text, not a file; with curl, write an @ "
                f"before the path: `-F {FILE_FIELD}=@clip.mp4`."
            )
        self._field_count += 1
        if self._field_count > self._limits.max_fields:
            raise FormTooLarge(
                f"The form has more than {self._limits.max_fields} fields, which is the limit."
            )
        self._field = name

    def _read_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._file_bytes += end - start
            if self._file_bytes > self._limits.max_file_bytes:
                raise file_too_large(self._limits)
            self._file_piece += data[start:end]
            return
        self._field_bytes += end - start
        if self._field_bytes > self._limits.max_field_bytes:
            raise FormTooLarge(
                "The form's fields besides the file are longer than the limit of "
                f"{self._limits.max_field_bytes} bytes together; shorten {shown(self._field)}."
            )
        self._value += data[start:end]

    def _end_part(self) -> None:
        if self._field is not None:
            value = _decoded(bytes(self._value), f"The field {shown(self._field)}")
            self.fields.setdefault(self._field, []).append(value)
            self._value.clear()

    def _end_form(self) -> None:
        self._ended = True


def safe_filename(name: str) -> str:
    """Return a client's file name without its folders and unprintable characters, never empty."""
    base = name.replace("\\", "/").rpartition("/")[2]
    printable = "".join(c for c in base if unicodedata.category(c) not in {"Cc", "Cs", "Cf"})
    return printable.strip()[-FILENAME_LIMIT:] or "unnamed"


def file_too_large(limits: FormLimits) -> FileTooLarge:
    """Build the error that says how large a file may be."""
    return FileTooLarge(
        f"The file is larger than the limit of {limits.max_file_bytes} bytes; send a shorter or "
        "more strongly compressed clip."
    )


def _decoded(text: bytes, what: str) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedMultipart(f"{what} is not UTF-8; encode the form as UTF-8.") from error
