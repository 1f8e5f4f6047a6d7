"""Web pages of the apps. Gradio's telemetry is switched off before its first import."""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
