import numpy as np
import pytest
import torch

from model.distillation.augmentation import (
    blur_motion,
    colour_jitter,
    compress,
    cut,
    degrade_frame,
    letterbox,
    lose_detail,
    random_box,
    random_crop,
)


def frame(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def detail(picture: np.ndarray) -> float:
    """Mean step between neighbours along both axes."""
    values = picture.astype(float)
    return float(np.abs(np.diff(values, axis=0)).mean() + np.abs(np.diff(values, axis=1)).mean())


class TestCrops:
    def test_crops_have_the_asked_size_for_awkward_pictures(self):
        rng = np.random.default_rng(0)
        for shape in ((64, 64), (1, 1), (160, 400), (400, 40)):
            for degrade in (True, False):
                assert random_crop(frame(*shape), 48, degrade=degrade, rng=rng).shape == (48, 48, 3)

    @pytest.mark.parametrize("shape", [(64, 64), (160, 400), (400, 40)])
    def test_boxes_lie_inside_the_picture(self, shape):
        rng = np.random.default_rng(0)
        for _ in range(50):
            left, top, right, bottom = random_box(frame(*shape), rng)
            assert 0 <= left < right <= shape[1] + 1e-6
            assert 0 <= top < bottom <= shape[0] + 1e-6

    def test_a_cut_of_its_own_size_is_the_picture(self):
        picture = frame(20, 30)
        assert (cut(picture, (5, 0, 25, 20), 20) == picture[:, 5:25]).all()

    def test_half_of_the_crops_are_mirrored(self):
        ramp = np.repeat(np.arange(60, dtype=np.uint8)[None, :, None], 60, axis=0).repeat(3, axis=2)
        rng = np.random.default_rng(0)
        crops = [random_crop(ramp, 16, degrade=False, rng=rng) for _ in range(200)]
        assert 70 < sum(crop[0, 0, 0] > crop[0, -1, 0] for crop in crops) < 130


class TestFrames:
    def test_degraded_frames_keep_shape_and_type_and_some_stay_as_they_are(self):
        rng = np.random.default_rng(0)
        for size in (1, 33, 96):
            picture = frame(size, size)
            frames = [degrade_frame(picture, rng) for _ in range(60)]
            assert {(f.shape, f.dtype) for f in frames} == {((size, size, 3), np.dtype(np.uint8))}
            assert 10 < sum(f is picture for f in frames) < 60

    @pytest.mark.parametrize("degrade", [lose_detail, blur_motion])
    def test_detail_is_lost_and_brightness_kept(self, degrade):
        rng = np.random.default_rng(1)
        picture = frame(96, 96)
        for _ in range(5):
            frame_ = degrade(picture, rng)
            assert detail(frame_) < detail(picture)
            assert abs(frame_.mean() - picture.mean()) < 3

    def test_motion_leaves_an_even_picture_even(self):
        even = np.full((48, 48, 3), 77, np.uint8)
        assert (blur_motion(even, np.random.default_rng(0)) == 77).all()

    def test_compression_changes_a_picture_a_little(self):
        smooth = cut(frame(8, 8), (0, 0, 8, 8), 64)
        difference = np.abs(compress(smooth, np.random.default_rng(0)).astype(int) - smooth)
        assert 0 < difference.mean() < 20

    def test_letterbox_blackens_two_opposite_sides_and_keeps_the_middle(self):
        bright = np.full((100, 100, 3), 200, np.uint8)
        for seed in range(8):
            boxed = letterbox(bright, np.random.default_rng(seed))[..., 0]
            assert boxed[50, 50] == 200
            above, beside = boxed[0, 50] == 0, boxed[50, 0] == 0
            assert above != beside
            assert (boxed == boxed[::-1]).all()
            assert (boxed == boxed[:, ::-1]).all()
            assert 0.16 <= (boxed == 0).mean() <= 0.4


def test_jitter_stays_in_range_and_changes_pictures_differently():
    batch = torch.full((2, 3, 4, 4), 200.0)
    jittered = colour_jitter(batch, torch.Generator().manual_seed(0))
    assert jittered.min() >= 0
    assert jittered.max() <= 255
    assert not torch.equal(jittered[0], jittered[1])
