"""Parse YAML from files and options into plain values, within bounds of size and time."""

from __future__ import annotations

from typing import Any

import yaml

# Aliases of aliases make billions of values from a few lines ("billion laughs").
_MAX_VALUES = 100_000
# PyYAML also raises these: a date with a 13th month is a ValueError.
_NO_YAML = (
    yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError,
)  # fmt: skip


class _Loader(yaml.SafeLoader):
    """Reads 12:00:00 and 2026-01-31 as text, as YAML 1.2 does; SafeLoader makes 43200 and a date."""


def _number_or_clock(construct: Any) -> Any:
    return lambda loader, node: node.value if ":" in node.value else construct(loader, node)


for _tag, _construct in (
    ("int", _number_or_clock(yaml.SafeLoader.construct_yaml_int)),
    ("float", _number_or_clock(yaml.SafeLoader.construct_yaml_float)),
    ("timestamp", yaml.SafeLoader.construct_yaml_str),
):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _construct)


def parse_yaml(text: str) -> Any:
    """The value of a YAML text, of plain types.

    Raises ValueError, with the reason in one line, if the text is not YAML, repeats a key, refers
    to itself, or stands for more than 100,000 values.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _count_values(node, {})
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except _NO_YAML as error:
        raise ValueError(" ".join(str(error).split())) from None


def _count_values(node: yaml.Node, counts: dict[int, int | None]) -> int:
    """The number of values that a node stands for; each alias counts as a copy of its value.

    `counts` holds the nodes that were counted; None: a node that is being counted.
    """
    count = counts.get(id(node), 0)
    if count is None:
        raise ValueError(f"line {_line(node)}: a value contains itself")
    if count:
        return count
    counts[id(node)] = None
    count = 1 + sum(_count_values(child, counts) for child in _children(node))
    if count > _MAX_VALUES:
        raise ValueError(f"line {_line(node)}: stands for more than {_MAX_VALUES:,} values")
    counts[id(node)] = count
    return count


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        _require_distinct_keys(node)
        return [child for pair in node.value for child in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _require_distinct_keys(node: yaml.MappingNode) -> None:
    """PyYAML would keep the last value of a repeated key and drop the others."""
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise ValueError(f"line {_line(key)}: repeats the key {key.value!r}; keep one")
            seen.add(key.value)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
