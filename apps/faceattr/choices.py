"""What flags of this app choose from or begin with; it imports nothing that takes time, see `cli.run_command`."""

from typing import Literal

Augment = Literal["none", "light", "full"]
Conv = Literal["separable", "full"]
TeacherOutputs = Literal["fly", "cached"]
VAL_FRACTION = TEST_FRACTION = 0.1
