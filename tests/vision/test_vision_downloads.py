"""Downloads: several addresses, checksums, and what broke off goes on where it stopped."""
from __future__ import annotations

import hashlib

import pytest
from vision_files import NOWHERE, md5, serving

from gpugrad.vision.download import check_integrity, fetch

CONTENT = bytes(range(256)) * 8


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving({"x.bin": CONTENT}) as handler:
        yield handler


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("checksum", [None, md5(CONTENT), hashlib.sha256(CONTENT).hexdigest()])
def test_a_file_is_fetched(server, tmp_path, capsys, checksum):
    path = tmp_path / "new" / "x.bin"
    fetch([server.url + "x.bin"], path, checksum)
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["x.bin"]
    assert f"Downloading {server.url}x.bin to {path}" in capsys.readouterr().err
    assert check_integrity(path, checksum) and not check_integrity(path, md5(b""))
    assert not check_integrity(tmp_path / "none")


def test_the_next_address_is_tried_and_all_are_named(server, tmp_path):
    fetch([NOWHERE + "x.bin", server.url + "no.bin", server.url + "x.bin"], tmp_path / "x.bin",
          md5(CONTENT))
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    with pytest.raises(RuntimeError, match=r"(?s)Error downloading y\.bin:.*127.0.0.1:9/y.*refused"
                                           r".*no\.bin: HTTP Error 404"):
        fetch([NOWHERE + "y", server.url + "no.bin"], tmp_path / "y.bin", md5(CONTENT))
    assert names(tmp_path) == ["x.bin"]


def test_a_connection_that_breaks_is_taken_up_again(server, tmp_path):
    server.cuts += [700, 1200]
    fetch([server.url + "x.bin"], tmp_path / "x.bin", md5(CONTENT))
    assert [asked for _, asked in server.log] == [None, "bytes=700-", "bytes=1200-"]
    assert (tmp_path / "x.bin").read_bytes() == CONTENT and names(tmp_path) == ["x.bin"]


def test_what_came_stays_for_the_next_run(server, tmp_path):
    server.cuts += [700, 0]
    with pytest.raises(RuntimeError, match=r"broke off after 700 of 2,048 bytes(.|\n)*"
                                           r"broke off after 0 of 1,348 bytes"):
        fetch([server.url + "x.bin"], tmp_path / "x.bin", md5(CONTENT))
    assert (tmp_path / "x.bin.part").read_bytes() == CONTENT[:700] and len(names(tmp_path)) == 1
    fetch([server.url + "x.bin"], tmp_path / "x.bin", md5(CONTENT))
    assert server.log[-1][1] == "bytes=700-" and names(tmp_path) == ["x.bin"]


def test_without_a_checksum_it_begins_anew(server, tmp_path):
    (tmp_path / "x.bin.part").write_bytes(b"something else")
    fetch([server.url + "x.bin"], tmp_path / "x.bin")
    assert server.log == [("x.bin", None)] and (tmp_path / "x.bin").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    server.ranges = False
    (tmp_path / "x.bin.part").write_bytes(CONTENT[:700])
    fetch([server.url + "x.bin"], tmp_path / "x.bin", md5(CONTENT))
    assert server.log == [("x.bin", "bytes=700-")]
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    server.cuts += [700, 700]
    with pytest.raises(RuntimeError, match="broke off"):            # it gets nowhere, and ends
        fetch([server.url + "x.bin"], tmp_path / "y.bin", md5(CONTENT))


@pytest.mark.parametrize("part", [CONTENT, CONTENT + b"more", b"?" + CONTENT[1:700]],
                         ids=["whole", "too long", "damaged"])
def test_what_lies_there_may_be_anything(server, tmp_path, part):
    (tmp_path / "x.bin.part").write_bytes(part)
    fetch([server.url + "x.bin"], tmp_path / "x.bin", md5(CONTENT))
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    assert len(server.log) == (1 if part == CONTENT else 2)         # once with, once without Range


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    (tmp_path / "x.bin").write_bytes(b"old")
    with pytest.raises(RuntimeError, match=r"x\.bin: what came has not the checksum 0123, and was "
                                           "removed"):
        fetch([server.url + "x.bin"], tmp_path / "x.bin", "0123")
    assert names(tmp_path) == ["x.bin"] and (tmp_path / "x.bin").read_bytes() == b"old"
    assert len(server.log) == 1
