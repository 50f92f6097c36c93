"""Static analysis: the AWS API calls that are reachable from the handler of a function.

Follows every function and class that is named in reachable code.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "layers/openreserve/openreserve"

Place = tuple[str, str]
"""The path of a module and the name of a definition in it."""


@dataclass(frozen=True)
class Call:
    """A call of a method of a boto3 client."""

    service: str
    method: str
    of_setting: str
    """The setting with the name of the queue or function; empty if there is none."""


@dataclass
class _Module:
    definitions: dict[str, ast.AST] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    """Paths of imported modules of the project, by their local name."""
    objects: dict[str, Place] = field(default_factory=dict)
    """Objects imported from modules of the project, by their local name."""


def calls_of(app: Path) -> set[Call]:
    """The AWS calls that are reachable from the handler."""
    return {call for place in reached(app) for call in _calls(*place)}


def reached(app: Path) -> set[Place]:
    """The definitions that are reachable from the handler."""
    places: set[Place] = set()
    ahead = [(str(app), "handler")]
    while ahead:
        place = ahead.pop()
        if place not in places:
            places.add(place)
            ahead += _uses(*place)
    return places


def clients_in(path: Path) -> list[ast.Call]:
    """Each expression that creates a boto3 client."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return [node for node in nodes if isinstance(node, ast.Call) and _service(node)]


def _uses(module: str, name: str) -> Iterator[Place]:
    here = _read(module)
    for node in ast.walk(here.definitions.get(name, ast.Module([], []))):
        match node:
            case ast.Attribute(value=ast.Name(id=alias), attr=attribute) if alias in here.modules:
                yield here.modules[alias], attribute
            case ast.Name(id=used) if used in here.objects:
                yield here.objects[used]
            case ast.Name(id=used) if used in here.definitions:
                yield module, used


def _calls(module: str, name: str) -> Iterator[Call]:
    here = _read(module)
    for node in ast.walk(here.definitions.get(name, ast.Module([], []))):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Call() as made, attr=method)):
                service = _service(made) or _service_of_factory(here, made)
                if service and method == "get_paginator":
                    yield Call(service, ast.literal_eval(node.args[0]), "")
                elif service:
                    yield Call(service, method, _setting(node))


def _service(node: ast.AST) -> str:
    match node:
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="boto3"), attr="client"),
            args=[ast.Constant(value=str(service))],
        ):
            return service
    return ""


def _service_of_factory(here: _Module, call: ast.Call) -> str:
    """The service of the client that a function of the module returns."""
    if isinstance(call.func, ast.Name) and call.func.id in here.definitions:
        for node in ast.walk(here.definitions[call.func.id]):
            if service := _service(node):
                return service
    return ""


def _setting(call: ast.Call) -> str:
    for keyword in call.keywords:
        match keyword.value:
            case ast.Attribute(value=ast.Call(func=ast.Name(id="settings")), attr=setting):
                return setting
    return ""


@cache
def _read(path: str) -> _Module:
    module = _Module()
    tree = ast.parse(Path(path).read_text())
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                module.definitions[name] = node
            case ast.ClassDef(name=name):
                module.definitions[name] = node
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                module.definitions[name] = node
    for part in ast.walk(tree):
        if isinstance(part, ast.ImportFrom) and (part.module or "").startswith("openreserve"):
            _take_in(module, part)
    return module


def _take_in(module: _Module, node: ast.ImportFrom) -> None:
    source = PACKAGE.joinpath(*(node.module or "").split(".")[1:])
    for alias in node.names:
        name = alias.asname or alias.name
        for path in (source / f"{alias.name}.py", source / alias.name / "__init__.py"):
            if path.exists():
                module.modules[name] = str(path)
        path = source.with_suffix(".py") if not source.is_dir() else source / "__init__.py"
        if name not in module.modules and path.exists():
            module.objects[name] = (str(path), alias.name)
