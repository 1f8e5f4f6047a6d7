"""What flags of this app choose from or begin with; it imports nothing that takes time, see `cli.run_command`."""

from typing import Literal

Augment = Literal["none", "mirror", "light", "full"]
Balance = Literal["none", "sample", "loss"]
FreezeBn = Literal["none", "stats", "all"]
VAL_FRACTION = 0.2
