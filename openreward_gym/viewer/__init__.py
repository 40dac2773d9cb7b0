"""The rollout viewer: runs as a web page, from Python, in a notebook, or as one HTML file.

    from openreward_gym import viewer

    with viewer.serve("runs/") as url:
        ...

It needs the extra `viewer`: pip install 'openreward-gym[viewer]'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openreward_gym.errors import MissingExtraError

if TYPE_CHECKING:
    from openreward_gym.viewer.server import ViewerServer, serve, show, write_html

__all__ = ["ViewerServer", "serve", "show", "write_html"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from openreward_gym.viewer import server
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"the viewer needs {error.name}: pip install 'openreward-gym[viewer]'") from None
    return getattr(server, name)
