"""What a result was measured on, as digests: a result counts only while they are the same.

Comments, docstrings and formatting of Python do not count, nor does the tier that a scenario is in.
Of the modules that a scenario uses only those definitions count that it reaches by name. Names are
compared without types: a method counts where anything reached uses an attribute of its name.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from scenarios.mutations.table import ROOT, Mutation, MutationError

_DATA = ("fixtures/manifests/{}.yaml", "fixtures/overlays/{}")
_PLUGIN = "harness/pytest_plugin/fixtures.py"
_Function = ast.FunctionDef | ast.AsyncFunctionDef
# Python's own versions differ in these, and nothing runs otherwise for them.
_FIELDS_LEFT_OUT = ("ctx", "kind", "type_comment")
# Arguments of the decorator ``scenario`` that choose when CI runs it.
_TIER = ("tier", "core_arch")


class Digests(BaseModel):
    """``edit``: the edits; ``files``: what they edit; ``scenario``: the test, and what it uses of
    its module; ``steps``: what it uses of other modules, fixtures, manifests and overlays."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    edit: str
    files: str
    scenario: str
    steps: str

    def changed(self, since: Digests) -> tuple[str, ...]:
        """The names of those that are not what they were."""
        return tuple(n for n in type(self).model_fields if getattr(self, n) != getattr(since, n))


class Sources:
    """The checkout at ``root``, each file read once."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._modules: dict[str, _Module | None] = {}
        self._scenarios: dict[str, tuple[str, str]] = {}
        self._files: dict[str, str] = {}

    def digests(self, mutation: Mutation, scenario: str) -> Digests:
        """Of ``scenario`` as a witness of ``mutation``. Raises MutationError."""
        test = scenario.partition("[")[0]
        if test not in self._scenarios:
            self._scenarios[test] = self._scenario(test)
        own, steps = self._scenarios[test]
        edits = [edit.model_dump(mode="json") for edit in mutation.edit]
        return Digests(
            edit=_digest(edits),
            files=_digest([(name, self._file(name)) for name in sorted(mutation.files)]),
            scenario=own,
            steps=steps,
        )

    def _file(self, name: str) -> str:
        if name not in self._files:
            path = self._root / name
            try:
                data = path.read_bytes()
            except OSError as error:
                raise MutationError(f"cannot read {name}: {error.strerror}") from None
            if path.suffix == ".py":
                data = json.dumps(_normal(_parse(path))).encode()
            self._files[name] = hashlib.sha256(data).hexdigest()
        return self._files[name]

    def _scenario(self, test: str) -> tuple[str, str]:
        path, _, function = test.partition("::")
        name = f"scenarios.{path.removesuffix('.py').replace('/', '.')}"
        module = self.module(name)
        if module is None or function not in module.definitions:
            raise MutationError(f"there is no scenario {test}")
        reach = _Reach(self, module)
        reach.follow(function)
        own = [(key, text) for key, text in sorted(reach.found.items()) if key[0] == name]
        rest = [(key, text) for key, text in sorted(reach.found.items()) if key[0] != name]
        return _digest(own), _digest([rest, self._data(reach.words)])

    def _data(self, words: Iterable[str]) -> list[tuple[str, str]]:
        """Manifests and overlays that are called one of ``words``."""
        names = sorted(word for word in words if re.fullmatch(r"[a-z0-9-]+", word))
        found: list[tuple[str, str]] = []
        for path in (self._root / pattern.format(name) for name in names for pattern in _DATA):
            files = sorted(path.rglob("*")) if path.is_dir() else [path]
            found += [
                (str(file.relative_to(self._root)), hashlib.sha256(file.read_bytes()).hexdigest())
                for file in files
                if file.is_file()
            ]
        return found

    def module(self, name: str) -> _Module | None:
        """The module of that name, if it is one of the scenarios' own."""
        if name not in self._modules:
            path = self._root / f"{name.replace('.', '/')}.py"
            ours = name == "conftest" or name.startswith("scenarios.")
            self._modules[name] = _Module(name, _parse(path)) if ours and path.exists() else None
        return self._modules[name]

    def plugin(self) -> _Module | None:
        """The harness's fixtures, which ask for those of scenarios and count for nothing else."""
        if _PLUGIN not in self._modules:
            path = self._root / _PLUGIN
            self._modules[_PLUGIN] = _Module("", _parse(path)) if path.exists() else None
        return self._modules[_PLUGIN]

    def conftests(self, module: str) -> Iterator[_Module]:
        """Those whose fixtures a module's tests see, the nearest first."""
        parts = module.split(".")[:-1]
        for count in range(len(parts), -1, -1):
            found = self.module(".".join([*parts[:count], "conftest"]))
            if found is not None:
                yield found


@dataclass(slots=True)
class _Module:
    """One module: its top-level definitions by name, and what it imports, wherever it does."""

    name: str
    tree: ast.Module
    definitions: dict[str, list[ast.stmt]] = field(init=False)
    imports: dict[str, tuple[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        self.definitions = {}
        for statement in _top_level(self.tree.body):
            for name in _names_of(statement):
                self.definitions.setdefault(name, []).append(statement)
        self.imports = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    self.imports[alias.asname or alias.name] = (node.module, alias.name)

    def fixture(self, name: str) -> bool:
        """Whether it has a fixture of that name."""
        return any(
            isinstance(node, _Function) and _is_fixture(node)
            for node in self.definitions.get(name, ())
        )


class _Reach:
    """The definitions that a test uses; ``found`` has their normal form by module and name.

    ``words`` are the strings in them.
    """

    def __init__(self, sources: Sources, module: _Module) -> None:
        self.found: dict[tuple[str, str], str] = {}
        self.words: set[str] = set()
        self._sources = sources
        self._module = module
        self._attributes: set[str] = set()
        self._methods: dict[tuple[str, str], tuple[_Module, list[_Function]]] = {}
        self._scopes = [module, *sources.conftests(module.name)]
        self._plugin = sources.plugin()
        self._asked: set[str] = set()

    def follow(self, test: str) -> None:
        """Find everything that ``test`` uses."""
        self._take(self._module, "pytestmark")
        self._take(self._module, test)
        for scope in self._scopes:
            for name, nodes in scope.definitions.items():
                if any(isinstance(node, _Function) and _is_autouse(node) for node in nodes):
                    self._take(scope, name)
        while called := [k for k in self._methods if k[1].split(".")[-1] in self._attributes]:
            for key in called:
                module, methods = self._methods.pop(key)
                self.found[key] = json.dumps([_normal(node) for node in methods])
                for node in methods:
                    self._scan(module, node)

    def _take(self, module: _Module, name: str) -> None:
        key = (module.name, name)
        if key in self.found:
            return
        nodes = module.definitions.get(name)
        if nodes is None:
            self._import(module, name)
            return
        kept = [self._class(module, n) if isinstance(n, ast.ClassDef) else n for n in nodes]
        self.found[key] = json.dumps([_normal(node) for node in kept])
        for node in kept:
            self._scan(module, node)

    def _import(self, module: _Module, name: str) -> None:
        origin, original = module.imports.get(name, ("", ""))
        found = self._sources.module(origin) if origin else None
        if found is not None:
            self._take(found, original)

    def _class(self, module: _Module, node: ast.ClassDef) -> ast.ClassDef:
        """The class without the methods that wait for somebody to use them."""
        shell = copy.copy(node)
        shell.body = []
        for statement in node.body:
            if isinstance(statement, _Function) and not statement.name.startswith("__"):
                key = (module.name, f"{node.name}.{statement.name}")
                self._methods.setdefault(key, (module, []))[1].append(statement)
            else:
                shell.body.append(statement)
        return shell

    def _scan(self, module: _Module, node: ast.AST) -> None:
        for child in ast.walk(node):
            if isinstance(child, ast.Name):
                self._take(module, child.id)
            elif isinstance(child, ast.Attribute):
                self._attributes.add(child.attr)
                if isinstance(child.value, ast.Name):
                    self._of_a_module(module, child.value.id, child.attr)
            elif isinstance(child, ast.Constant) and isinstance(child.value, str):
                self.words.add(child.value)
        if isinstance(node, _Function) and (_is_fixture(node) or node.name.startswith("test_")):
            for argument in node.args.args + node.args.kwonlyargs:
                self._fixture(argument.arg, module if argument.arg == node.name else None)

    def _of_a_module(self, module: _Module, name: str, attribute: str) -> None:
        origin, original = module.imports.get(name, ("", ""))
        found = self._sources.module(f"{origin}.{original}") if origin else None
        if found is not None:
            self._take(found, attribute)

    def _fixture(self, name: str, below: _Module | None) -> None:
        """The nearest fixture of that name, or the next above ``below``, which replaces it."""
        scopes = self._scopes if below is None else self._scopes[self._scopes.index(below) + 1 :]
        for scope in scopes:
            if scope.fixture(name):
                self._take(scope, name)
                return
        if self._plugin is not None and name not in self._asked and self._plugin.fixture(name):
            self._asked.add(name)
            for node in self._plugin.definitions[name]:
                if isinstance(node, _Function):
                    for argument in node.args.args + node.args.kwonlyargs:
                        self._fixture(argument.arg, None)


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError) as error:
        raise MutationError(f"cannot read {path}: {error}") from None


def _top_level(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, those under its conditions too."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With):
            for part in ("body", "orelse", "finalbody"):
                yield from _top_level(getattr(statement, part, ()))


def _names_of(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, _Function | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign):
        for target in statement.targets:
            yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))
    elif isinstance(statement, ast.AnnAssign | ast.AugAssign) and isinstance(
        statement.target, ast.Name
    ):
        yield statement.target.id


def _is_fixture(node: _Function) -> bool:
    return any("fixture" in ast.dump(decorator) for decorator in node.decorator_list)


def _is_autouse(node: _Function) -> bool:
    return any(
        keyword.arg == "autouse"
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call)
        for keyword in decorator.keywords
    )


def _normal(node: object) -> object:
    """Lists and strings that say what a syntax tree does, alike for every version of Python."""
    if isinstance(node, ast.AST):
        fields: list[object] = []
        for name, value in ast.iter_fields(node):
            if name in _FIELDS_LEFT_OUT or value is None or value == []:
                continue
            kept = _without_docstring(value) if name == "body" else value
            if name == "keywords" and _calls_scenario(node):
                kept = [keyword for keyword in value if keyword.arg not in _TIER]
            if kept != []:
                fields.append([name, _normal(kept)])
        return [type(node).__name__, fields]
    if isinstance(node, list):
        return [_normal(item) for item in node]
    return repr(node)


def _without_docstring(body: object) -> object:
    if isinstance(body, list) and isinstance(body[0], ast.Expr):
        value = body[0].value
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            return body[1:]
    return body


def _calls_scenario(node: ast.AST) -> bool:
    called = node.func if isinstance(node, ast.Call) else None
    return isinstance(called, ast.Name) and called.id == "scenario"


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
