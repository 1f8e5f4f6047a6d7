"""Assignment, against plain loops over images, boxes and anchors."""

import torch
from torchvision.ops import box_iou

from apps.detection.boxes.boxes import cxcywh_to_xyxy
from apps.detection.data.batches import Targets
from apps.detection.loss.assignment import assign_aligned, assign_closest
from apps.detection.model.create import create_detector
from tests.detection.loss.test_matching import make_targets, random_image

ANCHORS = create_detector("a025", num_classes=1, resolution=96, head="pyramid").anchors_cxcywh
LEVELS = (144, 36, 9, 4)
NUM_CLASSES = 3


def random_prediction(batch: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (B, A, K), and boxes (B, A, 4) somewhere around the anchors."""
    rng = torch.Generator().manual_seed(seed)
    scores = torch.rand(batch, len(ANCHORS), NUM_CLASSES, generator=rng)
    moved = ANCHORS + 0.1 * ANCHORS[:, 2:].repeat(1, 2) * torch.randn(batch, len(ANCHORS), 4, generator=rng)
    return scores, cxcywh_to_xyxy(torch.cat((moved[..., :2], moved[..., 2:].abs()), dim=-1))


def test_levels_are_those_of_the_network():
    assert sum(LEVELS) == len(ANCHORS)
    assert [round(w, 4) for w in ANCHORS[[0, 144, 180, 189], 2].tolist()] == [0.3333, 0.6667, 1.0, 1.0]


def take(found, image: int, candidates: dict[int, list[int]], iou: torch.Tensor) -> None:
    """An assignment is that of the boxes' candidates, each anchor with the box it overlaps most."""
    for a in range(len(ANCHORS)):
        mine = [n for n, anchors in candidates.items() if a in anchors]
        assert (found.labels[image, a] > 0) == bool(mine)
        if mine:
            best = max(mine, key=lambda n: iou[n, a].item())
            assert torch.equal(found.boxes_xyxy[image, a], TARGETS.boxes_xyxy[image, best])
            assert found.labels[image, a] == TARGETS.labels[image, best]


RNG = torch.Generator().manual_seed(3)
TARGETS = make_targets(random_image(RNG, 4), [], random_image(RNG, 9), random_image(RNG, 1))


def test_closest_is_what_the_paper_says():
    scores, boxes = random_prediction(4)
    found = assign_closest(scores, boxes, ANCHORS, TARGETS, level_sizes=LEVELS)
    for i in range(4):
        real = TARGETS.labels[i] > 0
        iou = box_iou(TARGETS.boxes_xyxy[i], cxcywh_to_xyxy(ANCHORS))
        candidates = {}
        for n in real.nonzero().flatten().tolist():
            x0, y0, x1, y1 = TARGETS.boxes_xyxy[i, n].tolist()
            near, start = [], 0
            for size in LEVELS:
                away = (ANCHORS[start : start + size, :2] - torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2])).norm(dim=1)
                near += (away.argsort()[:9] + start).tolist()
                start += size
            threshold = iou[n, near].mean() + iou[n, near].std()
            reach_x, reach_y = max(x1 - x0, 1 / 12) / 2, max(y1 - y0, 1 / 12) / 2
            inside = [
                abs(ANCHORS[a, 0] - (x0 + x1) / 2) <= reach_x and abs(ANCHORS[a, 1] - (y0 + y1) / 2) <= reach_y
                for a in near
            ]
            candidates[n] = [a for a, held in zip(near, inside, strict=True) if held and iou[n, a] >= threshold]
            candidates[n].append(int(iou[n].argmax()))
        take(found, i, candidates, iou)
        own = torch.stack([box_iou(b[None], p[None])[0, 0] for b, p in zip(found.boxes_xyxy[i], boxes[i], strict=True)])
        torch.testing.assert_close(found.quality[i], own * (found.labels[i] > 0))
    assert found.labels[1].sum() == 0


def test_aligned_is_what_the_paper_says():
    scores, boxes = random_prediction(4, seed=1)
    found = assign_aligned(scores, boxes, ANCHORS, TARGETS)
    for i in range(4):
        iou = box_iou(TARGETS.boxes_xyxy[i], boxes[i])
        candidates = {}
        alignment = torch.zeros_like(iou)
        for n in (TARGETS.labels[i] > 0).nonzero().flatten().tolist():
            x0, y0, x1, y1 = TARGETS.boxes_xyxy[i, n].tolist()
            reach_x, reach_y = max(x1 - x0, 1 / 12) / 2, max(y1 - y0, 1 / 12) / 2
            inside = ((ANCHORS[:, 0] - (x0 + x1) / 2).abs() <= reach_x) & (
                (ANCHORS[:, 1] - (y0 + y1) / 2).abs() <= reach_y
            )
            alignment[n] = scores[i, :, TARGETS.labels[i, n] - 1] * iou[n] ** 6
            order = alignment[n].masked_fill(~inside, -1).argsort(descending=True)[:13].tolist()
            candidates[n] = [a for a in order if inside[a]]
        take(found, i, candidates, iou)
        for n, anchors in candidates.items():
            mine = [a for a in anchors if torch.equal(found.boxes_xyxy[i, a], TARGETS.boxes_xyxy[i, n])]
            if mine:
                wanted = alignment[n, mine] / alignment[n, mine].max() * iou[n, mine].max()
                torch.testing.assert_close(found.quality[i, mine], wanted, atol=1e-3, rtol=1e-3)
    assert found.quality[1].sum() == 0


def test_each_box_has_an_anchor_even_if_it_is_tiny_or_nothing_is_predicted():
    tiny = ([0.5001, 0.5001, 0.5002, 0.5002], 2)
    targets = make_targets([([0.1, 0.1, 0.9, 0.4], 1), tiny])
    nothing = torch.zeros(1, len(ANCHORS), NUM_CLASSES), torch.zeros(1, len(ANCHORS), 4)
    for found in (
        assign_closest(*nothing, ANCHORS, targets, level_sizes=LEVELS),
        assign_aligned(*nothing, ANCHORS, targets),
    ):
        assert set(found.labels.flatten().tolist()) == {0, 1, 2}
        assert found.quality.isfinite().all()
        assert found.quality.max() == 0


def test_tiny_boxes_on_the_corners_of_cells_have_an_anchor():
    """Their centres are as far from four cells' as these reach, but for rounding."""
    side = 38  # of the finest level at 304 pixels
    centres = (torch.arange(side) + 0.5) / side
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    anchors = torch.stack((x, y, *[torch.full_like(x, 4 / side)] * 2), -1).reshape(-1, 4)
    half = 2 / 304  # boxes of 4 pixels
    corners = [(i / side, j / side) for i in range(1, side, 3) for j in range(1, side, 3)]
    targets = make_targets([([cx - half, cy - half, cx + half, cy + half], 1) for cx, cy in corners])
    nothing = torch.zeros(1, len(anchors), NUM_CLASSES), torch.zeros(1, len(anchors), 4)
    found = assign_aligned(*nothing, anchors, targets)
    assert len(found.boxes_xyxy[0][found.labels[0] > 0].unique(dim=0)) == len(corners)


def test_crowds_and_boxes_without_area_are_no_objects():
    targets = make_targets([([0.0, 0.0, 0.9, 0.9], 1, True), ([0.5, 0.5, 0.5, 0.7], 2)])
    prediction = random_prediction(1)
    for found in (
        assign_closest(*prediction, ANCHORS, targets, level_sizes=LEVELS),
        assign_aligned(*prediction, ANCHORS, targets),
    ):
        assert found.labels.sum() == 0
        well_inside = ((ANCHORS[:144, :2] > 0.17) & (ANCHORS[:144, :2] < 0.7)).all(dim=1)
        assert found.ignored[0, :144][well_inside].all()
        assert not found.ignored.all()


def test_padding_changes_nothing():
    scores, boxes = random_prediction(1)
    image = random_image(torch.Generator().manual_seed(5), 3)
    padded = make_targets(image, random_image(torch.Generator().manual_seed(6), 8))
    alone, beside = make_targets(image), Targets(*(tensor[:1] for tensor in padded))
    for one, other in (
        (assign_aligned(scores, boxes, ANCHORS, alone), assign_aligned(scores, boxes, ANCHORS, beside)),
        (
            assign_closest(scores, boxes, ANCHORS, alone, level_sizes=LEVELS),
            assign_closest(scores, boxes, ANCHORS, beside, level_sizes=LEVELS),
        ),
    ):
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.quality, other.quality)
