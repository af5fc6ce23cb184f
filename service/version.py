"""The version that `avgzsl --version`, the OpenAPI document and `/healthz` tell."""

from importlib.metadata import PackageNotFoundError, version


def package_version() -> str:
    """Return the installed distribution's version, or say that it runs from a source folder."""
    try:
        return version("avgzsl")
    except PackageNotFoundError:
        return "0+source"
