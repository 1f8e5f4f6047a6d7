"""Small objects in large photos: the photo in tiles as well as whole, as SAHI does (arXiv 2202.06934).

Letters in shapes: H W height and width of a photo, T tiles, D detections.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from apps.detection.nms import batched_nms
from apps.detection.postprocess import Detections

Tile = tuple[int, int, int, int]
EDGE_PX = 2.0  # a box that comes so near to a tile's inner edge is cut off by it
LARGEST = 0.5  # side of a box that a tile may report, in sides of the tile
MERGE_IOU = 0.5


def check_slices(side: int | None, overlap: float) -> None:
    """Raise ValueError for a side below 32 pixels, or an overlap outside 0 to 0.9."""
    if side is not None and side < 32:
        raise ValueError(f"slices must be 32 pixels a side or more, got {side}")
    if not 0 <= overlap <= 0.9:
        raise ValueError(f"the overlap of slices must be a share of their side from 0 to 0.9, got {overlap}")


def make_tiles(height: int, width: int, *, side: int, overlap: float) -> list[Tile]:
    """Squares (x0, y0, x1, y1) in pixels that cover a photo, row by row; none if it is no larger than one.

    The last tile of a row or column is moved back into the photo. Photos lower or narrower than `side` have tiles
    as high or wide as themselves.

    Args:
        side: of a tile, pixels.
        overlap: of neighbours, as a share of the side.

    Raises:
        ValueError: see `check_slices`.
    """
    check_slices(side, overlap)
    if height <= side and width <= side:
        return []
    rows, columns = (_starts(length, side, round(side * (1 - overlap))) for length in (height, width))
    return [(x, y, min(x + side, width), min(y + side, height)) for y in rows for x in columns]


def merge(
    whole: Detections,
    tiles: Sequence[Tile],
    found: Sequence[Detections],
    *,
    height: int,
    width: int,
    max_detections: int,
    iou: float = MERGE_IOU,
) -> Detections:
    """One list of the detections in the whole photo and in its tiles.

    Of boxes of one class that overlap by more than `iou`, the best stays (class-wise non-maximum suppression). That
    alone would keep the parts of objects that tiles cut through, so that two kinds of boxes of a tile are left out
    before: those that end at its edge inside the photo (if the object is smaller than the overlap, a neighbour has it
    whole; if it is larger, the whole photo has it), and those longer than half of it, which the whole photo has.

    Args:
        whole: of the whole photo, boxes in its sides.
        tiles, found: the tiles, and what is in each, boxes in the sides of the tile.
        height, width: of the photo, pixels.

    Returns:
        At most `max_detections`, boxes in sides of the photo.
    """
    boxes, scores, labels = [whole.boxes_xyxy], [whole.scores], [whole.labels]
    photo = whole.boxes_xyxy.new_tensor([width, height, width, height])
    for (x0, y0, x1, y1), some in zip(tiles, found, strict=True):
        size = photo.new_tensor([x1 - x0, y1 - y0, x1 - x0, y1 - y0])
        in_tile_px = some.boxes_xyxy * size
        longest = (some.boxes_xyxy[:, 2:] - some.boxes_xyxy[:, :2]).amax(1)
        stays = (longest <= LARGEST) & ~_is_cut(in_tile_px, (x0, y0, x1, y1), height=height, width=width)
        boxes.append((in_tile_px[stays] + photo.new_tensor([x0, y0, x0, y0])) / photo)
        scores.append(some.scores[stays])
        labels.append(some.labels[stays])
    every = Detections(torch.cat(boxes), torch.cat(scores), torch.cat(labels))
    keep = batched_nms(every.boxes_xyxy * photo, every.scores, every.labels, iou)[:max_detections]
    return Detections(*(part[keep] for part in every))


def _is_cut(boxes_xyxy_px: Tensor, tile: Tile, *, height: int, width: int) -> Tensor:
    """(D,) bool: whether boxes (D, 4), in pixels of a tile, reach an edge of it that is none of the photo's."""
    x0, y0, x1, y1 = tile
    left, top, right, bottom = boxes_xyxy_px.unbind(1)
    cut = torch.zeros_like(left, dtype=torch.bool)
    if x0 > 0:
        cut |= left < EDGE_PX
    if y0 > 0:
        cut |= top < EDGE_PX
    if x1 < width:
        cut |= right > x1 - x0 - EDGE_PX
    if y1 < height:
        cut |= bottom > y1 - y0 - EDGE_PX
    return cut


def _starts(length: int, side: int, step: int) -> list[int]:
    """Where tiles begin along a photo's side of some length."""
    last = max(0, length - side)
    return [*range(0, last, max(1, step)), last]
