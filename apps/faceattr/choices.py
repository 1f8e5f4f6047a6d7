"""The choices and defaults of this app's flags; without slow imports, see `cli.run_command`."""

from typing import Literal

Augment = Literal["none", "light", "full"]
Conv = Literal["separable", "full"]
TeacherOutputs = Literal["fly", "cached"]
VAL_FRACTION = TEST_FRACTION = 0.1
