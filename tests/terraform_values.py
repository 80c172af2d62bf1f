"""Evaluates a Terraform module as far as no provider is needed: what it would make, from what.

python-hcl2 parses; this knows variables with their defaults and validations, locals, `for_each`,
`count`, dynamic blocks and the functions that the module uses. What only Google would tell (the
full name of an account) stays a reference, as text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import hcl2
from hcl2.rules import base, containers, expressions, for_expressions, functions, indexing, strings
from hcl2.rules import literal_rules as literals

META = frozenset({"count", "for_each", "depends_on", "lifecycle"})

Scope = MutableMapping[str, Any]


class Refused(Exception):
    """What Terraform would refuse."""


@dataclass(frozen=True)
class Instance:
    """One thing that would be made.

    Attributes:
        key: Its key where there are several; None for a single one.
        arguments: Its arguments, blocks as lists; what is null is left out.
    """

    key: Any
    arguments: dict[str, Any]


@dataclass
class Module:
    """A module with its variables given."""

    directory: Path
    given: Mapping[str, Any]
    blocks: list[base.BlockRule] = field(init=False)
    resources: dict[tuple[str, str], list[Instance]] = field(init=False)

    def __post_init__(self) -> None:
        files = sorted(self.directory.glob("*.tf"))
        self.blocks = [block for file in files for block in _blocks(_body(file))]
        self._locals = {
            name: expression
            for block in self._named("locals")
            for name, expression in _attributes(block.body)
        }
        self._values: dict[str, Any] = {}
        self.variables = {_label(block, 1): block for block in self._named("variable")}
        unknown = set(self.given) - set(self.variables)
        if unknown:
            raise Refused(f"no variables {sorted(unknown)}")
        self.scope: Scope = {"var": self._given(), "local": _Locals(self)}
        self.scope["path"] = {"module": str(self.directory)}
        self._validate()
        self.resources = {}
        for block in self._named("resource"):
            self.scope.setdefault(_label(block, 1), {})
        for block in self._named("resource"):
            self._make(block)

    def output(self, name: str) -> Any:
        """Return an output."""
        block = next(each for each in self._named("output") if _label(each, 1) == name)
        return self.value(dict(_attributes(block.body))["value"], self.scope)

    def of(self, kind: str, name: str) -> list[Instance]:
        """Return the instances of a resource, made when it is first asked for."""
        if (kind, name) not in self.resources:
            blocks = self._named("resource")
            self._make(next(b for b in blocks if (_label(b, 1), _label(b, 2)) == (kind, name)))
        return self.resources[kind, name]

    def local(self, name: str) -> Any:
        """Return a local value."""
        if name not in self._values:
            self._values[name] = self.value(self._locals[name], self.scope)
        return self._values[name]

    def value(self, node: Any, scope: Mapping[str, Any]) -> Any:
        """Return what an expression is."""
        for kind, evaluate in _EVALUATORS.items():
            if isinstance(node, kind):
                return evaluate(self, node, scope)
        raise NotImplementedError(type(node).__name__)

    def _named(self, word: str) -> list[base.BlockRule]:
        return [block for block in self.blocks if _label(block, 0) == word]

    def _given(self) -> dict[str, Any]:
        values = {}
        for name, block in self.variables.items():
            attributes = dict(_attributes(block.body))
            if name not in self.given and "default" not in attributes:
                raise Refused(f"variable {name} is not given")
            given = self.given.get(name)
            if name not in self.given:
                given = self.value(attributes["default"], {})
            kind = self.value(attributes["type"], _TYPES)
            values[name] = _with_defaults(kind, given)
        return values

    def _validate(self) -> None:
        for name, block in self.variables.items():
            for check in _blocks(block.body):
                self._check(check, name)

    def _check(self, block: base.BlockRule, what: str) -> None:
        attributes = dict(_attributes(block.body))
        if self.value(attributes["condition"], self.scope) is not True:
            raise Refused(f"{what}: {self.value(attributes['error_message'], self.scope)}")

    def _make(self, block: base.BlockRule) -> None:
        kind, name = _label(block, 1), _label(block, 2)
        if (kind, name) in self.resources:
            return
        attributes = dict(_attributes(block.body))
        made = []
        for key, each in self._each(attributes):
            scope = ChainMap({"each": each}, self.scope)
            for inner in _blocks(block.body):
                for check in _blocks(inner.body) if _label(inner, 0) == "lifecycle" else ():
                    self._check(check, f"{kind}.{name}")
            made.append(Instance(key, self._arguments(block.body, scope, META)))
        self.resources[kind, name] = made

    def _each(self, attributes: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
        if "count" in attributes:
            for number in range(self.value(attributes["count"], self.scope)):
                yield number, None
        elif "for_each" in attributes:
            found = self.value(attributes["for_each"], self.scope)
            pairs = found.items() if isinstance(found, Mapping) else ((x, x) for x in found)
            for key, value in pairs:
                yield key, {"key": key, "value": value}
        else:
            yield None, None

    def _arguments(
        self, body: base.BodyRule, scope: Mapping[str, Any], besides: frozenset[str] = frozenset()
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, expression in _attributes(body):
            if name not in besides and (value := self.value(expression, scope)) is not None:
                found[name] = value
        for block in _blocks(body):
            word = _label(block, 0)
            if word == "dynamic":
                made = list(self._dynamic(block, scope))
                if made:
                    found.setdefault(_label(block, 1), []).extend(made)
            elif word not in besides:
                found.setdefault(word, []).append(self._arguments(block.body, scope))
        return found

    def _dynamic(self, block: base.BlockRule, scope: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        each = self.value(dict(_attributes(block.body))["for_each"], scope)
        (content,) = _blocks(block.body)
        for key, value in each.items() if isinstance(each, Mapping) else enumerate(each):
            iterated = {"key": key, "value": value}
            inner = ChainMap({_label(block, 1): iterated}, scope)  # type: ignore[arg-type]
            yield self._arguments(content.body, inner)

    def reference(self, node: Any, scope: Mapping[str, Any]) -> Any:
        """Return a part of something: of a resource that would be made, too."""
        text = re.fullmatch(r"(google_\w+)\.(\w+)(?:\[(.+)\])?\.(\w+)", _text(node))
        if text is None:
            return None
        kind, name, key, attribute = text.groups()
        index = node.expr_term.expression.children[1].index_expression if key else None
        wanted = self.value(index, scope) if key else None
        instance = next(each for each in self.of(kind, name) if each.key == wanted)
        if attribute in instance.arguments and kind != "google_service_account":
            return instance.arguments[attribute]
        return f"{kind}.{name}[{wanted}].{attribute}"


class _Locals(Mapping[str, Any]):
    def __init__(self, module: Module) -> None:
        self._module = module

    def __getitem__(self, name: str) -> Any:
        return self._module.local(name)

    def __iter__(self) -> Iterator[str]:
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError


@cache
def _body(file: Path) -> base.BodyRule:
    return hcl2.parses(file.read_text(encoding="utf-8"), discard_comments=True).body


def _blocks(body: base.BodyRule) -> list[base.BlockRule]:
    return [child for child in body.children if isinstance(child, base.BlockRule)]


def _attributes(body: base.BodyRule) -> list[tuple[str, Any]]:
    return [
        (child.identifier.serialize(), child.expression)
        for child in body.children
        if isinstance(child, base.AttributeRule)
    ]


def _label(block: base.BlockRule, index: int) -> str:
    return str(block.labels[index].serialize()).strip('"')


def _text(node: Any) -> str:
    return str(node.serialize()).removeprefix("${").removesuffix("}")


def _string(module: Module, node: Any, scope: Mapping[str, Any]) -> Any:
    parts = []
    for part in node.string_parts:
        content = part.content
        if isinstance(content, strings.InterpolationRule):
            parts.append(str(module.value(content.expression, scope)))
        else:
            parts.append(json.loads(f'"{content.serialize()}"'))
    return "".join(parts)


def _binary(module: Module, node: Any, scope: Mapping[str, Any]) -> Any:
    sign = str(node.binary_term.binary_operator.serialize()).strip()
    left = module.value(node.expr_term, scope)
    right = node.binary_term.expr_term
    if sign == "&&":
        return left and module.value(right, scope)
    if sign == "||":
        return left or module.value(right, scope)
    return _SIGNS[sign](left, module.value(right, scope))


def _for(module: Module, node: Any, scope: Mapping[str, Any]) -> Iterator[ChainMap[str, Any]]:
    intro = node.for_intro
    found = module.value(intro.iterable, scope)
    names = [each.serialize() for each in (intro.first_iterator, intro.second_iterator) if each]
    pairs = found.items() if isinstance(found, Mapping) else enumerate(found)
    for key, value in pairs:
        values = [key, value] if len(names) > 1 else [value]
        inner = ChainMap(dict(zip(names, values, strict=True)), scope)  # type: ignore[arg-type]
        if node.condition is None or module.value(node.condition.condition_expr, inner):
            yield inner


def _call(module: Module, node: Any, scope: Mapping[str, Any]) -> Any:
    (name,) = [each.serialize() for each in node.identifiers]
    arguments = node.arguments.arguments if node.arguments else []
    if name == "can":
        try:
            module.value(arguments[0], scope)
        except LookupError:
            return False
        return True
    return _FUNCTIONS[name](*(module.value(each, scope) for each in arguments))


def _attribute(module: Module, node: Any, scope: Mapping[str, Any]) -> Any:
    if _text(node).startswith("google_"):
        return module.reference(node, scope)
    return module.value(node.expr_term, scope)[node.get_attr.identifier.serialize()]


def _index(module: Module, node: Any, scope: Mapping[str, Any]) -> Any:
    held, index = node.children
    return module.value(held, scope)[module.value(index.index_expression, scope)]


def _identifier(module: Module, node: Any, scope: Mapping[str, Any]) -> Any:
    return scope[str(node.serialize())]


def _object(module: Module, node: Any, scope: Mapping[str, Any]) -> Any:
    found = {}
    for element in node.elements:
        key = element.key.value
        is_name = isinstance(key, literals.IdentifierRule)
        name = key.serialize() if is_name else module.value(key, scope)
        found[name] = module.value(element.expression, scope)
    return found


_EVALUATORS: dict[type, Callable[[Module, Any, Mapping[str, Any]], Any]] = {
    expressions.ExprTermRule: lambda m, n, s: m.value(n.expression, s),
    expressions.ConditionalRule: lambda m, n, s: m.value(
        n.if_true if m.value(n.condition, s) else n.if_false, s
    ),
    expressions.BinaryOpRule: _binary,
    expressions.UnaryOpRule: lambda m, n, s: not m.value(n.expr_term, s),
    for_expressions.ForTupleExprRule: lambda m, n, s: [
        m.value(n.value_expr, each) for each in _for(m, n, s)
    ],
    for_expressions.ForObjectExprRule: lambda m, n, s: {
        m.value(n.key_expr, each): m.value(n.value_expr, each) for each in _for(m, n, s)
    },
    functions.FunctionCallRule: _call,
    indexing.GetAttrExprTermRule: _attribute,
    indexing.IndexExprTermRule: _index,
    containers.TupleRule: lambda m, n, s: [m.value(each, s) for each in n.elements],
    containers.ObjectRule: _object,
    strings.StringRule: _string,
    literals.LiteralValueRule: lambda m, n, s: n.serialize(),
    literals.IntLitRule: lambda m, n, s: int(n.serialize()),
    literals.IdentifierRule: _identifier,
}


def _replace(text: str, pattern: str, new: str) -> str:
    if len(pattern) > 1 and pattern[0] == pattern[-1] == "/":
        return re.sub(pattern[1:-1], new, text)
    return text.replace(pattern, new)


def _regex(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise LookupError(text)
    return found[0]


def _coalesce(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _flat(values: Any) -> list[Any]:
    found: list[Any] = []
    for value in values:
        found.extend(_flat(value) if isinstance(value, list) else [value])
    return found


_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    "-": lambda a, b: a - b,
}

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "alltrue": all,
    "coalesce": _coalesce,
    "concat": lambda *lists: [each for items in lists for each in items],
    "contains": lambda items, item: item in items,
    "endswith": str.endswith,
    "file": lambda path: Path(path).read_text(encoding="utf-8"),
    "flatten": _flat,
    "join": lambda sign, items: sign.join(items),
    "jsondecode": json.loads,
    "jsonencode": json.dumps,
    "keys": sorted,
    "length": len,
    "lower": str.lower,
    "merge": lambda *maps: {key: value for each in maps for key, value in each.items()},
    "regex": _regex,
    "replace": _replace,
    "reverse": lambda items: items[::-1],
    "sha256": lambda text: hashlib.sha256(text.encode()).hexdigest(),
    "split": lambda sign, text: text.split(sign),
    "substr": lambda text, start, length: text[start : start + length],
    "toset": lambda items: sorted(set(items)),
    "trim": str.strip,
    "trimsuffix": str.removesuffix,
    # Of types.
    "list": lambda kind: ("list", kind),
    "object": lambda fields: ("object", fields),
    "optional": lambda kind, default=None: ("optional", default),
}

_TYPES = {"string": "string", "number": "number", "bool": "bool"}


def _with_defaults(kind: Any, value: Any) -> Any:
    """Return a value with the fields that its type has defaults for."""
    match kind:
        case ("list", inner):
            return [_with_defaults(inner, each) for each in value]
        case ("object", fields):
            missing = {
                name: each[1]
                for name, each in fields.items()
                if isinstance(each, tuple) and each[0] == "optional"
            }
            lacking = set(fields) - set(missing) - set(value)
            if lacking or set(value) - set(fields):
                raise Refused(f"{value} has not the fields {sorted(fields)}")
            return {**missing, **value}
    return value
