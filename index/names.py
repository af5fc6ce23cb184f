"""Text that people type - class names, tags, file names - checked and brought into one form."""

import unicodedata
from collections.abc import Iterable

from index.errors import InvalidClassName, InvalidTag

NAME_LIMIT = 200
SYNONYM_LIMIT = 50
DESCRIPTION_LIMIT = 2000
TAG_LIMIT = 100
FILENAME_LIMIT = 255
SOURCE_LIMIT = 4096

# Control characters garble terminals and logs; lone surrogates have no UTF-8.
UNPRINTABLE = {"Cc", "Cs"}


def name_key(name: str) -> str:
    """Return what two spellings of one name share: NFKC, case folded, single spaces."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    # Folding can undo the normalisation, as in U+0345.
    return single_spaced(unicodedata.normalize("NFKC", folded))


def single_spaced(text: str) -> str:
    """Return the text without spaces at its ends, and with one where there were several."""
    return " ".join(text.split())


def checked_name(name: str) -> str:
    """Return a class name with single spaces. Raises InvalidClassName."""
    problem = _problem(name, NAME_LIMIT)
    if problem:
        raise InvalidClassName(f"The class name {_shown(name)} {problem}.")
    return single_spaced(name)


def checked_synonyms(name: str, synonyms: Iterable[str]) -> tuple[str, ...]:
    """Return the synonyms without repetitions of each other or the name.

    Raises InvalidClassName where one is no valid name or there are more than 50.
    """
    distinct: dict[str, str] = {}
    for synonym in synonyms:
        problem = _problem(synonym, NAME_LIMIT)
        if problem:
            raise InvalidClassName(f"The synonym {_shown(synonym)} of {name!r} {problem}.")
        distinct.setdefault(name_key(synonym), single_spaced(synonym))
    distinct.pop(name_key(name), None)
    if len(distinct) > SYNONYM_LIMIT:
        raise InvalidClassName(
            f"{name!r} has {len(distinct)} synonyms; keep the best {SYNONYM_LIMIT} or fewer."
        )
    return tuple(distinct.values())


def checked_description(description: str) -> str:
    """Return a class description, stripped. Raises InvalidClassName where it is unfit to store."""
    text = description.strip()
    if len(text) > DESCRIPTION_LIMIT:
        raise InvalidClassName(
            f"The description has {len(text)} characters; shorten it to {DESCRIPTION_LIMIT}."
        )
    if any(_unprintable(character) for character in "".join(text.split())):
        raise InvalidClassName(
            f"The description {_shown(text)} holds control characters; remove them."
        )
    return text


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Return the tags with single spaces, without repetitions. Raises InvalidTag."""
    distinct: dict[str, None] = {}
    for tag in tags:
        problem = _problem(tag, TAG_LIMIT)
        if problem:
            raise InvalidTag(f"The tag {_shown(tag)} {problem}.")
        distinct.setdefault(single_spaced(tag))
    return tuple(distinct)


def checked_source(source: str) -> str:
    """Return where a file came from, as it is: it is for finding the file again.

    Raises ValueError where it is blank, too long or holds control characters.
    """
    problem = _problem(source, SOURCE_LIMIT)
    if problem:
        raise ValueError(f"The source {_shown(source)} {problem}.")
    return source


def printable(text: str) -> str:
    """Return a file name or media type for display: what is unprintable becomes "_".

    The last 255 characters are kept. It never becomes a path, so nothing needs refusing.
    """
    characters = text.strip()[-FILENAME_LIMIT:]
    return "".join("_" if _unprintable(character) else character for character in characters)


def _problem(name: str, limit: int) -> str | None:
    """Say what is wrong with a name, completing "The name 'x' ...", or None."""
    if len(name) > limit:
        return f"has {len(name)} characters; the limit is {limit}, shorten it"
    if any(_unprintable(character) for character in name):
        return "holds control characters (line breaks and tabs among them); remove them"
    # Cf are invisible marks such as the zero-width space.
    if all(character.isspace() or unicodedata.category(character) == "Cf" for character in name):
        return "is blank; give it at least one visible character"
    return None


def _unprintable(character: str) -> bool:
    return unicodedata.category(character) in UNPRINTABLE


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…").encode("utf-8", "replace").decode()
