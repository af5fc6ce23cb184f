"""Spellings of one name."""

from hypothesis import given, settings
from hypothesis import strategies as st

from index.errors import InvalidClassName
from index.names import checked_name, name_key, printable


@settings(max_examples=100)
@given(st.text(max_size=40))
def test_the_key_of_a_key_is_itself_and_case_does_not_matter(text: str) -> None:
    key = name_key(text)
    assert name_key(key) == key
    assert name_key(text.casefold()) == key


@settings(max_examples=100)
@given(st.text(st.characters(), max_size=250))
def test_a_checked_name_is_visible_storable_and_its_own_check(text: str) -> None:
    try:
        name = checked_name(text)
    except InvalidClassName as refusal:
        str(refusal).encode()
    else:
        assert checked_name(name) == name
        assert 0 < len(name.encode().decode()) <= 200
        assert name_key(name)


@settings(max_examples=100)
@given(st.text(st.characters(), max_size=300))
def test_printable_text_can_always_be_stored(text: str) -> None:
    shown = printable(text)
    assert len(shown.encode().decode()) <= 255
    assert "\x00" not in shown
