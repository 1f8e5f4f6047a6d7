"""What flags of this app choose from or begin with; it imports nothing that takes time, see `cli.run_command`."""

from typing import Literal

Augment = Literal["none", "mirror", "full"]
Head = Literal["ssd", "pyramid"]
ScoreFunction = Literal["sigmoid", "softmax"]
VAL_FRACTION = 0.2
