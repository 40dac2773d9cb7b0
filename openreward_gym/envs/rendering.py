"""An episode for people: as text, printed as it goes, or as a picture."""

from __future__ import annotations

import io
import sys
import textwrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openreward_gym.envs.episode import Episode
from openreward_gym.envs.observations import blocks_text
from openreward_gym.errors import MissingExtraError
from openreward_gym.types import Block, ImageBlock, Message, ToolResult

WIDTH, HEIGHT = 960, 720
"""Pixels of every picture: RecordVideo needs one size for all frames."""


def transcript(messages: tuple[Message, ...]) -> str:
    """The messages as text, each under its role."""
    return "\n\n".join(f"[{message.role}]\n{blocks_text(message.blocks)}" for message in messages)


class Painter:
    """Renders one env's episodes; remembers what it has printed."""

    def __init__(self) -> None:
        self._printed: tuple[str, int] = ("", 0)

    def render(self, mode: str, episode: Episode | None) -> Any:
        """What `gymnasium.Env.render` returns in `mode`: str, uint8 array (HEIGHT, WIDTH, 3), or None for "human"."""
        if mode == "human":
            if episode is not None:
                self.print_new(episode)
            return None
        messages = () if episode is None else episode.messages
        return transcript(messages) if mode == "ansi" else picture(messages)

    def print_new(self, episode: Episode) -> None:
        """Print the messages that were not printed before."""
        name, printed = self._printed
        if name != episode.started_at:
            printed = 0
        messages = episode.messages
        if printed < len(messages):
            sys.stdout.write(transcript(messages[printed:]) + "\n\n")
            sys.stdout.flush()
        self._printed = (episode.started_at, len(messages))


def picture(messages: tuple[Message, ...]) -> NDArray[np.uint8]:
    """The latest image, letterboxed; the end of the transcript drawn where there is none."""
    latest = _latest_image(messages)
    return _letterbox(latest) if latest is not None else _draw(transcript(messages))


def _latest_image(messages: tuple[Message, ...]) -> bytes | None:
    for message in reversed(messages):
        for block in reversed(message.blocks):
            inner: tuple[Block, ...] = block.blocks if isinstance(block, ToolResult) else (block,)
            for candidate in reversed(inner):
                if isinstance(candidate, ImageBlock) and candidate.content:
                    return candidate.content
    return None


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError('render_mode="rgb_array" needs Pillow: pip install "openreward-gym[render]"') from None
    return Image


def _letterbox(content: bytes) -> NDArray[np.uint8]:
    image_module = _pillow()
    try:
        image = image_module.open(io.BytesIO(content)).convert("RGB")
    except (OSError, ValueError, image_module.DecompressionBombError) as error:
        return _draw(f"[image cannot be shown: {error}]")
    image.thumbnail((WIDTH, HEIGHT))
    canvas = image_module.new("RGB", (WIDTH, HEIGHT), "black")
    canvas.paste(image, ((WIDTH - image.width) // 2, (HEIGHT - image.height) // 2))
    return np.asarray(canvas, dtype=np.uint8)


def _draw(text: str) -> NDArray[np.uint8]:
    from PIL import ImageDraw, ImageFont

    image_module = _pillow()
    size, margin = 14, 12
    font = ImageFont.load_default(size)
    columns = int((WIDTH - 2 * margin) / font.getlength("n"))
    rows = (HEIGHT - 2 * margin) // (size + 4)
    lines: list[str] = []
    for line in text[-columns * rows * 4 :].split("\n"):
        lines.extend(textwrap.wrap(line, columns, drop_whitespace=False) or [""])
    canvas = image_module.new("RGB", (WIDTH, HEIGHT), "#111418")
    drawing = ImageDraw.Draw(canvas)
    for row, line in enumerate(lines[-rows:]):
        colour = "#7fb4ff" if line.startswith("[") else "#e6e6e6"
        printable = line.encode("utf-8", "replace").decode("utf-8")
        drawing.text((margin, margin + row * (size + 4)), printable, fill=colour, font=font)
    return np.asarray(canvas, dtype=np.uint8)
