"""The tasks of `ctf`: the file tree, the hidden flag and the solution of each challenge.

Everything is derived from a task's id, so a task is always the same. Its spec, which the client sees, does not contain the flag.
"""

from __future__ import annotations

import base64
import codecs
import hashlib
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from openreward_gym.errors import ConfigurationError
from openreward_gym.types import Json

HOME = "/home/ctf"
SUBMISSIONS = 3
"""Maximum submissions per episode."""

FLAG = re.compile(r"flag\{[0-9a-f]{16}\}")

# Changing this seed changes every flag and every file tree.
_SEED = "openreward-gym/ctf/1"
_WORDS = re.findall(
    r"\w+",
    "amber basalt cedar delta ember fjord garnet harbor indigo juniper krypton lagoon meadow nickel opal prairie quartz "
    "raven saffron tundra umber violet willow xenon yonder zephyr",
)


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge: its instructions, its files by absolute path, its flag, and command lines; the last one prints the flag."""

    story: str
    files: Mapping[str, bytes]
    flag: str
    commands: tuple[str, ...]


def task_specs(split: str) -> list[dict[str, Json]]:
    """Return the tasks of `split`, easiest first: `{"id", "title", "level"}`. `level` counts from 1."""
    return [
        {"id": f"{split}-{kind}", "title": kind.replace("_", " "), "level": level}
        for level, kind in enumerate(_KINDS, 1)
        if split == "train" or kind in _TEST_KINDS
    ]


def build(task_id: str) -> Challenge:
    """Build the challenge of a task, or raise a ConfigurationError if the id is unknown."""
    ids = [spec["id"] for split in ("train", "test") for spec in task_specs(split)]
    if task_id not in ids:
        raise ConfigurationError(f"ctf has no task {task_id!r}; its tasks are {', '.join(ids)}")
    flag = f"flag{{{hashlib.sha256(f'{_SEED}/{task_id}'.encode()).hexdigest()[:16]}}}"
    story, files, commands = _KINDS[task_id.partition("-")[2]](random.Random(f"{_SEED}/{task_id}/files"), flag)
    scenery = {f"{HOME}/README": f"{story}\n", "/etc/hostname": "ctf\n", "/etc/motd": "Welcome. Everything here is read-only.\n"}
    contents = {path: text if isinstance(text, bytes) else text.encode() for path, text in {**scenery, **files}.items()}
    return Challenge(story, contents, flag, commands)


def solution(task_spec: Mapping[str, Json]) -> list[dict[str, Any]]:
    """Return the commands that find the flag, then its submission."""
    challenge = build(str(task_spec.get("id")))
    steps: list[dict[str, Any]] = [{"name": "bash", "arguments": {"command": command}} for command in challenge.commands]
    return [*steps, {"name": "submit_answer", "arguments": {"answer": challenge.flag}}]


_Files = dict[str, "str | bytes"]
_Built = tuple[str, _Files, tuple[str, ...]]


def _fake_flag(rng: random.Random) -> str:
    return f"flag{{{rng.randbytes(8).hex()}}}"


def _sentences(rng: random.Random, count: int) -> str:
    return "".join(f"{' '.join(rng.choices(_WORDS, k=6)).capitalize()}.\n" for _ in range(count))


def _plain(rng: random.Random, flag: str) -> _Built:
    folder = f"{HOME}/{rng.choice(_WORDS)}"
    files: _Files = {f"{folder}/notes.txt": _sentences(rng, 3), f"{folder}/flag.txt": f"{flag}\n"}
    return "The flag is in a file below your home directory.", files, ("ls -R", f"cat {folder}/flag.txt")


def _hidden(rng: random.Random, flag: str) -> _Built:
    folders = rng.sample(_WORDS, 4)
    files: _Files = {f"{HOME}/{name}/{rng.choice(_WORDS)}.txt": _sentences(rng, 2) for name in folders}
    secret = f"{HOME}/{rng.choice(folders)}/.{rng.choice(_WORDS)}"
    files[secret] = f"{flag}\n"
    return "The flag is below your home directory, where `ls` does not show it.", files, ("find ~ -name '.*'", f"cat {secret}")


def _needle(rng: random.Random, flag: str) -> _Built:
    files: _Files = {f"/var/log/app/{day:02d}.log": _sentences(rng, 40) for day in range(1, 61)}
    day = rng.randint(1, 60)
    lines = str(files[f"/var/log/app/{day:02d}.log"]).splitlines(True)
    lines.insert(rng.randrange(len(lines)), f"token={flag}\n")
    files[f"/var/log/app/{day:02d}.log"] = "".join(lines)
    return "Somebody logged the flag. The logs are in /var/log/app.", files, ("ls /var/log/app", "grep -rn 'flag{' /var/log/app")


def _base64(rng: random.Random, flag: str) -> _Built:
    path = f"/srv/backup/{rng.choice(_WORDS)}.b64"
    files: _Files = {path: base64.encodebytes(f"{_sentences(rng, 2)}{flag}\n{_sentences(rng, 1)}".encode())}
    return "The backup in /srv/backup is encoded, not encrypted.", files, ("ls /srv/backup", f"base64 -d {path}")


def _rot13(rng: random.Random, flag: str) -> _Built:
    path = f"{HOME}/mail/{rng.choice(_WORDS)}.eml"
    text = f"Dear Brutus,\n{_sentences(rng, 2)}The flag is {flag}\nYours, C.\n"
    files: _Files = {path: codecs.encode(text, "rot13")}
    commands = ("find ~/mail -type f", f"cat {path}", f"cat {path} | tr 'A-Za-z' 'N-ZA-Mn-za-m'")
    return "An old Roman wrote you a mail (in ~/mail). He moves his letters by thirteen.", files, commands


def _strings(rng: random.Random, flag: str) -> _Built:
    def noise() -> bytes:
        # `strings` shows none of it: each run of printable characters is too short.
        return bytes(rng.choice((0, 1, 2, 7, 127, 200, 255, 65)) if i % 3 else 0 for i in range(400))

    path = f"/usr/games/{rng.choice(_WORDS)}"
    words = b"\0".join(word.encode() for word in rng.sample(_WORDS, 12))
    files: _Files = {path: b"\x7fELF" + noise() + words + noise() + flag.encode() + b"\0" + noise()}
    return "A program in /usr/games knows the flag.", files, ("ls -l /usr/games", f"strings {path} | grep flag")


def _pieces(rng: random.Random, flag: str) -> _Built:
    names = rng.sample(_WORDS, 5)
    cuts = [0, *sorted(rng.sample(range(4, len(flag) - 1), 4)), len(flag)]
    files: _Files = {f"{HOME}/pieces/{name}": flag[i:j] for name, i, j in zip(names, cuts, cuts[1:], strict=False)}
    files[f"{HOME}/pieces/ORDER"] = "".join(f"{name}\n" for name in names)
    commands = ("ls ~/pieces", "cat ~/pieces/ORDER", f"cd ~/pieces && cat {' '.join(names)}")
    return "The flag was cut into pieces (in ~/pieces). Somebody wrote down their order.", files, commands


def _numbered(rng: random.Random, flag: str) -> _Built:
    flags = [_fake_flag(rng) for _ in range(60)]
    line = rng.randint(20, 50)
    flags[line - 1] = flag
    files: _Files = {
        f"{HOME}/flags.txt": "".join(f"{one}\n" for one in flags),
        "/etc/flags.conf": f"# Sixty flags, fifty-nine of them false.\nfile = {HOME}/flags.txt\ntrue_line = {line}\n",
    }
    commands = ("wc -l ~/flags.txt", "cat /etc/flags.conf", f"head -n {line} ~/flags.txt | tail -n 1")
    return "There are many flags in ~/flags.txt, and one is true. A file in /etc says which.", files, commands


def _trail(rng: random.Random, flag: str) -> _Built:
    places = [f"/{root}/{rng.choice(_WORDS)}/{rng.choice(_WORDS)}.txt" for root in ("opt", "srv", "var/lib", "usr/share")]
    codeword = rng.choice(_WORDS)
    files: _Files = {
        f"{HOME}/start.txt": f"The trail goes on in {places[0]}\n",
        places[0]: f"Not here.\n{base64.b64encode(f'Look at {places[1]}'.encode()).decode()}\n",
        places[1]: codecs.encode(f"Almost. See {places[2]}", "rot13") + "\n",
        places[2]: f"{_sentences(rng, 30)}The codeword is {codeword}; the vault is {places[3]}\n{_sentences(rng, 30)}",
        places[3]: "".join(f"{word}: {flag if word == codeword else _fake_flag(rng)}\n" for word in sorted(_WORDS)),
    }
    commands = (
        "cat ~/start.txt",
        f"cat {places[0]}",
        f"tail -n 1 {places[0]} | base64 -d",
        f"cat {places[1]} | tr 'A-Za-z' 'N-ZA-Mn-za-m'",
        f"grep codeword {places[2]}",
        f"grep '^{codeword}:' {places[3]}",
    )
    return "Follow the trail. It starts in ~/start.txt.", files, commands


def _layers(rng: random.Random, flag: str) -> _Built:
    path = f"{HOME}/{rng.choice(_WORDS)}.onion"
    inner = codecs.encode(f"{rng.choice(_WORDS)} {flag} {rng.choice(_WORDS)}", "rot13")[::-1]
    files: _Files = {
        path: base64.encodebytes(base64.encodebytes(inner.encode())),
        "/usr/share/onion/MANUAL": "Peel an onion so: base64, base64 again, read it backwards, move the letters by thirteen.\n",
    }
    peel = f"cat {path} | base64 -d | base64 -d | rev | tr 'A-Za-z' 'N-ZA-Mn-za-m'"
    commands = ("ls ~", "find / -iname '*onion*'", "cat /usr/share/onion/MANUAL", peel)
    return "The onion in your home directory has layers. Its manual is somewhere on this machine.", files, commands


_KINDS: Mapping[str, Callable[[random.Random, str], _Built]] = {
    build.__name__[1:]: build
    for build in (_plain, _hidden, _needle, _base64, _rot13, _strings, _pieces, _numbered, _trail, _layers)
}
"""The function that builds each kind of challenge, easiest first."""

_TEST_KINDS = ("hidden", "rot13", "numbered", "trail")
