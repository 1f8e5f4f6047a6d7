"""Damage that knows a format of text: a value or row becomes what no sound file has, and the rest stays sound.

Each function takes the bytes of a sound file and a random generator, and gives the bytes of a damaged one, which a
reader believes longer than one with a flipped bit.
"""

import copy
import json
import math
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml

Damage = Callable[[bytes, random.Random], bytes]
RAW = "\x01raw "  # before text that stands in JSON without quotation marks
VALUES: tuple[Any, ...] = (
    *(0, -1, 1, 2, 3.5, -0.0, 1e-320, 255, 65536, 2**31, 2**53 + 1, 2**63, -(2**64), 10**400, 1e308, -1e308),
    *(math.nan, math.inf, -math.inf, True, False, None, [], {}, [[]], [None], {"": None}, [0] * 5000, [[1, 2]] * 3),
    *("", " ", "0", "-1", "1e400", "NaN", "None", "a", "a" * 70_000, "\0", "\x1b[2J", "a\nb", "\u2028", "\ud800"),
    *("\u202eabc", "e\u0301", "../../../../etc/passwd", "/", "C:\\", "<b>", "=1+1", '"', "%s", "\ufeff", "🦋" * 200),
    *(RAW + text for text in ("1e400", "-1e400", "1" * 5000, "[" * 3000 + "]" * 3000, '{"a":' * 900 + "1" + "}" * 900)),
)
WORDS = [value for value in VALUES if isinstance(value, str) and not value.startswith(RAW)] + [
    *("2147483648", "-9223372036854775809", "1e999", "inf", "nan", "0x10", "1_0", "٣", "1,5", "1;2", "0.1e-999", "+1"),
]


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of nested lists and dicts, with every key in it."""
    inside = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    for key, value in inside:
        yield tree, key
        yield from places(value)


def damaged_tree(tree: Any, draw: random.Random) -> Any:
    """Nested lists and dicts with one to three values changed, dropped, doubled, swapped, wrapped or renamed."""
    whole = [copy.deepcopy(tree)]
    for _ in range(draw.choice((1, 1, 1, 3))):
        every = list(places(whole))
        inside, key = draw.choice(every[1:] or every)
        kind = draw.choice(("value", "value", "value", "drop", "other", "wrap", "more", "name", "near"))
        value = inside[key]
        if kind == "drop":
            del inside[key]
        elif kind == "other":
            source, other = draw.choice(every[1:] or every)
            inside[key] = copy.deepcopy(source[other]) if other in source or isinstance(source, list) else None
        elif kind == "wrap":
            inside[key] = draw.choice(([value], {"a": value}, [value, value]))
        elif kind == "more" and isinstance(value, list):
            inside[key] = value * draw.choice((2, 2, 3000 // (len(value) + 1) + 1))
        elif kind == "name" and isinstance(inside, dict):
            inside[str(draw.choice(WORDS))] = inside.pop(key)
        elif kind == "near" and isinstance(value, (int, float)) and not isinstance(value, bool):
            inside[key] = draw.choice((-value, value + 1, value - 1, value * 1000, float(value), str(value)))
        else:
            inside[key] = copy.deepcopy(draw.choice(VALUES))
        whole = whole or [None]
    return whole[0]


def json_text(tree: Any, draw: random.Random) -> str:
    """A tree as JSON; now and then with a key that comes twice."""
    text = json.dumps(tree, ensure_ascii=draw.random() < 0.8)
    text = re.sub(r'"\\u0001raw ((?:[^"\\]|\\.)*)"', lambda found: found[1].replace('\\"', '"'), text)
    keys = [key for inside, key in places(tree) if isinstance(inside, dict)]
    if keys and draw.random() < 0.1:
        double = f"{json.dumps(draw.choice(keys))}: {json.dumps(draw.choice(VALUES[:20]))}"
        text = text.replace("{", "{" + double + ", ", 1) if draw.random() < 0.5 else f"{text[:-1]}, {double}{text[-1:]}"
    return text


def in_json(data: bytes, draw: random.Random) -> bytes:
    return json_text(damaged_tree(json.loads(data), draw), draw).encode("utf-8", "surrogatepass")


def in_json_lines(data: bytes, draw: random.Random) -> bytes:
    lines = data.splitlines()
    at = draw.randrange(len(lines))
    lines[at] = in_json(lines[at], draw)
    return b"\n".join(lines) + b"\n"


def in_yaml(data: bytes, draw: random.Random) -> bytes:
    """YAML as JSON, which it includes; or what YAML alone has: references, tags, several documents."""
    tree = yaml.safe_load(data)
    if draw.random() < 0.7:
        return json_text(damaged_tree(tree, draw), draw).encode("utf-8", "surrogatepass")
    bomb = "a: &a0 [x, x]\n" + "".join(f"b{i}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(9))
    extra = draw.choice((bomb + "names: *a9\n", bomb + "train: *a9\n", "--- 1\n", "names: !!python/name:os.system\n"))
    extra = draw.choice((extra, "? [a]\n: b\n", "names: &n [*n]\n", "<<: {names: 3}\n", "names: |\n  a\n", "\tx: 1\n"))
    return data + extra.encode()


def in_lines(data: bytes, draw: random.Random) -> bytes:
    """A table or list: cells and rows change, come, go and are doubled."""
    lines = data.decode().split("\n")
    for _ in range(draw.choice((1, 1, 3))):
        at = draw.randrange(len(lines))
        parts = re.split(r"([,;\t ]+)", lines[at])
        kind = draw.choice(("cell", "cell", "cell", "drop", "double", "many", "join", "more cells", "quote", "swap"))
        if kind == "cell":
            parts[draw.randrange(len(parts))] = str(draw.choice(WORDS))
            lines[at] = "".join(parts)
        elif kind == "drop":
            del lines[at]
        elif kind in ("double", "many"):
            lines[at:at] = [lines[at]] * draw.choice((1, 2, 2000 if kind == "many" else 3))
        elif kind == "join":
            lines[at : at + 2] = ["".join(lines[at : at + 2])]
        elif kind == "more cells":
            lines[at] += "".join(parts[1:3][:1]).join(map(str, draw.choices(WORDS, k=draw.choice((1, 3)))))
        elif kind == "quote":
            lines[at] = '"' + lines[at] + draw.choice(("", '"', '""'))
        else:
            other = draw.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        lines = lines or [""]
    return "\n".join(lines).encode(draw.choice(("utf-8", "utf-8", "utf-8", "utf-16")), "surrogatepass")


def in_xml(data: bytes, draw: random.Random) -> bytes:
    """A text, an element or a name of XML changes; or there are entities, or it is nested deeply."""
    text = data.decode("latin-1")  # byte by byte, whatever the encoding
    elements = list(re.finditer(r"<(\w+)>([^<]*)</\1>", text))
    found = draw.choice(elements)
    start, end = found.span()
    kind = draw.choice(("text", "text", "text", "drop", "double", "name", "nest", "entity"))
    if kind == "text":
        word = str(draw.choice(WORDS)).encode("utf-8", "surrogatepass").decode("latin-1")
        word = draw.choice((word, word.replace("&", "&amp;").replace("<", "&lt;")))
        text = text[: found.start(2)] + word + text[found.end(2) :]
    elif kind == "name":
        text = text[:start] + found[0].replace(found[1], draw.choice(elements)[1]) + text[end:]
    elif kind == "nest":
        depth = draw.choice((3, 3000))
        text = text[:start] + f"<{found[1]}>" * depth + found[2] + f"</{found[1]}>" * depth + text[end:]
    elif kind == "entity":
        entities = "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(9))
        head = f'<!DOCTYPE a [<!ENTITY e0 "x"><!ENTITY f SYSTEM "/etc/passwd">{entities}]>'
        text = head + text[: found.start(2)] + draw.choice(("&e9;", "&f;", "&g;")) + text[found.end(2) :]
    else:
        text = text[:start] + found[0] * draw.choice((0, 2, 2000) if kind == "double" else (0,)) + text[end:]
    return text.encode("latin-1")
