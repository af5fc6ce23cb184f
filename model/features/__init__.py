"""Feature sets for training and evaluation: what they are, how they are read and written."""

from model.features.feature_set import STAGES, FeatureSet

__all__ = ["STAGES", "FeatureSet"]
