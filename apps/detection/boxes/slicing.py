"""Sliced inference for small objects in large photos: tiles in addition to the whole photo (SAHI, arXiv 2202.06934).

Letters in shapes: H W height and width of a photo, T tiles, D detections.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from apps.detection.boxes.boxes import box_area, box_intersection
from apps.detection.boxes.nms import batched_nms
from apps.detection.boxes.postprocess import Detections

Tile = tuple[int, int, int, int]
EDGE_PX = 2.0  # a box this close to a tile's inner edge is cut off by it
LARGEST = 0.5  # side of a box that a tile alone may report, in sides of the tile
SEEN = 0.2  # longer boxes, relative to the photo's longer side, are taken from the whole photo
MERGE_IOU = 0.5
MOST_PARTS = 1000


def check_slices(side: int | None, overlap: float) -> None:
    """Raise ValueError for a side below 32 pixels, or an overlap outside 0 to 0.9."""
    if side is not None and side < 32:
        raise ValueError(f"slices must be 32 pixels a side or more, got {side}")
    if not 0 <= overlap <= 0.9:
        raise ValueError(f"the overlap of slices must be a share of their side from 0 to 0.9, got {overlap}")


def make_tiles(height: int, width: int, *, side: int, overlap: float) -> list[Tile]:
    """Squares (x0, y0, x1, y1) in pixels that cover a photo, row by row; none if it is not larger than one.

    The last tile of a row or column is shifted back into the photo. If the height or width of the photo is below
    `side`, tiles have that height or width.

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
    """Merge the detections in the whole photo and in its tiles.

    Class-wise non-maximum suppression with `iou` alone would keep the parts of objects that tiles cut through.
    Therefore a box that ends at its tile's edge inside the photo is only used together with the parts in neighbouring
    tiles. These, and boxes longer than half a tile, are replaced by the whole photo's detections where the object is
    large enough to be detected there: at least a fifth of the photo's longer side, or where it has a box of the class.

    Args:
        whole: detections in the whole photo, boxes in its sides.
        tiles, found: the tiles, and the detections in each, boxes in the sides of the tile.
        height, width: of the photo, pixels.

    Returns:
        At most `max_detections`, boxes in sides of the photo.
    """
    photo = whole.boxes_xyxy.new_tensor([width, height, width, height])
    whole = whole._replace(boxes_xyxy=whole.boxes_xyxy * photo)
    tiles_px = photo.new_tensor(tiles).reshape(-1, 4)
    sides = tiles_px[:, 2:] - tiles_px[:, :2]
    of_tile = torch.cat([some.labels.new_full((len(some.labels),), i) for i, some in enumerate(found)])
    every = Detections(*map(torch.cat, zip(*found, strict=True)))
    in_tile_px = every.boxes_xyxy * sides.repeat(1, 2)[of_tile]
    every = every._replace(boxes_xyxy=in_tile_px + tiles_px[:, :2].repeat(1, 2)[of_tile])
    cut = _is_cut(every.boxes_xyxy, tiles_px[of_tile], height=height, width=width)
    long = _longest(every.boxes_xyxy) > LARGEST * sides.max()

    joined = _join(_some(every, cut), tiles_px[of_tile[cut]])
    unsure = _all_of(_some(every, long & ~cut), joined)
    unsure = _some(unsure, batched_nms(*unsure, iou))
    seen = _longest(unsure.boxes_xyxy) > SEEN * max(height, width)
    covered = _covered(unsure, whole)
    result = _all_of(whole, _some(every, ~cut & ~long), _some(unsure, ~seen & ~covered))
    result = _some(result, batched_nms(*result, iou)[:max_detections])
    return result._replace(boxes_xyxy=result.boxes_xyxy / photo)


def _some(detections: Detections, which: Tensor) -> Detections:
    return Detections(*(part[which] for part in detections))


def _all_of(*several: Detections) -> Detections:
    return Detections(*map(torch.cat, zip(*several, strict=True)))


def _longest(boxes_xyxy: Tensor) -> Tensor:
    """(D, 4) to the longer sides (D,)."""
    return (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).amax(1)


def _join(parts: Detections, tiles_px: Tensor) -> Detections:
    """Objects with parts in several tiles, with the best part's score; single parts are dropped.

    Parts in two tiles belong to one object if, clipped to both tiles, their IoU is above `MERGE_IOU`.

    Args:
        parts: boxes in pixels of the photo; only the best `MOST_PARTS` are used.
        tiles_px: (D, 4), the tile of each.
    """
    best = parts.scores.argsort(descending=True)[:MOST_PARTS]
    parts, tiles_px = _some(parts, best), tiles_px[best]
    common = _intersect(tiles_px[:, None], tiles_px[None])
    mine, others = _intersect(parts.boxes_xyxy[:, None], common), _intersect(parts.boxes_xyxy[None], common)
    both = box_area(_intersect(mine, others))
    alike = both > MERGE_IOU * (box_area(mine) + box_area(others) - both)
    alike &= parts.labels[:, None] == parts.labels[None]
    alike &= (tiles_px[:, None] != tiles_px[None]).any(-1)
    free = torch.ones_like(parts.labels, dtype=torch.bool)
    boxes, firsts = [], []
    for i in range(len(best)):
        if not free[i]:
            continue
        group = torch.zeros_like(free)
        group[i] = True
        while not torch.equal(group, grown := group | (alike[group].any(0) & free)):
            group = grown
        free &= ~group
        if group.sum() > 1:
            ends = parts.boxes_xyxy[group]
            boxes.append(torch.cat((ends[:, :2].amin(0), ends[:, 2:].amax(0))))
            firsts.append(i)
    joined = _some(parts, torch.tensor(firsts, dtype=torch.int64, device=best.device))
    return joined._replace(boxes_xyxy=torch.stack(boxes)) if boxes else joined


def _intersect(one: Tensor, other: Tensor) -> Tensor:
    """The intersection of boxes (..., 4); where it is empty, its ends are before its starts."""
    return torch.cat((torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:])), -1)


def _covered(detections: Detections, others: Detections) -> Tensor:
    """(D,) bool: whether more than half of a box is inside another one of its class."""
    common = box_intersection(detections.boxes_xyxy, others.boxes_xyxy)
    same = detections.labels[:, None] == others.labels[None]
    return (same & (common > 0.5 * box_area(detections.boxes_xyxy)[:, None])).any(1)


def _is_cut(boxes_xyxy_px: Tensor, tiles_px: Tensor, *, height: int, width: int) -> Tensor:
    """(D,) bool: whether boxes (D, 4) reach an edge of their tiles (D, 4) that is not an edge of the photo."""
    starts = (tiles_px[:, :2] > 0) & (boxes_xyxy_px[:, :2] < tiles_px[:, :2] + EDGE_PX)
    inside = tiles_px[:, 2:] < tiles_px.new_tensor([width, height])
    ends = inside & (boxes_xyxy_px[:, 2:] > tiles_px[:, 2:] - EDGE_PX)
    return (starts | ends).any(1)


def _starts(length: int, side: int, step: int) -> list[int]:
    """The start of each tile along a photo's side."""
    last = max(0, length - side)
    return [*range(0, last, max(1, step)), last]
