"""The bytes that one weight file may become in memory, so that a small file cannot unfold to gigabytes.

Readers count what a file declares before they hold it, and read no more than was counted.
"""

MAX_BYTES = (
    1 << 30
)  # of a file, of what an archive unpacks to, and of its tensors: the largest published one has 0.1 GB


class TooLargeError(ValueError):
    """A file that becomes too much in memory."""


class Budget:
    """Counts bytes; `take` raises once there are too many."""

    def __init__(self, limit: int = MAX_BYTES) -> None:
        self.limit = self.left = limit

    def take(self, num_bytes: int, what: str) -> None:
        """Count `num_bytes` of `what`, before they are held.

        Raises:
            TooLargeError: with them the file would be too large; the message says what and how large.
        """
        self.left -= max(num_bytes, 0)
        if self.left < 0:
            total = (self.limit - self.left) / 1e6
            raise TooLargeError(
                f"too large: with {what} it has {total:,.0f} MB in memory, {self.limit / 1e6:,.0f} MB are allowed"
            )


def one_line(text: str) -> str:
    """A message as one printable line of at most 400 letters; names in a file may hold anything."""
    line = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return line if len(line) <= 400 else f"{line[:300]} ... {line[-80:]}"
