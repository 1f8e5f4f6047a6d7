"""Assignment, against plain loops over images, boxes and anchors."""

import torch
from torchvision.ops import box_iou

from apps.detection.boxes.boxes import cxcywh_to_xyxy
from apps.detection.data.batches import Targets
from apps.detection.loss.assignment import assign_aligned, assign_closest
from apps.detection.model.create import create_detector
from apps.detection.model.pyramid import NUM_DISTANCES, PyramidDetector, decode_sides
from tests.detection.loss.test_matching import make_targets, random_image

NETWORK = create_detector("a025", num_classes=1, resolution=96, head="pyramid")
assert isinstance(NETWORK, PyramidDetector)
ANCHORS, CELLS = NETWORK.anchors_cxcywh, NETWORK.cells
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


def decoded_iou(box: torch.Tensor, network: PyramidDetector = NETWORK) -> torch.Tensor:
    """(A,) IoU of a box (4,) with what each anchor predicts when its sides are told as well as they can be."""
    centres = network.anchors_cxcywh[:, :2]
    sides = torch.cat((centres - box[:2], box[2:] - centres), dim=1) / network.cells[:, None]
    sides = sides.clamp(0, NUM_DISTANCES - 1)[..., None]
    shares = (1 - (sides - torch.arange(NUM_DISTANCES)).abs()).clamp(min=0)  # of the two nearest distances
    logits = (shares + 1e-12).log()[None]
    predicted = decode_sides(logits, network.anchors_cxcywh[:, :2], network.cells[:, None])[0]
    return box_iou(box[None], predicted)[0]


def decodable(box: torch.Tensor) -> torch.Tensor:
    """(A,) bool: an IoU of 0.9 is possible, or where it nowhere is, 0.9 of the best that is.

    Of the box, its sides at least those of the finest cells.
    """
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]).clamp(min=1 / 12) / 2
    iou = decoded_iou(torch.cat((centre - half, centre + half)))
    return iou >= 0.9 * (1.0 if iou.max() >= 0.9 else iou.max())


def algorithm_1(box: torch.Tensor) -> set[int]:
    """The positive samples of one box in the ATSS paper, arXiv 1912.02424, without anything else."""
    centre = (box[:2] + box[2:]) / 2
    candidates, start = [], 0
    for size in LEVELS:
        distances = (ANCHORS[start : start + size, :2] - centre).square().sum(dim=1)
        candidates += (distances.argsort()[:9] + start).tolist()
        start += size
    iou = box_iou(box[None], cxcywh_to_xyxy(ANCHORS[candidates]))[0]
    threshold = iou.mean() + iou.std()
    return {
        a
        for a, overlap in zip(candidates, iou, strict=True)
        if overlap >= threshold and (box[:2] <= ANCHORS[a, :2]).all() and (ANCHORS[a, :2] <= box[2:]).all()
    }


def positives(box: list[float]) -> set[int]:
    """The anchors that are assigned to a box that is alone."""
    found = assign_closest(ANCHORS, make_targets([(box, 1)]), cells=CELLS, level_sizes=LEVELS)
    return set(found.labels[0].nonzero().flatten().tolist())


def test_a_box_that_has_anchors_by_the_paper_gets_no_other():
    rng = torch.Generator().manual_seed(1)
    compared = 0
    for _ in range(300):
        centre, size = torch.rand(2, generator=rng), torch.exp(torch.rand(2, generator=rng) * 1.5 - 2.2)
        box = torch.cat(((centre - size / 2).clamp(min=0), (centre + size / 2).clamp(max=1)))
        wanted = algorithm_1(box)
        if wanted and (size > 1 / 12).all() and decoded_iou(box)[sorted(wanted)].min() >= 0.9:
            assert positives(box.tolist()) == wanted
            compared += 1
    assert compared > 150


def test_of_equally_good_anchors_a_box_gets_the_closest():
    """A box inside many anchors overlaps all of them alike; the one in whose cell it is shall have it."""
    for x, y in ((0.4, 0.6), (0.71, 0.29), (0.04, 0.96)):
        box = [x - 0.004, y - 0.004, x + 0.004, y + 0.004]
        (anchor,) = positives(box)
        distances = (ANCHORS[:144, :2] - torch.tensor([x, y])).norm(dim=1)
        assert anchor == int(distances.argmin())


def test_long_thin_boxes_get_anchors_that_can_tell_their_sides():
    """Of 12 times their width: from anchors of fitting area, seven cells do not reach both of their ends."""
    network = create_detector("a025", num_classes=1, resolution=300, head="pyramid")
    assert isinstance(network, PyramidDetector)
    anchors = network.anchors_cxcywh
    shape = torch.zeros(1, len(anchors), 1), torch.zeros(1, len(anchors), 4)
    reachable = 0
    for x in torch.linspace(0.2, 0.8, 25).tolist():
        for box in ([x, 0.05, x + 0.06, 0.77], [0.05, x, 0.95, x + 0.075]):
            best = decoded_iou(torch.tensor(box), network)
            targets = make_targets([(box, 1)])
            for found in (
                assign_closest(anchors, targets, cells=network.cells, level_sizes=network.level_sizes),
                assign_aligned(*shape, anchors, targets, cells=network.cells),
            ):
                mine = best[found.labels[0] > 0]
                assert (
                    len(mine) and mine.min() >= 0.9 * min(1.0, 1.0 if best.max() >= 0.9 else best.max().item()) - 1e-5
                )
            reachable += bool(best.max() >= 0.9)
    assert reachable == 50


def test_closest_is_what_the_paper_says():
    found = assign_closest(ANCHORS, TARGETS, cells=CELLS, level_sizes=LEVELS)
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
            possible = decodable(TARGETS.boxes_xyxy[i, n])
            chosen = [a for a, held in zip(near, inside, strict=True) if held and iou[n, a] >= threshold]
            candidates[n] = [a for a in chosen if possible[a]]
            if not candidates[n]:
                centre = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2])
                best = max(iou[n, a].item() for a in possible.nonzero().flatten())
                equal = [a for a in possible.nonzero().flatten().tolist() if iou[n, a] > best - 1e-6]
                candidates[n] = [min(equal, key=lambda a: (ANCHORS[a, :2] - centre).norm().item())]
        take(found, i, candidates, iou)
    assert found.quality is None
    assert found.labels[1].sum() == 0


def test_aligned_is_what_the_paper_says():
    scores, boxes = random_prediction(4, seed=1)
    found = assign_aligned(scores, boxes, ANCHORS, TARGETS, cells=CELLS)
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
            if (possible := inside & decodable(TARGETS.boxes_xyxy[i, n])).any():
                inside = possible
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
        assign_closest(ANCHORS, targets, cells=CELLS, level_sizes=LEVELS),
        assign_aligned(*nothing, ANCHORS, targets, cells=CELLS),
    ):
        assert set(found.labels.flatten().tolist()) == {0, 1, 2}
        assert found.quality is None or (found.quality.isfinite().all() and found.quality.max() == 0)


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
    found = assign_aligned(*nothing, anchors, targets, cells=torch.full((side**2,), 1 / side))
    assert len(found.boxes_xyxy[0][found.labels[0] > 0].unique(dim=0)) == len(corners)


def test_crowds_and_boxes_without_area_are_no_objects():
    targets = make_targets([([0.0, 0.0, 0.9, 0.9], 1, True), ([0.5, 0.5, 0.5, 0.7], 2)])
    prediction = random_prediction(1)
    for found in (
        assign_closest(ANCHORS, targets, cells=CELLS, level_sizes=LEVELS),
        assign_aligned(*prediction, ANCHORS, targets, cells=CELLS),
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
        (
            assign_aligned(scores, boxes, ANCHORS, alone, cells=CELLS),
            assign_aligned(scores, boxes, ANCHORS, beside, cells=CELLS),
        ),
        (
            assign_closest(ANCHORS, alone, cells=CELLS, level_sizes=LEVELS),
            assign_closest(ANCHORS, beside, cells=CELLS, level_sizes=LEVELS),
        ),
    ):
        assert torch.equal(one.labels, other.labels)
        assert one.quality is other.quality is None or torch.equal(one.quality, other.quality)
