"""YAML files of data sets: lists, dicts and plain strings."""

from collections import Counter
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from backbone.text import read_text

MOST_YAML = 1_000_000  # characters; 20,000 class names have half of it


class _Loader(yaml.BaseLoader):
    """Refuses a key that is there twice, of which the last would count."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        times = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if again := next((key for key, number in times.items() if number > 1), None):
            raise yaml.YAMLError(f"the key {again!r} is there twice")
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path) -> Any:
    """A YAML file's lists and dicts, with every scalar as a string: yes, 010, 1.10 and 12:30 are names.

    Raises:
        ValueError: it cannot be read, is too long or nested too deeply, or is not YAML; the message names the file.
    """
    text = read_text(path)
    if len(text) > MOST_YAML:
        raise ValueError(f"{path} has {len(text):,} characters; a YAML file of a data set has {MOST_YAML:,} at most")
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())[:300]}") from None
