"""isplit run: every image is answered, whatever its name, its file, the model, the disk and the reader are."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest

from isplit.records import read_answers
from tests.runtime.edge.conftest import lines, nan_for_black, png, put, response
from tests.runtime.edge.foreign_servers import serve_bundle


def isplit_process(*arguments, **options):
    """Run isplit in a process of its own."""
    command = [
        sys.executable,
        "-c",
        "from isplit.cli import main; main()",
        "run",
        *map(os.fsencode, map(str, arguments)),
    ]
    return subprocess.run(command, capture_output=True, check=False, timeout=240, **options)


ODD_NAMES = (
    b"ni\xf1o.png",
    b"\x1b[2J\x1b]0;owned\x07.png",
    b"two\nlines.png",
    "gpj\u202e.png".encode(),
    b"\xff\xfe.png",
)


def test_odd_file_names(tiny, tmp_path):
    """A name of any bytes has its answer, in JSON that everybody reads and in a line that no terminal obeys."""
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in ODD_NAMES:
        (folder / os.fsdecode(name)).write_bytes(png(tiny.images[0]))
    out = tmp_path / "answers.jsonl"
    result = isplit_process(tiny.directory, folder, "--output", out)
    assert 0 == result.returncode, result.stderr
    assert 5 == len(list(read_answers(out)))
    assert b"5 answers: 5 local" in result.stderr
    for text in (result.stdout.decode(), out.read_text("utf-8")):
        lines_of_text = text.splitlines()
        assert 5 == len(lines_of_text)
        assert all(line.isprintable() for line in lines_of_text)
    assert "ni\\xf1o.png" in result.stdout.decode()
    assert "\\x1b[2J" in result.stdout.decode()
    printed = isplit_process(
        tiny.directory,
        *(folder / os.fsdecode(name) for name in ODD_NAMES),
        "--json",
    )
    assert 5 == len(lines(printed.stdout.decode()))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_is_not_utf8(tiny, tmp_path, encoding):
    """A terminal of another encoding shows what it can; JSON is UTF-8 everywhere."""
    image = tmp_path / "猫ä.png"
    image.write_bytes(png(tiny.images[0]))
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    words = isplit_process(tiny.directory, image, env=environment)
    assert (0, True) == (words.returncode, b"\\u732b" in words.stdout), words.stderr
    printed = isplit_process(tiny.directory, image, "--json", env=environment)
    assert [str(image)] == [answer["image"] for answer in lines(printed.stdout.decode())]


def test_words_of_a_server_are_shown_not_obeyed(isplit, tiny, folder, listening):
    """What a server says reaches the terminal on one line, without its escape sequences, and cut where it is long."""

    def answer(request, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "no\x1b[31m such\nmodel " + "x" * 5000)

    _, address = listening(answer)
    result = isplit("run", tiny.directory, folder / "0.png", "--server", address, "--no-require-server")
    (line,) = result.out.splitlines()
    assert line.isprintable()
    assert "no\\x1b[31m such model xxx" in line
    assert len(line) < 500
    assert all(line.isprintable() for line in result.err.splitlines())
    refused = isplit("run", tiny.directory, folder / "0.png", "--server", address)
    assert (2, 1, True) == (refused.code, len(refused.err.splitlines()), refused.err[:-1].isprintable())


def test_a_file_that_vanishes(isplit, tiny, folder):
    """A link that leads nowhere and a pipe in the folder are answered as what they are; neither is called damaged."""
    (folder / "5.png").symlink_to("nowhere.png")
    os.mkfifo(folder / "6.png")
    result = isplit("run", tiny.directory, folder, "--json")
    assert 1 == result.code
    answers = lines(result.out)
    assert ["local"] * 5 + ["failed"] * 2 == [answer["source"] for answer in answers]
    assert "there is no file" in answers[5]["reason"]
    assert "not an ordinary file" in answers[6]["reason"]


def test_damaged_tiff(tiny, folder):
    """A TIFF on which Pillow raises a TypeError, or warns, has its answer, and no warning is printed besides.

    libtiff may print errors of its own, which nothing in Python hears of.
    """
    from tests.codec.pictures import tagged_tiff

    content, entries = tagged_tiff()
    for entry in entries:
        for code in (0, 258, 277):
            damaged = bytearray(content)
            damaged[entry : entry + 2] = code.to_bytes(2, "little")
            (folder / f"{entry}-{code}.tif").write_bytes(damaged)
    result = isplit_process(tiny.directory, folder, "--json", "--quiet")
    answers = lines(result.stdout.decode())
    assert 5 + 3 * len(entries) == len(answers)
    assert {"local", "failed"} == {answer["source"] for answer in answers}
    assert b"Warning" not in result.stderr
    assert b"PIL" not in result.stderr


@pytest.mark.parametrize("placement", ["local", "stage.1"])
def test_not_a_number(isplit, tiny, own_bundle, folder, listening, placement):
    """Where the model gives NaN, on the device or on the server, the answer is that it does, and JSON stays JSON."""
    put(own_bundle, tiny.bundle.record, "whole.onnx", nan_for_black(tiny))

    def answer(request, context):
        return response(request, [1.0, float("nan"), 0.0, float("inf"), 0.0])

    _, address = listening(answer)
    (folder / "2.png").write_bytes(png(np.zeros((8, 8, 3), np.uint8)))
    options = ("--placement", placement, "--json", "--logits", "--no-require-server")
    result = isplit("run", own_bundle, folder, "--server", address, *options)
    assert 1 == result.code

    def refuse(word):
        raise AssertionError(word)

    answers = [json.loads(line, parse_constant=refuse) for line in result.out.splitlines()]
    source = "local" if placement == "local" else "local-fallback"
    assert [source, source, "failed", source, source] == [answer["source"] for answer in answers]
    assert "not finite" in answers[2]["reason"]
    assert (None, None) == (answers[2]["label"], answers[2]["probability"])


def test_full_disk(tiny, folder, tmp_path):
    """A disk that is full ends the run with a message and exit code 1; the file holds whole answers only."""
    out = tmp_path / "answers.jsonl"
    for target, size in ((out, 1500), (None, 1500)):

        def limit(size=size):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        arguments = (tiny.directory, folder, "--json", "--quiet") + (("--output", target) if target else ())
        printed = tmp_path / "printed.jsonl"
        with printed.open("wb") as stdout:
            command = [sys.executable, "-c", "from isplit.cli import main; main()", "run", *map(str, arguments)]
            result = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, preexec_fn=limit, check=False)
        error = result.stderr.decode()
        assert 1 == result.returncode, error
        kept = list(read_answers(out if target else printed))
        assert 0 < len(kept) < 5
        name = out if target else "standard output"
        assert (
            f"isplit: cannot write {name}: File too large; the {len(kept)} lines before this one are kept whole\n"
            == error
        )
        assert len(list(read_answers(printed))) == len(kept)


def test_output_to_a_full_device(isplit, tiny, folder):
    """A full device is named; it is no fault of isplit."""
    result = isplit("run", tiny.directory, folder, "--output", "/dev/full", "--quiet")
    assert (1, "") == (result.code, result.out)
    assert "cannot write /dev/full: No space left on device" in result.err


def test_everything_on_a_full_disk(tiny, folder):
    """With standard output and standard error on a full disk, the exit code still says that it failed."""
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-c", "from isplit.cli import main; main()", "run", str(tiny.directory), str(folder)]
        assert 1 == subprocess.run(command, stdout=full, stderr=full, check=False, timeout=240).returncode


@pytest.mark.parametrize("form", [("--json",), ()])
def test_a_reader_that_leaves(tiny, folder, tmp_path, form):
    """When the reader of the output leaves, the run ends without a word; the answers so far are in the file."""
    out = tmp_path / "answers.jsonl"
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", "from isplit.cli import main; main()", "run", tiny.directory, folder, "--quiet"]
    if not form:
        command.remove("--quiet")
    result = subprocess.run(
        [*map(str, command), *form, "--output", str(out)],
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
        timeout=240,
    )
    os.close(writer)
    assert 1 == result.returncode
    assert b"fault" not in result.stderr
    assert b"Traceback" not in result.stderr
    assert 1 == len(list(read_answers(out)))


def test_without_standard_output(tiny, folder, tmp_path):
    """With standard output closed the answers go where --output says."""
    out = tmp_path / "answers.jsonl"
    command = 'exec "$0" -c "from isplit.cli import main; main()" run "$1" "$2" --json --output "$3" >&-'
    arguments = [sys.executable, str(tiny.directory), str(folder), str(out)]
    result = subprocess.run(["sh", "-c", command, *arguments], stderr=subprocess.PIPE, check=False, timeout=240)
    assert 0 == result.returncode, result.stderr
    assert 5 == len(list(read_answers(out)))


def test_a_run_that_cannot_start_keeps_the_last_ones_answers(isplit, tiny, own_bundle, folder, tmp_path):
    """What --output held is not emptied before the models are loaded."""
    out = tmp_path / "answers.jsonl"
    out.write_text("answers of yesterday\n")
    put(own_bundle, tiny.bundle.record, "whole.onnx", b"\x3a\x00")
    result = isplit("run", own_bundle, folder, "--output", out)
    assert 2 == result.code, result.err
    assert "answers of yesterday\n" == out.read_text()


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
        # The third image is never answered: Ctrl-C comes while it waits, when two answers are in the file.
        answered.append(request.id)
        if len(answered) == 4:  # the first request is the check of the server
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
        _, error = process.communicate(timeout=240)
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
    result = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=240)
    assert 130 == result.returncode, result.stderr
    assert "the answers given so far are kept" in result.stderr
