"""Pages that show the apps at work. What Gradio would send to others is off before it is first imported."""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
