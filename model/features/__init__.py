"""Feature sets for training and evaluation: what they are, how they are read and written."""

from model.features.avca_export import write_avca
from model.features.checks import check_trainable
from model.features.feature_set import STAGES, TRAINING_STAGES, FeatureSet
from model.features.npz import write_npz
from model.features.reading import read_features

__all__ = [
    "STAGES",
    "TRAINING_STAGES",
    "FeatureSet",
    "check_trainable",
    "read_features",
    "write_avca",
    "write_npz",
]
