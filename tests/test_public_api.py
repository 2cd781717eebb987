"""What is public, what it costs to import, and which way imports point."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Set

import pytest

import beaconhq

PACKAGE = Path(beaconhq.__file__).parent
PUBLIC = {
    "DEFAULT_INGEST_URL",
    "BeaconASGIMiddleware",
    "BeaconClient",
    "BeaconDjangoMiddleware",
    "BeaconEvent",
    "BeaconFlask",
    "HttpTransport",
    "MockTransport",
    "SendResult",
    "Transport",
    "__version__",
    "init_flask",
    "set_consumer",
    "utc_now_iso",
}


def test_the_public_names_are_these() -> None:
    assert set(beaconhq.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(beaconhq, name) is not None


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert beaconhq.__version__ == version("beaconhq")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("beaconhq.client", "BeaconClient"),
        ("beaconhq.event", "BeaconEvent"),
        ("beaconhq.transport", "HttpTransport"),
        ("beaconhq.transport", "MockTransport"),
        ("beaconhq.transport", "SendResult"),
        ("beaconhq.integrations.asgi", "BeaconASGIMiddleware"),
        ("beaconhq.integrations.django", "BeaconDjangoMiddleware"),
        ("beaconhq.integrations.flask", "BeaconFlask"),
        ("beaconhq.integrations.flask", "init_flask"),
    ],
)
def test_the_published_module_paths_still_serve(module: str, name: str) -> None:
    assert getattr(importlib.import_module(module), name) is not None


@pytest.mark.parametrize("name", ["enable_fastapi_validation_capture", "BeaconCapture", "mask_body"])
def test_the_names_of_0_2_s_request_inspection_say_where_they_are(name: str) -> None:
    with pytest.raises(ImportError, match=r"request inspection of 0\.2"):
        getattr(beaconhq, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        beaconhq.nonsense  # noqa: B018


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys, beaconhq; print(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.split())
    heavy = {
        "anyio",
        "asyncio",
        "httpx",
        "importlib.metadata",
        "inspect",
        "json",
        "logging",
        "random",
        "uuid",
    }
    assert (
        loaded & {*heavy, "django", "fastapi", "flask", "starlette", "dataclasses", "concurrent.futures"}
        == set()
    )


# -- which way imports point ------------------------------------------------------------

#: Each module imports only from the layers above its own. What is imported for type checking
#: only does not count, nor that `transport.py` hands on the published name `HttpTransport`.
LAYERS: List[Set[str]] = [
    {"version", "errors", "event", "backoff", "consumer", "native", "quiet", "options", "uwsgi", "wire"},
    {"transport", "report", "loops", "queue", "host", "hooks", "overflow", "flushes", "sealing"},
    {"answers", "http", "spool"},
    {"exporter", "bridge"},
    {"lifecycle"},
    {"client"},
    {"integrations"},
]
FOLDERS = ("integrations", "spool")


def imports(path: Path) -> Iterator[str]:
    """Yield the modules of this package that a file imports at run time."""

    def visit(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.ImportFrom) and node.level:
            yield from [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
        for child in ast.iter_child_nodes(node):
            yield from visit(child)

    yield from visit(ast.parse(path.read_text()))


def layered_files() -> Dict[Path, str]:
    core = {
        path: path.stem for path in PACKAGE.glob("*.py") if path.stem not in ("__init__", "__main__", "cli")
    }
    folders = {path: path.parent.name for name in FOLDERS for path in PACKAGE.glob(f"{name}/*.py")}
    del folders[PACKAGE / "spool" / "command.py"]  # a command, above the client
    return {**core, **folders}


@pytest.mark.parametrize("path", sorted(layered_files()), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    own = layered_files()[path]
    level = {module: number for number, layer in enumerate(LAYERS) for module in layer}
    assert own in level, "a new module needs its place in LAYERS"
    for module in imports(path):
        if module in level and module != own and (own, module) != ("transport", "http"):
            assert level[module] <= level[own], f"{own} imports {module}"


def test_each_framework_is_imported_in_exactly_one_file() -> None:
    frameworks = {"django": "django.py", "flask": "flask.py", "fastapi": None, "starlette": None}
    for path in PACKAGE.rglob("*.py"):
        if "local" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in names:
                package = name.split(".")[0]
                assert package not in frameworks or frameworks[package] == path.name, (path, name)
