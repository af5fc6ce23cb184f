"""Every exception that `model` raises on purpose.

ModelError
├── ConfigError            a configuration key is unknown or a value is out of range
├── CheckpointError        a checkpoint folder is missing a file, corrupt, or of another backbone
├── BackboneError          a backbone name is unknown or its package is not installed
├── FeatureSetError        a feature file cannot be trained on (NaN, shapes, a missing class)
├── OutOfMemory            the device has not the memory for one forward pass
└── MediaError             a file cannot be turned into windows; `code` is stable and public
    ├── EmptyFile              no bytes
    ├── FileTooLarge           more bytes than the limit
    ├── UnsupportedMedia       not a container or codec that is read here
    ├── EncryptedMedia         every usable track is encrypted
    ├── NoAudioOrVideo         a container without a decodable sample of sound or picture
    ├── ModalityMissing        the modality that was asked for is not in the file
    ├── DurationTooLong        more seconds than the limit
    ├── FrameTooLarge          more pixels in a frame than the limit
    ├── TooManyStreams         more streams than the limit
    ├── DecodeTimeout          decoding took longer than the limit
    ├── DecodeMemoryExceeded   decoding needs more memory than the limit
    └── DecoderCrashed         the process that decoded it died

Each message says what was wrong, the offending value, the limit where there is one, and what to do.
"""

from typing import ClassVar


class ModelError(Exception):
    """Base of everything that `model` raises on purpose."""


class ConfigError(ModelError):
    """A configuration key is unknown or a value is out of range."""


class CheckpointError(ModelError):
    """A checkpoint folder is incomplete, corrupt or made for another backbone."""


class BackboneError(ModelError):
    """A backbone name is unknown, or the package behind it is not installed."""


class FeatureSetError(ModelError):
    """A feature set cannot be trained or evaluated on."""


class OutOfMemory(ModelError):
    """The device has not the memory for one forward pass; fewer rows may fit."""


class MediaError(ModelError):
    """A file cannot be turned into windows of sound and pictures."""

    code: ClassVar[str] = "unsupported_media"


class EmptyFile(MediaError):
    """The file has no bytes."""

    code = "empty_file"


class FileTooLarge(MediaError):
    """The file has more bytes than the limit."""

    code = "file_too_large"


class UnsupportedMedia(MediaError):
    """The bytes are not a container, or not one with a codec, that is read here."""

    code = "unsupported_media"


class EncryptedMedia(MediaError):
    """Every track that could be used is encrypted."""

    code = "encrypted_media"


class NoAudioOrVideo(MediaError):
    """The container holds no decodable sample of sound or picture."""

    code = "no_audio_or_video"


class ModalityMissing(MediaError):
    """The modality that was asked for cannot be read from this file."""

    code = "modality_missing"


class DurationTooLong(MediaError):
    """The media plays longer than the limit."""

    code = "duration_too_long"


class FrameTooLarge(MediaError):
    """A frame has more pixels than the limit."""

    code = "frame_too_large"


class TooManyStreams(MediaError):
    """The container declares more streams than the limit."""

    code = "too_many_streams"


class DecodeTimeout(MediaError):
    """Decoding took longer than the limit."""

    code = "decode_timeout"


class DecodeMemoryExceeded(MediaError):
    """Decoding needs more memory than the limit."""

    code = "decode_memory_exceeded"


class DecoderCrashed(MediaError):
    """The process that decoded the file died of it."""

    code = "decoder_crashed"
