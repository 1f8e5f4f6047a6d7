"""Predictions for a stream of frames: batches are computed by other threads while the caller works on earlier ones.

Letters in shapes: H W height and width.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np

from apps.common.media.frames import Frame, Tally

T = TypeVar("T")


def answered(
    frames: Iterable[Frame],
    find: Callable[[list[np.ndarray]], Sequence[T]],
    *,
    batch_size: int,
    tally: Tally,
    at_once: int = 1,
) -> Iterator[tuple[Frame, T | None]]:
    """Yield each frame with its result, in order; None for frames without an image, which are counted.

    Args:
        find: predicts for images (H, W, 3) of any sizes; one result each.
        batch_size: frames per call of `find`.
        at_once: batches that other threads compute ahead, while the caller works on an earlier one; with 1 each is
            computed when the caller asks for it, and no frame waits for a later one.
    """
    waiting = iter(frames)
    groups = iter(lambda: list(islice(waiting, batch_size)), [])

    def computed() -> Iterator[tuple[list[Frame], Sequence[T]]]:
        ahead: deque[tuple[list[Frame], Future[Sequence[T]]]] = deque()
        end: BaseException | None = None  # of reading; what was read before comes first
        with ThreadPoolExecutor(at_once) as pool:
            while end is None or ahead:
                while end is None and len(ahead) <= at_once:
                    try:
                        group = next(groups)
                        ahead.append((group, pool.submit(find, _images(group))))
                    except BaseException as error:
                        end = error
                if ahead:
                    group, answers = ahead.popleft()
                    yield group, answers.result()
        if not isinstance(end, StopIteration):
            raise end

    in_turn = ((group, find(_images(group))) for group in groups)
    for group, found in computed() if at_once > 1 else in_turn:
        answers = iter(found)
        for frame in group:
            tally.note(frame)
            yield frame, None if frame.image is None else next(answers)


def _images(group: Iterable[Frame]) -> list[np.ndarray]:
    return [frame.image for frame in group if frame.image is not None]
