"""The choices and defaults of this app's flags; without slow imports, see `cli.run_command`."""

from typing import Literal

Augment = Literal["none", "mirror", "light", "full"]
Balance = Literal["none", "sample", "loss"]
FreezeBn = Literal["none", "stats", "all"]
VAL_FRACTION = 0.2
