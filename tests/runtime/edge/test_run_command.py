"""isplit run, as a user calls it."""

import re
from pathlib import Path

import pytest

from isplit.records import read_answers
from isplit.runtime.server import serving
from tests.runtime.edge.conftest import lines
from tests.runtime.edge.foreign_servers import TOKEN, demand_token, serve_bundle


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
    assert [wire] * 6 == seen  # the first is the check of the server


def test_auto_protocol_says_why_it_takes_grpc(isplit, tiny, folder, listening):
    """A server that does not speak the lean wire answers over gRPC, and one line on standard error says so."""
    _, address = listening(serve_bundle(tiny.bundle))
    result = isplit("run", tiny.directory, folder, "--server", address, "--protocol", "auto", "--json")
    assert 0 == result.code, result.err
    assert {"split"} == {answer["source"] for answer in lines(result.out)}
    assert re.search("^isplit: .*first bytes", result.err, re.MULTILINE), result.err


@pytest.mark.parametrize("logits", [(), ("--logits",)])
def test_lean_protocol(isplit, tiny, folder, logits):
    """On the lean wire the answers are those of gRPC; their logits cross only on demand."""
    with serving(tiny.bundle) as server:
        options = ("--server", server.address, "--protocol", "lean", "--json", *logits)
        result = isplit("run", tiny.directory, folder, *options)
    assert 0 == result.code, result.err
    answers = lines(result.out)
    assert labels(tiny) == [answer["label"] for answer in answers]
    assert {"split"} == {answer["source"] for answer in answers}
    assert {bool(logits)} == {bool(answer.get("logits")) for answer in answers}


def test_server_down(isplit, tiny, folder):
    """When nobody listens, the whole model answers here, and every answer says so."""
    options = ("--no-require-server", "--json", "--deadline-ms", "5000")
    result = isplit("run", tiny.directory, folder, "--server", "127.0.0.1:1", *options)
    assert 0 == result.code, result.err
    answers = lines(result.out)
    assert labels(tiny) == [answer["label"] for answer in answers]
    assert {"local-fallback"} == {answer["source"] for answer in answers}
    assert all("UNAVAILABLE" in answer["reason"] or "circuit" in answer["reason"] for answer in answers)


def test_server_down_without_fallback(isplit, tiny, folder):
    """With --no-fallback the images have their failed answers, and the exit code is 1."""
    options = ("--no-require-server", "--json", "--no-fallback")
    result = isplit("run", tiny.directory, folder, "--server", "127.0.0.1:1", *options)
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
    refused = isplit(*arguments)
    assert (2, "") == (refused.code, refused.out)
    assert "UNAUTHENTICATED" in refused.err
    assert 1 == isplit(*arguments, "--no-require-server").code
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
        (["BUNDLE", "IMAGES", "--deadline-ms", "0"], "--deadline-ms is 0.0"),
        (["BUNDLE", "IMAGES", "--wire", "json"], "wire"),
        (["BUNDLE", "IMAGES", "--server", "pi:1", "--protocol", "http"], "choose auto, lean, grpc"),
        (["BUNDLE", "IMAGES", "--server", "pi:1", "--protocol", "lean", "--wire", "latent"], "speak gRPC"),
        (["BUNDLE", "IMAGES", "--server", "pi:1", "--token-file", "gone"], "cannot read gone"),
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


@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
def test_provider(isplit, tiny, folder, without_provider, quiet):
    """A provider that is not there is said at the start and in the end, --quiet or not, and in every answer."""
    out = folder.parent / "answers.jsonl"
    result = isplit("run", tiny.directory, folder, "--provider", "qnn", "--output", out, *quiet)
    assert 0 == result.code, result.err
    assert [("cpu", without_provider)] * 5 == [(it.provider, it.provider_fallback) for it in read_answers(out)]
    first, *_, said, last = result.err.splitlines()
    assert f"isplit: the CPU runs the models, not {without_provider}" == first
    assert f"5 answers from the CPU, not from {without_provider}" == said
    assert "5 answers: 5 local" == last


@pytest.mark.parametrize("provider", ["cpu", "auto"])
def test_provider_that_is_there(isplit, tiny, folder, without_provider, provider):
    """The CPU is always there."""
    result = isplit("run", tiny.directory, folder, "--provider", provider, "--json", "--quiet")
    assert (0, "") == (result.code, result.err)
    assert [("cpu", None)] * 5 == [(it["provider"], it["provider_fallback"]) for it in lines(result.out)]


def test_no_provider(isplit, tiny, folder):
    """Another name is refused, and the names are listed."""
    result = isplit("run", tiny.directory, folder, "--provider", "gpu")
    assert 2 == result.code
    assert "openvino" in result.err
