"""The server of `radz view`, asked by the standard library's client: who may ask, what comes back, what is refused."""

from __future__ import annotations

import http.client
import json
import logging
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from view_site import COUNT, SLICES, body, site_without_model

from data_modules.errors import InputError
from data_modules.pixels import read_gray
from radz.evidence.view.frames import Frames
from radz.evidence.view.model import Model
from radz.evidence.view.server import PAGE, Served, listen
from radz.evidence.view.settings import read_settings
from radz.evidence.view.worklist import Worklist

Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture(scope="module")
def served(view_worklist: Worklist) -> Iterator[Served]:
    with listen(0) as listener, Served(site_without_model(view_worklist), listener) as here:
        yield here


def port_and_token(served: Served) -> tuple[int, str]:
    match = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/([\w-]{32,})/", served.address)
    assert match is not None, served.address
    return int(match[1]), match[2]


def ask(served: Served, path: str, host: str | None = None, method: str = "GET", raw: bool = False) -> Answer:
    """Of a path below the token, or of all of it."""
    port, token = port_and_token(served)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest(method, path if raw else f"/{token}/{path}", skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{port}")
    connection.endheaders()
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, body


def told(answer: Answer) -> Any:
    assert answer[0] == 200, answer[2]
    return json.loads(answer[2])


def test_only_who_has_the_token_is_answered(served: Served) -> None:
    _, token = port_and_token(served)
    assert ask(served, "")[0] == 200 and "radz view" in ask(served, "")[2].decode()
    others = [token[:-1], f"{token}x", token.swapcase(), "worklist", "%ff%fe", "%00", "..", ""]
    for path in ("/", *(f"/{other}/" for other in others)):
        status, headers, body = ask(served, path, raw=True)
        assert status == 403 and token not in body.decode() and b"study" not in body, path
        assert headers["referrer-policy"] == "no-referrer"


FOREIGN = ["evil.example", "127.0.0.1.evil.example", "127.0.0.2", "localhost.evil", "[::2]", "]", "evil@"]


@pytest.mark.parametrize("host", FOREIGN)
def test_a_name_from_outside_is_refused_whatever_its_token(served: Served, host: str) -> None:
    status, _, body = ask(served, "worklist", host=host)
    assert status in (400, 421) and b"study" not in body


@pytest.mark.parametrize("host", ["localhost", "localhost:9999", "LOCALHOST:1", "127.0.0.1:7", "[::1]:80"])
def test_a_tunnel_may_have_another_port(served: Served, host: str) -> None:
    assert ask(served, "", host=host)[0] == 200


def test_it_listens_on_the_loopback_alone(served: Served) -> None:
    port, _ = port_and_token(served)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outward:
        try:
            outward.connect(("192.0.2.1", 9))  # sends nothing
            own = outward.getsockname()[0]
        except OSError:
            own = "127.0.0.2"
    for address in {own, "127.0.0.2"} - {"127.0.0.1"}:
        with pytest.raises(OSError):
            socket.create_connection((address, port), timeout=2).close()
    socket.create_connection(("127.0.0.1", port), timeout=2).close()


def test_a_second_one_on_a_port_is_refused(served: Served) -> None:
    port, _ = port_and_token(served)
    with pytest.raises(InputError, match=rf"^port: {port} cannot be listened on \(Address already in use\); choose"):
        listen(port)


def test_the_port_is_free_again(view_worklist: Worklist) -> None:
    before, last = servers(), 0
    for _ in range(2):
        with listen(last) as listener:
            with Served(site_without_model(view_worklist), listener) as here:
                last, _ = port_and_token(here)
                assert ask(here, "")[0] == 200 and servers() == before + 1
            assert servers() == before


def servers() -> int:
    return sum(one.name == "radz view server" for one in threading.enumerate())


def test_nothing_comes_from_elsewhere(served: Served) -> None:
    _, headers, _ = ask(served, "")
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy and "*" not in policy
    assert headers["cache-control"] == "no-store" and headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers
    for file in PAGE.iterdir():
        status, headers, body = ask(served, f"page/{file.name}")
        assert status == 200 and body == file.read_bytes() and "content-security-policy" in headers
        text = body.decode().replace("http://www.w3.org/2000/svg", "")  # a name, which nothing loads
        assert not re.search(r"https?:|//[a-z]+\.|@import|url\(|eval\(|innerHTML", text), file.name
    page = (PAGE / "index.html").read_text()
    assert not re.search(r"\son\w+=|\sstyle=|<script(?![^>]*src=)|<style", page)
    assert set(re.findall(r"(?:src|href)=\"([^\"]+)", page)) <= {f"page/{file.name}" for file in PAGE.iterdir()}


@pytest.mark.parametrize(
    "path",
    ["page/none.js", "page/..%2Fserver.py", "page/%2e%2e/server.py", "page/server.py", "studies/1000", "studies/-1",
     "studies/x", "studies/0/frames/1", "studies/0/frames/99999999999999999999", "studies/0/frames/0/heat/2",
     "studies/1000/thumbnail", "studies/1000/nearest", "none", "studies/" + "9" * 5000],
    ids=lambda path: path[:50],
)  # fmt: skip
def test_what_is_not_there_is_not_found(served: Served, path: str) -> None:
    assert ask(served, path)[0] == 404


def test_it_only_tells(served: Served) -> None:
    assert {ask(served, "worklist", method=method)[0] for method in ("POST", "PUT", "DELETE")} == {405}


def test_the_worklist_comes_back_bit_for_bit(served: Served, view_worklist: Worklist) -> None:
    found, scores = told(ask(served, "worklist")), told(ask(served, "scores/0"))
    assert [one["name"] for one in found["studies"]] == [one.name for one in view_worklist.studies]
    assert found["thresholds"] == {"ours": {"pleural_effusion": 0.4}} and found["findings"][1]["seen"] == "none"
    assert scores["total"] == scores["settled"] == COUNT and scores["studies"] == list(range(COUNT))
    np.testing.assert_array_equal(np.array(scores["scores"], dtype=np.float32), view_worklist.scores)
    np.testing.assert_array_equal(np.array(found["labels"], dtype=np.float32), view_worklist.labels)
    assert told(ask(served, f"scores/{COUNT - 2}"))["studies"] == [COUNT - 2, COUNT - 1]
    assert scores["errors"][0] == "" and scores["errors"][9] == "is gone"


def test_an_image_is_what_the_file_holds(served: Served, view_worklist: Worklist) -> None:
    assert told(ask(served, "studies/2"))["images"] == {"frames": 2, "seen": [0, 1], "volume": False, "presets": {}}
    _, headers, body = ask(served, "studies/2/frames/0")
    about = json.loads(headers["x-frame"])
    levels = np.frombuffer(body, "<u2").reshape(about["height"], about["width"]) * about["slope"] + about["intercept"]
    gray = np.rint(np.clip((levels - about["low"]) / (about["high"] - about["low"]), 0, 1) * 255)
    np.testing.assert_array_equal(gray, read_gray(view_worklist.studies[0].files[0].path))
    about = json.loads(ask(served, "studies/2/frames/1")[1]["x-frame"])
    assert (about["width"], about["height"], about["original"]) == (2048, 41, [50, 2500])
    assert Image.open(BytesIO(ask(served, "studies/1/thumbnail")[2])).size == (32, 32)


def test_bad_files_are_told_and_end_nothing(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    assert told(ask(served, "studies/3"))["images"]["frames"] == 1
    for study, cause in ((3, "the header of the picture is damaged"), (4, "cannot be opened")):
        status, _, body = ask(served, f"studies/{study}/frames/0")
        assert status == 422 and json.loads(body)["error"].startswith(cause)
        status, _, body = ask(served, f"studies/{study}/thumbnail")
        assert status == 422 and json.loads(body)["error"].startswith(f"row {study}: {cause}")
    assert told(ask(served, "studies/9"))["error"] == "is gone"
    assert json.loads(ask(served, "studies/0/frames/0/heat/0")[2]) == {"error": "no weights here"}
    assert told(ask(served, "studies/0"))["images"]["frames"] == 1
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


def test_what_is_asked_is_not_logged(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        ask(served, "search?words=effusion")
        ask(served, "/wrong/", raw=True)
    assert "effusion" not in caplog.text and "wrong" not in caplog.text


def test_reports_are_searched_by_all_words(served: Served) -> None:
    assert told(ask(served, "search?words=EFFUSION+pneumo"))["studies"][:3] == [0, 1, 2]
    assert told(ask(served, "search?words=effusion+edema"))["studies"] == []


def test_a_report_comes_marked(served: Served) -> None:
    found = told(ask(served, "studies/3"))["report"]
    assert {proof["finding"]: proof["state"] for proof in found["proofs"]} == {
        "pleural_effusion": "present", "pneumothorax": "absent",
    }  # fmt: skip
    assert [part["text"] for part in found["parts"] if part["says"]] == ["Large Pleural Effusion", "pneumothorax"]


def test_a_volume_is_shown_from_head_to_feet_in_hounsfield_units(served: Served) -> None:
    about = told(ask(served, "studies/5"))["images"]
    assert about["frames"] == SLICES and about["volume"] and about["seen"] == [1, 4, 7, 10]
    assert about["presets"]["mediastinum"] == [40, 400]
    planes = []
    for frame in range(SLICES):
        _, headers, content = ask(served, f"studies/5/frames/{frame}")
        shown = json.loads(headers["x-frame"])
        levels = np.frombuffer(content, "<u2").reshape(shown["height"], shown["width"])
        planes.append(levels * shown["slope"] + shown["intercept"])
    assert (shown["low"], shown["high"]) == (-1350, 150)
    np.testing.assert_array_equal(np.stack(planes), np.transpose(body()[::-1, ::-1, ::-1], (2, 1, 0)))


def test_a_client_that_leaves_in_the_middle_ends_nothing(served: Served) -> None:
    port, token = port_and_token(served)
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(f"GET /{token}/studies/1/frames/0 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closes with a reset
    assert ask(served, "studies/1/frames/0")[0] == 200


@pytest.mark.parametrize(
    ("items", "cause"),
    [
        (["port=70000"], "port: 70000 is no port"),
        (["port=x"], "port=x: must be a whole number"),
        (["split=tset"], "split: 'tset' is not one of train, val, test"),
        (["findings=mass"], "findings: is read only with input=FOLDER"),
        (["input=/x", "split=val"], "split: is read only without input=FOLDER"),
        (["input=/x", "data.workers=1"], "data.workers=1: is read only without"),
        (["host=0.0.0.0"], "host=0.0.0.0: unknown here; known: corpus, device"),
    ],
)
def test_keys_that_do_not_fit(items: list[str], cause: str) -> None:
    with pytest.raises(InputError, match=re.escape(cause)):
        read_settings(items)


def test_a_volume_under_a_run_of_radiographs_is_not_given_to_the_model(view_worklist: Worklist) -> None:
    volume = next(study for study in view_worklist.studies if study.modality == "chest_ct")
    with pytest.raises(InputError, match="is a CT volume, and the run was trained on chest X-rays"):
        Frames(view_worklist.recipe).planes(replace(volume, modality="chest_xray"))


def test_a_study_that_the_model_refuses_has_no_neighbours_and_takes_none_from_others(
    view_worklist: Worklist,
) -> None:
    def embed_studies(images: list[int], modalities: list[str]) -> np.ndarray:
        if 7 in images:
            raise InputError("too many images")
        return np.array([[float(image)] for image in images], dtype=np.float32)

    model = Model(lambda: SimpleNamespace(embed_studies=embed_studies), view_worklist, Frames(view_worklist.recipe))
    found = model._embedded({0: 5, 1: 7, 2: 9}, ["chest_xray"] * 3)
    assert {number: float(row[0]) for number, row in found.items()} == {0: 5.0, 2: 9.0}
