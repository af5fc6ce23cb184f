"""The two stages of the AVCA-GZSL protocol, for AVGZSLNet by a recipe.

Stage 1 trains on `stage_1_train` and chooses the epoch, the modalities' weights and the betas on
the validation stages. Stage 2 trains anew on all of those rows for as many epochs. Test stages are
never looked at. Both stages save their state as they go, and a second call goes on from there.
"""

import dataclasses
import hashlib
import json
import logging
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model import folding
from model.calibration import fit_probabilities
from model.candidates import STAGES_OF
from model.config import Calibration, NetworkConfig
from model.embedded_samples import EVIDENCE, EmbeddedSamples, LabelEmbeddings
from model.errors import FeatureSetError
from model.features import FeatureSet
from model.network import AVGZSLNet
from model.projection import GIVEN_VECTORS, embed_labels, embed_samples
from model.recipes import Recipe
from model.stacking import (
    Selection,
    best_harmonic_mean,
    choose_betas,
    label_distances,
    with_betas,
)
from model.training import Trainer, TrainingData, save_state

log = logging.getLogger(__name__)

VALIDATION_STAGES = STAGES_OF["validation"]
AUDIO_WEIGHTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of the audio distance that are tried; the rest is the video's."""

DECODER_EPOCHS = 3
"""Epochs in which the decoder alone learns the space that folding made."""

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Progress:
    """What is told after each epoch.

    Attributes:
        stage: 1 or 2.
        member, members: which of the networks that are averaged, from 1.
        epoch, epochs: done, and in all.
        losses: mean of each term.
        harmonic_mean: of the last validation, as a fraction; None before the first.
    """

    stage: int
    member: int
    members: int
    epoch: int
    epochs: int
    losses: Mapping[str, float]
    harmonic_mean: float | None


Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Choice:
    """What stage 1 chose on validation, and the network that it was chosen with.

    Attributes:
        network: of stage 1, on the CPU.
        trained: sorted positions of its classes among the feature set's.
        epochs: after how many epochs a network was best.
        calibration: the modalities' weights, the betas and the probabilities' constants.
        unit_calibration: the same for embeddings scaled to unit length; None where they are so.
        selection: the betas with their curves.
        history: epoch -> HM on validation, as a fraction.
    """

    network: AVGZSLNet
    trained: NDArray[np.int64]
    epochs: int
    calibration: Calibration
    unit_calibration: Calibration | None
    selection: Selection
    history: Mapping[int, float]


@dataclass(frozen=True)
class Run:
    """What both stages share.

    Attributes:
        features: with the stages of training and validation.
        text: (C, Dt) text vectors of all the set's classes.
        encoder: what made them: a text encoder's name, or GIVEN_VECTORS.
        recipe: how to train.
        seed: of the first member; the others follow.
        device: `cpu` or `cuda`.
        folder: where states are kept; they are valid for the same features, recipe and seed only.
        report: called after every epoch.
    """

    features: FeatureSet
    text: NDArray[np.float32]
    encoder: str
    recipe: Recipe
    seed: int
    device: str
    folder: Path
    report: Report

    def network_config(self) -> NetworkConfig:
        """Shape of one member."""
        return self.recipe.network(
            self.features.audio.shape[1], self.features.video.shape[1], self.text.shape[1]
        )

    def training_data(self, *stages: str) -> tuple[TrainingData, NDArray[np.int64]]:
        """Rows of these stages, and the sorted classes that they are of."""
        trained = self.features.classes_of(*stages)
        rows = self.features.take(self.features.rows(*stages))
        return TrainingData.of(rows, trained, self.text[trained], self.recipe), trained

    def fingerprint(self) -> str:
        """Digest of what a saved state depends on, the same on every machine."""
        digest = hashlib.sha256(json.dumps(dataclasses.asdict(self.recipe)).encode())
        digest.update(f"{self.seed} {self.device} {self.encoder}".encode())
        digest.update(" ".join(self.features.stages).encode())
        arrays = [
            self.features.audio,
            self.features.video,
            self.features.has_audio,
            self.features.has_video,
            self.features.labels,
        ]
        if self.encoder == GIVEN_VECTORS:
            arrays.append(self.text)
        else:
            # Their words, as another processor encodes them to vectors with other last digits.
            words = [dataclasses.astuple(class_) for class_ in self.features.classes]
            digest.update(json.dumps(words).encode())
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


# --- stage 1 -------------------------------------------------------------------------------------


def select(run: Run) -> Choice:
    """Stage 1: train, and choose on validation.

    Raises:
        FeatureSetError: a stage has no rows, or the training diverged at once.
    """
    data, trained = run.training_data("stage_1_train")
    validation = Validation.of(run, trained)
    snapshots = _train_members(run, 1, data, run.recipe.epochs, validation)
    common = sorted(set.intersection(*(set(s) for s in snapshots)))
    history: dict[int, float] = {}
    for epoch in common:
        history[epoch] = _score([s[epoch] for s in snapshots], data, run, validation)
    # A network that diverged has HM 0 everywhere; among equals the shortest training is kept.
    best = max(common, key=lambda epoch: (history[epoch], -epoch))
    network = assemble([s[best] for s in snapshots], data, run)
    samples, labels = validation.embed(network)
    calibration, selection = validation.choose(samples, labels)
    unit_calibration = None
    if not network.config.normalise:
        unit_calibration, _ = validation.choose(samples.of_unit_length(), labels.of_unit_length())
    return Choice(network, trained, best, calibration, unit_calibration, selection, history)


def _score(
    members: Sequence[Weights], data: TrainingData, run: Run, validation: "Validation"
) -> float:
    """HM on validation of a network made of the members; 0 where training diverged."""
    try:
        return validation.harmonic_mean(assemble(members, data, run))
    except FeatureSetError:
        return 0.0


@dataclass(frozen=True)
class Validation:
    """Validation rows and their candidates.

    Attributes:
        features: rows of the validation stages.
        labels: (N,) of the rows, among the candidates.
        text: (C, Dt) of the candidates.
        seen: (C,) bool, trained in stage 1.
        weigh_modalities: whether the modalities' weights are chosen too.
        relative_penalty: whether beta is in units of a sample's confidence.
    """

    features: FeatureSet
    labels: NDArray[np.int64]
    text: NDArray[np.float32]
    seen: NDArray[np.bool_]
    weigh_modalities: bool
    relative_penalty: bool

    @classmethod
    def of(cls, run: Run, trained: NDArray[np.int64]) -> "Validation":
        """Take the candidates to be the classes trained in stage 1 and those validated on."""
        features = run.features.take(run.features.rows(*VALIDATION_STAGES))
        if not len(features):
            raise FeatureSetError(
                f"{run.features.name} has no rows of {' or '.join(VALIDATION_STAGES)}; the epoch "
                "and beta are chosen there"
            )
        candidates = np.union1d(trained, np.unique(features.labels))
        return cls(
            features,
            np.searchsorted(candidates, features.labels),
            run.text[candidates],
            np.isin(candidates, trained),
            run.recipe.weigh_modalities,
            run.recipe.relative_penalty,
        )

    def embed(self, network: AVGZSLNet) -> tuple[EmbeddedSamples, LabelEmbeddings]:
        """Embed the rows and the candidates."""
        samples = embed_samples(network, self.features, self.labels)
        return samples, embed_labels(network, self.text, self.seen)

    def harmonic_mean(self, network: AVGZSLNet) -> float:
        """HM of both modalities, or the only one there is, at its best beta and equal weights.

        Raises:
            FeatureSetError: an embedding is not finite: the training diverged.
        """
        samples, labels = self.embed(network)
        return _harmonic_mean(choose_betas(samples, labels, self._calibration(0.5)))

    def choose(
        self, samples: EmbeddedSamples, labels: LabelEmbeddings
    ) -> tuple[Calibration, Selection]:
        """Choose weights and betas, and fit the probabilities."""
        shares = AUDIO_WEIGHTS if self.weigh_modalities else (0.5,)
        options = [self._calibration(share) for share in shares]
        chosen = [(c, choose_betas(samples, labels, c)) for c in options]
        # Of equal ones the most even: where no sample has both, all are.
        calibration, selection = max(
            chosen,
            key=lambda option: (
                round(_harmonic_mean(option[1]), 9),
                -abs(option[0].audio_weight - 0.5),
            ),
        )
        calibration = with_betas(calibration, selection)
        return self._fit_probabilities(samples, labels, calibration), selection

    def _calibration(self, audio_share: float) -> Calibration:
        return Calibration(
            relative_penalty=self.relative_penalty,
            audio_weight=audio_share,
            video_weight=1 - audio_share,
        )

    def _fit_probabilities(
        self, samples: EmbeddedSamples, labels: LabelEmbeddings, calibration: Calibration
    ) -> Calibration:
        distances = label_distances(samples, labels, calibration)["both"]
        rows = ~np.isnan(distances).any(axis=1)
        right = samples.labels[:, None] == np.arange(len(labels.seen))
        return fit_probabilities(calibration, [distances[rows]], [right[rows]])


def _harmonic_mean(selection: Selection) -> float:
    """HM by the first evidence that samples of both kinds have: a set may be of sounds alone."""
    evidence = next((e for e in EVIDENCE if e in selection.curves), EVIDENCE[0])
    return best_harmonic_mean(selection, evidence)


# --- stage 2 -------------------------------------------------------------------------------------


def retrain(run: Run, epochs: int) -> tuple[AVGZSLNet, NDArray[np.int64]]:
    """Stage 2: train anew on all rows of stage 1; returns the network and its sorted classes."""
    data, trained = run.training_data("stage_1_train", *VALIDATION_STAGES)
    snapshots = _train_members(run, 2, data, epochs, None)
    network = assemble([s[epochs] for s in snapshots], data, run)
    if run.recipe.decoder and (run.recipe.whiten or run.recipe.members > 1):
        teach_decoder(network, run, trained)
    return network, trained


def teach_decoder(network: AVGZSLNet, run: Run, trained: NDArray[np.int64]) -> None:
    """Train the decoder alone, in place: folding changed the space that it reads."""
    rows = run.features.take(run.features.rows("stage_1_train", *VALIDATION_STAGES))
    recipe = replace(
        run.recipe,
        standardise=False,
        pretrained_text=False,
        members=1,
        whiten=False,
        relative_penalty=False,
        optimiser="adam",
        learning_rate=1e-3,
        milestones=(),
        epochs=DECODER_EPOCHS,
        triplet=0.0,
        kl=0.0,
        cross_entropy=0.0,
        mixup=0.0,
        modality_dropout=0.0,
    )
    data = TrainingData.of(rows, trained, run.text[trained], recipe)
    trainer = Trainer(data, network.config, recipe, seed=run.seed, device=run.device)
    trainer.network.load_state_dict(network.state_dict())
    for name, parameter in trainer.network.named_parameters():
        parameter.requires_grad_(name.startswith("decoder."))
    for _ in range(DECODER_EPOCHS):
        trainer.train_epoch()
    network.decoder.load_state_dict(
        {name: weight.cpu() for name, weight in trainer.network.decoder.state_dict().items()}
    )


# --- members -------------------------------------------------------------------------------------


def assemble(members: Sequence[Weights], data: TrainingData, run: Run) -> AVGZSLNet:
    """One network, on the CPU, that takes raw features, from the members' weights."""
    networks = []
    for weights in members:
        network = AVGZSLNet(run.network_config())
        network.load_state_dict(weights)
        networks.append(network.eval())
    network = networks[0] if len(networks) == 1 else folding.merge(networks)
    if run.recipe.whiten:
        folding.whiten(network, _raw_embeddings(network, data))
    if data.audio_scale is not None and data.video_scale is not None:
        data.audio_scale.fold_into(network.audio)
        data.video_scale.fold_into(network.video)
    return network


@torch.no_grad()
def _raw_embeddings(network: AVGZSLNet, data: TrainingData) -> folding.RawEmbeddings:
    """Training samples before they are scaled to unit length, every class weighing alike."""
    audio = network.audio(data.audio) * data.has_audio[:, None]
    video = network.video(data.video) * data.has_video[:, None]
    weights = 1.0 / torch.bincount(data.labels, minlength=len(data.text))[data.labels]
    return folding.RawEmbeddings(audio, video, data.has_audio, data.has_video, weights)


def _train_members(
    run: Run, stage: int, data: TrainingData, epochs: int, validation: Validation | None
) -> list[dict[int, Weights]]:
    """Train each member; returns for each its weights by the epoch that they were kept after."""
    return [
        _train_member(run, data, validation, stage=stage, member=member, epochs=epochs)
        for member in range(run.recipe.members)
    ]


def _train_member(
    run: Run,
    data: TrainingData,
    validation: Validation | None,
    *,
    stage: int,
    member: int,
    epochs: int,
) -> dict[int, Weights]:
    """Train one member from its saved state, if there is one that fits."""
    recipe = run.recipe
    seed = run.seed * recipe.members + member
    trainer = Trainer(data, run.network_config(), recipe, seed=seed, device=run.device)
    path = run.folder / f"stage{stage}-member{member}.pt"
    key = f"{run.fingerprint()} {stage} {epochs}"
    snapshots: dict[int, Weights] = {}
    scores: dict[int, float] = {}
    saved = _read_state(path, key)
    if saved is not None:
        trainer.load_state(saved["trainer"])
        snapshots, scores = saved["snapshots"], saved["scores"]
    while trainer.epoch < epochs and not _out_of_patience(scores, recipe.patience):
        terms = trainer.train_epoch()
        if trainer.epoch == epochs or trainer.epoch % recipe.validate_every == 0:
            if validation is not None or trainer.epoch == epochs:
                snapshots[trainer.epoch] = {
                    name: weight.detach().cpu().clone()
                    for name, weight in trainer.network.state_dict().items()
                }
            if validation is not None:
                weights = snapshots[trainer.epoch]
                scores[trainer.epoch] = _score([weights], data, run, validation)
            save_state(
                path,
                {
                    "key": key,
                    "trainer": trainer.state(),
                    "snapshots": snapshots,
                    "scores": scores,
                },
            )
        run.report(
            Progress(
                stage,
                member + 1,
                recipe.members,
                trainer.epoch,
                epochs,
                terms,
                scores[max(scores)] if scores else None,
            )
        )
    return snapshots


def _out_of_patience(scores: Mapping[int, float], patience: int) -> bool:
    if not patience or not scores:
        return False
    best = max(scores, key=lambda epoch: scores[epoch])
    return sum(epoch > best for epoch in scores) >= patience


def _read_state(path: Path, key: str) -> dict[str, Any] | None:
    """The state at `path`, or None where there is none of this very run."""
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError) as error:
        log.warning("%s cannot be read (%s); this network is trained anew", path, error)
        return None
    return state if state.get("key") == key else None
