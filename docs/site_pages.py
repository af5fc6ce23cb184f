"""The pages of the site that are made while it is built: from the code, and from files elsewhere.

A hook of MkDocs. `api.md`, `errors.md` and `settings.md` say what the code says; the changelog and
others lie where people look for them in a repository.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from service.app import create_app
from service.errors import PROBLEMS
from service.settings import PREFIX, ClientSettings, Settings

ROOT = Path(__file__).parent.parent

ELSEWHERE: Mapping[str, str] = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "model_card.md": "model/bundled/MODEL_CARD.md",
}
"""Pages and the files of the repository that they are."""

UNTYPED_ERRORS: Mapping[tuple[int, str], str] = {
    (404, "not_found"): "There is nothing at this path.",
    (405, "method_not_allowed"): "This path has other methods, which `Allow` names.",
    (500, "internal_error"): "The service failed; its log tells why, under the request id.",
}
"""Errors of requests that no type stands for."""

LATER_ERRORS: Mapping[str, str] = {
    "interrupted": "Of a job's file: the service stopped so often while it worked on it.",
    "internal_error": "Of a job or a change of model: the service failed; its log tells why.",
    "model_unusable": "Of a change of model: the checkpoint cannot be used.",
    "timeout": "Of a file of `avgzsl index`: the service did not answer in time.",
    "file_changed": "Of a file of `avgzsl index --ray`: it changed after it was embedded.",
}
"""Codes in what is told later, besides those of requests."""

LIMITS = {"ge": "at least {}", "gt": "more than {}", "le": "at most {}", "lt": "less than {}"}

Schema = Mapping[str, Any]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that no file in docs/ holds."""
    for name, make in generated().items():
        files.append(File.generated(config, name, content=make()))
    return files


def generated() -> dict[str, Callable[[], str]]:
    """The pages by name, each with what makes it."""
    return {
        "api.md": api_page,
        "errors.md": errors_page,
        "settings.md": settings_page,
        **{page: lambda source=source: elsewhere(source) for page, source in ELSEWHERE.items()},
    }


def elsewhere(source: str) -> str:
    """A file of the repository, with links that lead to pages of the site, or to nowhere."""
    pages = {path: page for page, path in ELSEWHERE.items()}
    folder = Path(source).parent

    def relinked(link: re.Match[str]) -> str:
        text, target = link.groups()
        if "://" in target or target.startswith("#"):
            return link[0]
        path, _, anchor = target.partition("#")
        inside = (folder / path).as_posix()
        page = pages.get(inside, inside.removeprefix("docs/") if "docs/" in inside else None)
        if page is None:
            return text
        return f"[{text}]({page}{'#' * bool(anchor)}{anchor})"

    text = (ROOT / source).read_text("utf-8")
    return re.sub(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)", relinked, text)


def settings_page() -> str:
    """Every setting by the class that reads them."""
    fields = {**Settings.model_fields, **ClientSettings.model_fields}
    rows = [_setting(name, field) for name, field in fields.items()]
    return "\n".join(
        [
            "# Settings",
            "",
            "Environment variables; a blank value means the default. A value that cannot be used "
            "is one line at start that names its variable. Made from `service/settings.py`.",
            "",
            *table(("variable", "default", "values", "meaning"), rows),
        ]
    )


def _setting(name: str, field: FieldInfo) -> tuple[str, ...]:
    default = "" if field.default in (None, PydanticUndefined, ()) else f"`{_shown(field.default)}`"
    limits = [
        text.format(f"{getattr(limit, key):,}")
        for limit in field.metadata
        for key, text in LIMITS.items()
        if getattr(limit, key, None) is not None
    ]
    choices = [f"`{c}`" for c in getattr(field.annotation, "__args__", ()) if isinstance(c, str)]
    values = ", ".join(choices or limits)
    return f"`{PREFIX}{name.upper()}`", default, values, field.description or ""


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def errors_page() -> str:
    """Every code that an error may have."""
    rows = dict(UNTYPED_ERRORS)
    rows |= {
        (p.status, p.code): " ".join((error.__doc__ or "").split("\n\n")[0].split())
        for error, p in PROBLEMS.items()
        if p.status != 499
    }
    return "\n".join(
        [
            "# Errors",
            "",
            "An error is `application/problem+json` with `status`, `title`, `detail` (what is "
            "wrong, the value, the limit, what to do), `request_id` and `code`, which is stable: "
            "programs go by it. Made from `service/errors.py` for the most part.",
            "",
            *table(
                ("status", "code", "meaning"),
                [(str(s), f"`{c}`", text) for (s, c), text in sorted(rows.items())],
            ),
            "",
            "A job, a change of model and `avgzsl index` tell what failed by the same codes, and:",
            "",
            *table(("code", "meaning"), [(f"`{c}`", text) for c, text in LATER_ERRORS.items()]),
        ]
    )


def api_page() -> str:
    """Every operation and every schema of the OpenAPI document."""
    document = create_app(Settings()).openapi()
    lines = [
        "# HTTP API",
        "",
        "Made from the OpenAPI document, which a running service gives at `/openapi.json`, to try "
        "out at `/docs`. Errors: [by code](errors.md).",
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            lines += ["", f"## {method.upper()} {path}", "", operation.get("summary", ""), ""]
            lines += [operation.get("description", "")]
            lines += _parameters(operation)
            lines += _bodies(operation, document)
            lines += _responses(operation)
    lines += ["", "## Schemas"]
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += ["", f"### {name}", "", schema.get("description", ""), "", *_fields(schema)]
    return "\n".join(lines)


def _parameters(operation: Schema) -> Iterator[str]:
    rows = [
        (f"`{p['name']}`", p["in"], kind(p["schema"]), _text(p))
        for p in operation.get("parameters", ())
    ]
    if rows:
        yield from ("", *table(("parameter", "in", "type", "meaning"), rows))


def _bodies(operation: Schema, document: Schema) -> Iterator[str]:
    for media_type, body in operation.get("requestBody", {}).get("content", {}).items():
        schema = body["schema"]
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        yield from ("", f"Body, `{media_type}`:", "", *_fields(schema))


def _responses(operation: Schema) -> Iterator[str]:
    rows = []
    for status, response in sorted(operation["responses"].items()):
        kinds = {kind(c["schema"]) for c in response.get("content", {}).values() if "schema" in c}
        rows.append((status, ", ".join(sorted(kinds - {"ProblemDetails"})), _text(response)))
    yield from ("", *table(("status", "answer", "meaning"), rows))


def _fields(schema: Schema) -> Iterable[str]:
    required = schema.get("required", ())
    rows = [
        (f"`{name}`", kind(field) + _condition(field, needed=name in required), _text(field))
        for name, field in schema.get("properties", {}).items()
    ]
    return table(("field", "type", "meaning"), rows) if rows else ()


def _condition(field: Schema, *, needed: bool) -> str:
    if needed:
        return ", required"
    default = field.get("default")
    return "" if default in (None, "", []) else f", `{_shown(default)}` by default"


def kind(schema: Schema) -> str:
    """A schema's type in few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return name if name == "ProblemDetails" else f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(kind(one) for one in schema["anyOf"])
    if choices := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return ", ".join(f"`{value}`" for value in choices)
    if schema.get("type") == "array":
        return f"list of {kind(schema.get('items', {}))}"
    return "file" if schema.get("format") == "binary" else str(schema.get("type", "any"))


def _text(described: Schema) -> str:
    return " ".join(str(described.get("description", "")).split())


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """The lines of a table in Markdown."""
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return [f"| {line} |" for line in lines]
