import time

import pytest

from model.errors import DecodeTimeout, DurationTooLong, FrameTooLarge
from model.media.limits import Budget, MediaLimits


def test_a_frame_of_the_limit_is_taken_and_one_pixel_row_more_is_not():
    budget = Budget(MediaLimits(max_frame_pixels=100))
    budget.charge_frame(10, 10)
    with pytest.raises(FrameTooLarge, match=r"10 x 11 = 110 pixels; the limit is 100"):
        budget.charge_frame(10, 11)


def test_a_clip_of_the_limit_may_carry_an_encoders_padding():
    budget = Budget(MediaLimits(max_duration_seconds=10))
    budget.charge_media(10.1)
    with pytest.raises(DurationTooLong, match=r"11\.0 s at least; the limit is 10 s"):
        budget.charge_media(11.0)


def test_time_of_the_consumer_is_not_charged():
    budget = Budget(MediaLimits(decode_timeout_seconds=0.05))
    with budget.paused():
        time.sleep(0.06)
    budget.check_deadline()
    time.sleep(0.06)
    with pytest.raises(DecodeTimeout, match=r"limit of 0\.05 s"):
        budget.check_deadline()


def test_pace_is_judged_by_the_declared_duration_after_a_grace():
    budget = Budget(MediaLimits(decode_timeout_seconds=1.0))
    assert not budget.is_behind(0.0, 100.0), "start-up says nothing"
    time.sleep(0.11)
    assert budget.is_behind(1.0, 100.0)
    assert not budget.is_behind(50.0, 100.0)
    assert not budget.is_behind(1.0, None), "nothing is foreseen without a duration"
