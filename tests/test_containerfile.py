"""The container file cannot be built in a test; what it copies, installs and runs is checked one by one."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILE = ROOT / "packaging" / "Containerfile"


def instructions():
    """Return the file's instructions, each with its words."""
    text = re.sub(r"\\\n", " ", FILE.read_text("utf-8"))
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [(line.split()[0], line.partition(" ")[2]) for line in lines]


def copied_sources():
    """Return the paths that are copied from the project into the first stage."""
    copies = [shlex.split(rest) for word, rest in instructions() if word == "COPY"]
    return [source for words in copies if not words[0].startswith("--") for source in words[:-1]]


def test_copied_files_exist():
    """Every file and folder that is copied is in the project."""
    assert {"pyproject.toml", "src", "packaging"} <= set(copied_sources())
    assert [] == [source for source in copied_sources() if not (ROOT / source).exists()]


def test_the_build_has_what_it_needs():
    """The files that building the wheel reads are among those that are copied."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    needed = {"src", settings["project"]["readme"], *settings["project"].get("license-files", ["LICENSE"])}
    hooks = settings["tool"]["hatch"]["build"].get("hooks", {}) | settings["tool"]["hatch"]["build"]["targets"].get(
        "wheel", {}
    ).get("hooks", {})
    needed |= {hook["path"] for hook in hooks.values() if "path" in hook}
    sources = copied_sources()
    assert [] == [path for path in sorted(needed) if not any(Path(path).is_relative_to(source) for source in sources)]


def test_the_versions_of_python():
    """Both stages have the same image, with a Python that isplit supports and says that it supports."""
    images = {rest.split()[0] for word, rest in instructions() if word == "FROM"}
    assert 1 == len(images)
    version = re.search(r"python:(\d+\.\d+)", images.pop())[1]
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    least = re.search(r">=\s*(\d+)\.(\d+)", settings["project"]["requires-python"])
    assert tuple(map(int, version.split("."))) >= tuple(map(int, least.groups()))


def test_the_virtual_environment_stays_where_it_was_made():
    """A virtual environment cannot be moved: it is made, copied and run under one path."""
    text = FILE.read_text("utf-8")
    (folder,) = re.findall(r"python -m venv (\S+)", text)
    (copied,) = [shlex.split(rest)[1:] for word, rest in instructions() if word == "COPY" and rest.startswith("--from")]
    assert [folder, folder] == copied
    assert f"{folder}/bin/pip install" in text
    (entry,) = [rest for word, rest in instructions() if word == "ENTRYPOINT"]
    assert f"{folder}/bin/isplit" in entry


def test_it_runs_without_privileges():
    """The server's user is made before it is used, and nothing is copied or run after that as root."""
    words = [word for word, _ in instructions()]
    (user,) = [rest for word, rest in instructions() if word == "USER"]
    assert user.isdigit()
    assert int(user) > 0
    assert any("useradd" in rest and f"--uid {user} " in rest for word, rest in instructions() if word == "RUN")
    assert not {"RUN", "COPY", "ADD"} & set(words[words.index("USER") :])
    assert ("STOPSIGNAL", "SIGTERM") in instructions()


def test_the_server_takes_its_options(isplit, tmp_path):
    """The command and its options exist: without its file of options the server says which one is missing."""
    words = {word: rest for word, rest in instructions() if word in ("ENTRYPOINT", "CMD")}
    command = [*map(str, re.findall(r'"([^"]*)"', words["ENTRYPOINT"])), *re.findall(r'"([^"]*)"', words["CMD"])]
    assert ["serve", "--config"] == command[1:3]
    result = isplit(*command[1:3], tmp_path / Path(command[3]).name)
    assert 2 == result.code
    assert Path(command[3]).name in result.err


@pytest.mark.parametrize("port", ["8001", "9001"])
def test_its_ports_are_documented(port):
    """The ports that are exposed are those of the documentation."""
    (exposed,) = [rest.split() for word, rest in instructions() if word == "EXPOSE"]
    assert port in exposed
    assert port in (ROOT / "docs" / "server.md").read_text("utf-8")
