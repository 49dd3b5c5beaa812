"""`x2kit demo`: its options, its errors before the model is loaded, and the running server."""

from __future__ import annotations

import socket

import pytest
from x2kit_demo.subcommand import listen, parse_size

from x2kit.cli import main
from x2kit.plugin import SettingError


@pytest.mark.parametrize(
    ("text", "size"), [("10MB", 10**7), ("500kB", 500_000), ("1.5 m", 1_500_000), ("12", 12), ("1G", 10**9)]
)
def test_a_size_has_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "ten", "-1MB", "10 XB"])
def test_another_size_is_an_error(text: str) -> None:
    with pytest.raises(SettingError, match="--max-upload: expected a size such as 10MB or 500kB"):
        parse_size(text)


def test_a_port_in_use_is_named_before_the_model_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["demo", "no-such-model", "--port", str(port)]) == 2
    assert f"--port: cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


def test_port_0_takes_a_free_one() -> None:
    with listen("127.0.0.1", 0) as listening:
        assert listening.getsockname()[1] > 0


def test_a_missing_package_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("x2kit_demo.subcommand.find_spec", lambda name: None)
    assert main(["demo", "no-such-model"]) == 2
    assert 'pip install "x2kit[demo]"' in capsys.readouterr().err


def test_a_missing_model_is_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "no-such-model", "--port", "0"]) == 2
    assert "no-such-model" in capsys.readouterr().err
