"""The choices and defaults of this app's flags; without slow imports, see `cli.run_command`."""

from typing import Literal

Assigner = Literal["closest", "aligned"]
Augment = Literal["none", "mirror", "full"]
Head = Literal["ssd", "pyramid"]
SaveAs = Literal["coco", "yolo", "voc"]
ScoreFunction = Literal["sigmoid", "softmax"]
VAL_FRACTION = 0.2
