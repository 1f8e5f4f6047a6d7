"""Text of files and of other libraries' errors.

Files may have the encodings of common tools: UTF-8 with or without a byte order mark, UTF-16, or as XML declares.
"""

import codecs
import re
from pathlib import Path

from backbone.files import open_plain

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED = re.compile(rb"""\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_CHARSETS = tuple("utf-8 utf-16 utf-32 iso latin windows cp gb big5 euc shift koi8 mac us- ascii".split())
_WIDER = {"gb2312": "gb18030", "gbk": "gb18030"}  # many files that declare the narrower one are in this one


def read_text(path: Path, *, what: str = "text") -> str:
    """The text of a file, without its byte order mark and with "\\n" at the ends of lines.

    Raises:
        ValueError: it cannot be read or is in another encoding; the message names the file and `what` was expected.
    """
    try:
        with open_plain(Path(path)) as file:
            data = file.read()
        text = data.decode(_encoding_of(data))
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeError, LookupError) as error:
        raise ValueError(f"{path} is not {what} in UTF-8: {error}") from None
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def beginning(path: Path) -> str:
    """The first 65,536 bytes of a file, decoded as `read_text` does; bytes that cannot be decoded are replaced."""
    with open_plain(path) as file:
        start = file.read(65_536)
    text = start.decode(_encoding_of(start), errors="replace")
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def first_line(path: Path) -> str:
    """The first line of a file that is not empty; see `beginning`."""
    return beginning(path).lstrip("\n").partition("\n")[0]


def reason_of(error: object) -> str:
    """The first line of another library's error, or after a colon the first two; advice and stacks may follow them."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])


def _encoding_of(data: bytes) -> str:
    """Detect it from the byte order mark, an XML declaration or the position of zero bytes; else UTF-8."""
    if marked := next((name for mark, name in _MARKS if data.startswith(mark)), None):
        return marked
    if declared := _DECLARED.match(data):  # in letters of one byte: what says UTF-16 here was saved anew, as .NET does
        name = declared[1].decode().lower().replace("_", "-")
        if not name.startswith(_CHARSETS):  # Python has codecs that are no encodings of text
            raise LookupError(f"unknown encoding: {name}")
        return "utf-8" if name.startswith(("utf-16", "utf-32")) else _WIDER.get(name, name)
    if len(data) >= 2 and not len(data) % 2 and (data[0] == 0) != (data[1] == 0):
        return "utf-16-be" if data[0] == 0 else "utf-16-le"
    return "utf-8"
