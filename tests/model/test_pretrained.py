"""Pretrained models are found in a folder or the cache, and bad ones are refused with a reason."""

import json
import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest
from safetensors.torch import load_file, save_file

from model.backbones.clap import ClapAudio
from model.backbones.clap import load_text_tower as load_clap_text
from model.backbones.clip import ClipVideo
from model.backbones.clip import load_text_tower as load_clip_text
from model.backbones.pretrained import pretrained_folder, weights_digest
from model.backbones.registry import load_audio_backbone, load_text_tower, load_video_backbone
from model.errors import BackboneError
from tests.model.tiny_pretrained import save_clap, save_clip

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub on a machine without a network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def put_into_cache(cache: Path, folder: Path) -> Path:
    """Lay a folder out as the hub's client caches `owner/name`."""
    repository = cache / "models--owner--name"
    snapshot = Path(shutil.copytree(folder, repository / "snapshots" / REVISION))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION)
    return snapshot


@pytest.mark.parametrize("source", ["owner/name", f"owner/name@{REVISION}"])
def test_what_the_cache_holds_needs_no_network(cache: Path, saved: Path, source: str) -> None:
    put_into_cache(cache, saved)

    video = load_video_backbone(f"clip:{source}")

    assert video.name == f"clip:{source}"


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(("kind", "setting"), [("clap", "AUDIO"), ("clip", "VIDEO")])
def test_without_cache_or_network_the_error_says_what_is_missing_and_what_to_do(
    kind: str, setting: str
) -> None:
    with pytest.raises(
        BackboneError,
        match=rf"weights laion/\S+ are not in the Hugging Face cache.*once while the machine is "
        rf"online.*AVGZSL_{setting}_BACKBONE={kind}:FOLDER",
    ):
        load_text_tower(kind)


def test_a_cache_that_has_all_but_the_weights_is_not_enough(cache: Path, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    put_into_cache(cache, folder)

    with pytest.raises(
        BackboneError, match=r"has owner/name without model\.safetensors.*X=clip:FOLDER"
    ):
        pretrained_folder("owner/name", setting="X=clip")


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("source", ["/nowhere", "./nowhere", "~/nowhere", "nowhere", "no/such/one"])
def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(source: str) -> None:
    with pytest.raises(BackboneError, match=rf"no folder '{source}'.*X=clip:FOLDER"):
        pretrained_folder(source, setting="X=clip")


@pytest.mark.usefixtures("cache")
def test_a_name_that_no_repository_can_have_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="'a b/c' is neither a folder nor the name"):
        pretrained_folder("a b/c", setting="X=clip")


def test_a_folder_without_safetensors_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

    with pytest.raises(BackboneError, match=r"holds no model.safetensors"):
        ClipVideo.load(str(folder))


def test_a_model_of_another_kind_is_refused(saved: Path) -> None:
    with pytest.raises(BackboneError, match="of the type 'clip', not 'clap'"):
        ClapAudio.load(str(saved))


def test_weights_that_transformers_would_make_up_are_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(BackboneError, match=r"lacks 1 weights.*visual_projection\.weight"):
        ClipVideo.load(str(folder))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "processor_config.json"])
def test_a_corrupt_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"{ not what it was")

    with pytest.raises(BackboneError, match=rf"read from {folder}.*fetch the model again"):
        ClipVideo.load(str(folder))


def test_weights_that_do_not_fit_the_configuration_are_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["projection_dim"] *= 2
    (folder / "config.json").write_text(json.dumps(config))

    with pytest.raises(BackboneError, match="CLIPModel cannot be read"):
        ClipVideo.load(str(folder))


def test_a_text_tower_without_its_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()

    with pytest.raises(BackboneError, match=r"no tokenizer\.json"):
        load_clip_text(str(folder))


def test_a_text_tower_with_another_models_tokenizer_is_refused(saved: Path, tmp_path: Path) -> None:
    clap = save_clap(tmp_path)
    for path in saved.glob("tokenizer*"):
        shutil.copy(path, clap)

    with pytest.raises(BackboneError, match="514 words, the model 261"):
        load_clap_text(str(clap))


def test_the_digest_tells_contents_and_not_places(saved: Path, folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"another program's")
    assert weights_digest(folder) == weights_digest(saved)

    (folder / "merges.txt").write_text("a b")
    assert weights_digest(folder) != weights_digest(saved)


def test_a_backbone_is_called_as_it_was_asked_for(saved: Path) -> None:
    assert load_video_backbone(f"clip:{saved}").name == f"clip:{saved}"
    assert load_text_tower(f"clip:{saved}").name == f"clip:{saved}"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("clap:", "names nothing after the colon; give clap:FOLDER"),
        ("compact-audio:/tmp", "lie in the folder of the checkpoint"),
        ("compact-audio", "lie in the folder of the checkpoint"),
        ("ear:/tmp", "unknown audio backbone 'ear:/tmp'; known: clap, compact-audio"),
    ],
)
def test_a_name_without_weights_is_refused(name: str, reason: str) -> None:
    with pytest.raises(BackboneError, match=reason):
        load_audio_backbone(name)
