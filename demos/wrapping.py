"""What stands between Gradio and the handlers of a page: their parameters, and which errors visitors see."""

import functools
import html
import inspect
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import gradio as gr

from demos.task import NotUsable, Settings


def one_by_one(handler: Callable, option: tuple[str, str, str] | None) -> Callable:
    """A handler that takes what `Settings` holds one by one where it took `settings`: so Gradio gives and names it.

    Args:
        option: the app's; its parameter bears its name in the public API, and is left out if there is none.
    """
    signature = inspect.signature(handler)
    parameters = list(signature.parameters.values())
    at = list(signature.parameters).index("settings")
    *loose, last = inspect.signature(Settings).parameters.values()
    loose += [last.replace(name=option[0])] if option else []
    end = at + len(loose)

    @functools.wraps(handler)
    def run(*args: Any) -> Any:
        return handler(*args[:at], Settings(*args[at:end]), *args[end:])

    run.__signature__ = signature.replace(parameters=[*parameters[:at], *loose, *parameters[at + 1 :]])  # type: ignore[attr-defined]
    return run


def guarded(handler: Callable) -> Callable:
    """A handler that shows users' mistakes on the page, and bugs on the console alone."""

    @functools.wraps(handler)
    def run(*args: Any) -> Any:
        try:
            return handler(*args)
        except gr.Error:
            raise
        except ValueError as error:
            words = html.escape(for_visitors(error), quote=False)  # the page shows it as HTML
            raise gr.Error(words, title="This did not work", duration=60, print_exception=False) from None
        except Exception:
            traceback.print_exc()
            raise gr.Error("Something failed here; the server's console says what.", print_exception=False) from None

    return run


def for_visitors(error: ValueError) -> str:
    """The message about a mistake for visitors; details go to the console, once."""
    if not isinstance(error, NotUsable):
        return str(error)
    warnings.warn(str(error), stacklevel=2)
    return "This model cannot be loaded or downloaded now: the server's console says why. Choose another."
