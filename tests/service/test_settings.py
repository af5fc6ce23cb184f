from pathlib import Path

import pytest

from service.settings import PREFIX, Settings, SettingsError, load_settings


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"{PREFIX}{name.upper()}", raising=False)


def test_the_defaults_serve_this_machine_only() -> None:
    settings = load_settings()

    assert (settings.host, settings.port, settings.model) == ("127.0.0.1", 8000, "bundled")
    assert settings.data_dir == Path("data")
    assert settings.max_upload_bytes == 512 * 2**20


def test_the_environment_is_read_and_overrides_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVGZSL_PORT", "9000")
    monkeypatch.setenv("AVGZSL_HOST", "0.0.0.0")
    monkeypatch.setenv("AVGZSL_LOG_FORMAT", "JSON")

    settings = load_settings({"port": 9001})

    assert (settings.host, settings.port, settings.log_format) == ("0.0.0.0", 9001, "json")


def test_lists_are_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVGZSL_CORS_ORIGINS", "https://a.example, http://b.example:8080")
    monkeypatch.setenv("AVGZSL_ALLOWED_HOSTS", "Clips.example,[::1],")

    settings = load_settings()

    assert settings.cors_origins == ("https://a.example", "http://b.example:8080")
    assert settings.allowed_hosts == ("clips.example", "::1")


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_blank_value_means_the_default(monkeypatch: pytest.MonkeyPatch, blank: str) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(f"{PREFIX}{name.upper()}", blank)

    assert load_settings() == Settings.model_construct()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "99999"),
        ("port", "http"),
        ("max_upload_bytes", "0"),
        ("max_upload_bytes", "512MB"),
        ("decode_workers", "-1"),
        ("decode_timeout_seconds", "nan"),
        ("max_duration_seconds", "inf"),
        ("log_format", "xml"),
        ("head", "thawed"),
        ("vector_store", "abacus"),
        ("rate_limit", "many"),
        ("rate_limit", "0/minute"),
        ("rate_limit", "10/fortnight"),
        ("concurrency_limit", "0"),
        ("cors_origins", "https://a.example/page"),
        ("cors_origins", "a.example"),
    ],
)
def test_a_bad_value_is_told_in_one_line_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"{PREFIX}{name.upper()}", value)

    with pytest.raises(SettingsError) as caught:
        load_settings()

    message = str(caught.value)
    assert message.startswith(f"{PREFIX}{name.upper()} is {value!r}: ")
    assert "\n" not in message


def test_a_password_in_a_bad_value_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}VECTOR_STORE", "milvs:http://root:secret@host:19530")

    with pytest.raises(SettingsError, match="milvs:http://\\*\\*\\*@host") as caught:
        load_settings()

    assert "secret" not in str(caught.value)


def test_every_setting_is_described() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
