"""What flags of this app choose from or begin with; it imports nothing that takes time, see `cli.run_command`."""

from typing import Literal

Assigner = Literal["closest", "aligned"]
Augment = Literal["none", "mirror", "full"]
Head = Literal["ssd", "pyramid"]
SaveAs = Literal["coco", "yolo", "voc"]
ScoreFunction = Literal["sigmoid", "softmax"]
VAL_FRACTION = 0.2
