"""isplit run, as a user calls it."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from isplit.records import read_answers
from tests.runtime.edge.conftest import png
from tests.runtime.edge.test_grpc_transport import TOKEN, demand_token, serve_bundle


@pytest.fixture
def folder(tiny, tmp_path):
    """Five images as PNG files."""
    directory = tmp_path / "images"
    directory.mkdir()
    for number, image in enumerate(tiny.images[:5]):
        (directory / f"{number}.png").write_bytes(png(image))
    return directory


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def labels(tiny, count=5):
    return tiny.logits[:count].argmax(1).tolist()


def test_split(isplit, tiny, folder, listening):
    """Images are classified with head here and tail there; a table says where the time went."""
    _, address = listening(serve_bundle(tiny.bundle))
    result = isplit("run", tiny.directory, folder, "--server", address, "--json")
    assert 0 == result.code, result.err
    answers = lines(result.out)
    assert labels(tiny) == [answer["label"] for answer in answers]
    assert [("split", "stage.1")] * 5 == [(answer["source"], answer["placement"]) for answer in answers]
    assert [f"{number}.png" for number in range(5)] == [Path(answer["image"]).name for answer in answers]
    for part in ("decode image", "preprocess", "head", "encode", "wire", "total"):
        assert re.search(rf"^ +{part} +5 +\d+\.\d\d +\d+\.\d\d", result.err, re.MULTILINE), result.err
    assert "5 answers: 5 split" in result.err


def test_in_words(isplit, tiny, folder):
    """Without --json, a line for people for each image."""
    result = isplit("run", tiny.directory, folder / "0.png")
    assert 0 == result.code, result.err
    name = tiny.bundle.record.group.classes[labels(tiny, 1)[0]]
    assert re.fullmatch(rf"\S+0\.png  {name} \(\d+%\)  local, \d+\.\d ms\n", result.out)


@pytest.mark.parametrize("placement", ["stage.2", "remote", "local"])
def test_placement(isplit, tiny, folder, listening, placement):
    """--placement chooses where; --output keeps the answers as JSON lines, with logits on demand."""
    _, address = listening(serve_bundle(tiny.bundle))
    out = folder.parent / "answers.jsonl"
    options = ("--placement", placement, "--output", out, "--logits", "--quiet", "--deadline-ms", "60000")
    result = isplit("run", tiny.directory, folder, "--server", address, *options)
    assert (0, "", "") == (result.code, result.out, result.err)
    answers = list(read_answers(out))
    assert [placement] * 5 == [answer.placement for answer in answers]
    assert [60_000] * 5 == [answer.deadline_ms for answer in answers]
    if placement != "remote":
        assert [tuple(row) for row in tiny.logits[:5].tolist()] == [answer.logits for answer in answers]


@pytest.mark.parametrize("wire", ["payload", "latent"])
def test_wire(isplit, tiny, folder, listening, wire):
    """--wire latent sends plain uint8."""
    seen = []

    def answer(request, context):
        seen.append(request.inputs[0].name)
        return serve_bundle(tiny.bundle)(request, context)

    _, address = listening(answer)
    assert 0 == isplit("run", tiny.directory, folder, "--server", address, "--wire", wire, "--quiet").code
    assert [wire] * 5 == seen


def test_server_down(isplit, tiny, folder):
    """When nobody listens, the whole model answers here, and every answer says so."""
    result = isplit("run", tiny.directory, folder, "--server", "127.0.0.1:1", "--json", "--deadline-ms", "5000")
    assert 0 == result.code, result.err
    answers = lines(result.out)
    assert labels(tiny) == [answer["label"] for answer in answers]
    assert {"local-fallback"} == {answer["source"] for answer in answers}
    assert all("UNAVAILABLE" in answer["reason"] or "circuit" in answer["reason"] for answer in answers)


def test_server_down_without_fallback(isplit, tiny, folder):
    """With --no-fallback the images have their failed answers, and the exit code is 1."""
    result = isplit("run", tiny.directory, folder, "--server", "127.0.0.1:1", "--json", "--no-fallback")
    assert 1 == result.code
    assert ["failed"] * 5 == [answer["source"] for answer in lines(result.out)]
    assert "5 failed" in result.err


def test_damaged_image(isplit, tiny, folder):
    """A damaged image has an answer that says so; the others have theirs."""
    (folder / "2.png").write_bytes(b"no image")
    result = isplit("run", tiny.directory, folder, "--placement", "local", "--json")
    assert 1 == result.code
    answers = lines(result.out)
    assert ["local", "local", "failed", "local", "local"] == [answer["source"] for answer in answers]
    assert "2.png" in answers[2]["reason"]
    assert "Traceback" not in result.err


def test_limit(isplit, tiny, folder):
    """--limit stops after so many images."""
    result = isplit("run", tiny.directory, folder, "--limit", "2", "--json")
    assert 2 == len(lines(result.out))


def test_token(isplit, tiny, folder, listening, tmp_path):
    """--token-file is read, its end of line left out, and shown to the server."""

    def answer(request, context):
        demand_token(request, context)
        return serve_bundle(tiny.bundle)(request, context)

    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    _, address = listening(answer)
    arguments = ("run", tiny.directory, folder, "--server", address, "--no-fallback", "--quiet")
    assert 1 == isplit(*arguments).code
    assert 0 == isplit(*arguments, "--token-file", token).code


def test_video(isplit, tiny, tmp_path):
    """A video is classified frame by frame."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'isplit[camera]'")
    path = tmp_path / "three.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MJPG, so there is no video to read")
    for image in tiny.images[:3]:
        writer.write(cv2.resize(image, (64, 48)))
    writer.release()
    result = isplit("run", tiny.directory, path, "--json")
    assert 0 == result.code, result.err
    assert [f"{path}#{number}" for number in range(3)] == [answer["image"] for answer in lines(result.out)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["BUNDLE", "gone.png"], "there is no gone.png"),
        (["gone", "IMAGES"], "not a bundle"),
        (["BUNDLE", "IMAGES", "--placement", "stage.9"], "stage.9"),
        (["BUNDLE", "IMAGES", "--placement", "stage.1"], "needs a server"),
        (["BUNDLE", "IMAGES", "--server", "pi"], "HOST:PORT"),
        (["BUNDLE", "IMAGES", "--depth", "0"], "depth"),
        (["BUNDLE", "IMAGES", "--limit", "0"], "--limit"),
        (["BUNDLE", "IMAGES", "--deadline-ms", "0"], "deadline_ms"),
        (["BUNDLE", "IMAGES", "--wire", "json"], "wire"),
        (["BUNDLE", "IMAGES", "--server", "pi:1", "--token-file", "gone"], "cannot read the token"),
        (["BUNDLE", "IMAGES", "--server", "192.0.2.1:1", "--token-file", "TOKEN"], "plain text"),
        (["BUNDLE", "IMAGES", "--server", "pi:1", "--tls-cert", "TOKEN"], "both"),
        (["BUNDLE", "IMAGES", "--server", "pi:1", "--tls-ca", "TOKEN"], "PEM"),
        (["BUNDLE", "IMAGES", "--output", "gone/answers.jsonl"], "cannot write"),
    ],
)
def test_bad_input(isplit, tiny, folder, tmp_path, monkeypatch, arguments, words):
    """Bad input is one line that says what to do, exit code 2, and nothing is sent."""
    monkeypatch.chdir(tmp_path)
    token = tmp_path / "token"
    token.write_text(TOKEN)
    places = {"BUNDLE": tiny.directory, "IMAGES": folder, "TOKEN": token}
    result = isplit("run", *(places.get(argument, argument) for argument in arguments))
    assert (2, "") == (result.code, result.out), result.err
    assert words in result.err
    assert "Traceback" not in result.err


INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background run may have it ignored
from isplit.cli import main
main()
"""


def test_ctrl_c_keeps_what_was_done(tiny, folder, listening, tmp_path):
    """Ctrl-C exits 130; the answers so far are in the file, whole, and counted."""
    out = tmp_path / "answers.jsonl"
    process = None
    answered = []

    def answer(request, context):
        # The third request is never answered: Ctrl-C comes while it waits, when two answers are in the file.
        answered.append(request.id)
        if len(answered) == 3:
            process.send_signal(signal.SIGINT)
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "too late")
        return serve_bundle(tiny.bundle)(request, context)

    _, address = listening(answer)
    command = [sys.executable, "-c", INTERRUPTIBLE, "run", tiny.directory, folder, "--server", address]
    process = subprocess.Popen(
        [*map(str, command), "--output", str(out), "--depth", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _, error = process.communicate(timeout=120)
    finally:
        process.kill()
    assert 130 == process.returncode, error
    assert "the answers given so far are kept" in error
    assert "Traceback" not in error
    kept = list(read_answers(out))
    assert ["split", "split"] == [answer.source for answer in kept[:2]]
    assert f"{len(kept)} answers" in error


STUCK = """
import os, signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)
from isplit.cli import main
from isplit.runtime.edge.client import EdgeClient

def never(client, job):
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait()

EdgeClient._finish = never
main()
"""


def test_ctrl_c_waits_for_nobody(tiny, folder):
    """Ctrl-C ends the command even when a request's thread stands still for good."""
    command = [sys.executable, "-c", STUCK, "run", tiny.directory, folder, "--placement", "local"]
    result = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=60)
    assert 130 == result.returncode, result.stderr
    assert "the answers given so far are kept" in result.stderr


def test_systemd_unit(isplit):
    """The unit file calls the command as it is."""
    text = (Path(__file__).parents[3] / "packaging" / "isplit-run.service").read_text("utf-8")
    command = re.search(r"^ExecStart=((?:.*\\\n)*.*)$", text, re.MULTILINE)[1].replace("\\\n", " ").split()
    assert ["/opt/isplit/bin/isplit", "run"] == command[:2]
    known = isplit("run", "--help").out
    for option in (word for word in command if word.startswith("--")):
        assert re.search(rf"{option}\b", known), option
