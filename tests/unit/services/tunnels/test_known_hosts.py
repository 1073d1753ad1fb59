"""What a known_hosts file says about a host key, compared with OpenSSH where it can be asked."""

import asyncio
import logging
import subprocess
from pathlib import Path

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.tunnels.known_hosts import (
    KnownHostsFile,
    Standing,
    kinds,
    names,
    parse_known_hosts,
)
from vastproxy.services.tunnels.publickey import parse_blob
from vastproxy.settings.errors import SettingsError


def make(kind: str = "ssh-ed25519") -> str:
    return parse_blob(asyncssh.generate_private_key(kind).public_data).line


A, B, R = make(), make(), make("ssh-rsa")


def standing(text: str, key: str = A, host: str = "192.0.2.7", port: int = 41022) -> Standing:
    return parse_known_hosts(text).look_up(host, port, key).standing


@pytest.mark.parametrize(
    "name",
    [
        "[192.0.2.7]:41022",
        "192.0.2.7",
        "other,[192.0.2.7]:41022",
        "[192.0.2.*]:41022",
        "192.0.2.?",
        "*",
        "*,!192.0.2.8",
    ],
)
def test_names_that_stand_for_the_host(name: str) -> None:
    assert standing(f"{name} {A} a comment\n") is Standing.KNOWN
    assert standing(f"{name} {B}\n") is Standing.OTHER


@pytest.mark.parametrize(
    "name",
    ["[192.0.2.7]:22", "[192.0.2.7]:41023", "192.0.2.70", "*,![192.0.2.7]:41022,!192.0.2.7", "[192.0.2.7]"],
)
def test_names_that_do_not(name: str) -> None:
    assert standing(f"{name} {A}\n") is Standing.UNLISTED


def test_the_entry_with_the_port_counts_before_the_one_without() -> None:
    text = f"[192.0.2.7]:41022 {A}\n192.0.2.7 {B}\n"
    assert standing(text, A) is Standing.KNOWN
    assert standing(text, B) is Standing.OTHER
    assert standing(text, B, port=22) is Standing.KNOWN
    assert standing(text, B, port=9) is Standing.KNOWN


def test_case_of_names_and_several_keys_of_a_host() -> None:
    text = f"[SSH5.Vast.ai]:11022 {A}\n[ssh5.vast.ai]:11022 {R}\n"
    finding = parse_known_hosts(text).look_up("ssh5.VAST.ai", 11022, R)
    assert finding.standing is Standing.KNOWN
    assert kinds(finding.listed) == ("ssh-ed25519", "ssh-rsa")
    assert names("SSH5.vast.ai", 22) == ("ssh5.vast.ai",)


def test_a_revoked_key_is_refused_even_if_it_is_listed_elsewhere() -> None:
    assert standing(f"[192.0.2.7]:41022 {A}\n@revoked * {A}\n") is Standing.REVOKED
    assert standing(f"192.0.2.7 {A}\n@revoked [192.0.2.7]:41022 {A}\n") is Standing.REVOKED
    assert standing(f"[192.0.2.7]:41022 {A}\n@revoked * {B}\n") is Standing.KNOWN


def test_hashed_names_written_by_ssh_keygen(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"[192.0.2.7]:41022 {A}\n")
    subprocess.run(["ssh-keygen", "-Hf", str(path)], check=True, capture_output=True)
    text = path.read_text()
    assert "192.0.2.7" not in text
    assert standing(text) is Standing.KNOWN
    assert standing(text, port=41023) is Standing.UNLISTED


@pytest.mark.parametrize(
    ("line", "note"),
    [
        (
            f"@cert-authority * {B}",
            "line 2: @cert-authority is not supported; list the host's own key instead",
        ),
        (f"@friend * {B}", "line 2: the marker @friend is not known"),
        ("host ssh-ed25519", "line 2 is not an entry of known_hosts that can be used"),
        ("host ssh-ed25519 AAAA", "line 2 is not an entry of known_hosts that can be used"),
        (f"|1|x {B}", "line 2 is not an entry of known_hosts that can be used"),
        ("@cert-authority", "line 2: @cert-authority is not supported; list the host's own key instead"),
    ],
    ids=["authority", "marker", "no key", "broken key", "broken hash", "bare authority"],
)
def test_lines_that_are_left_out_are_noted(line: str, note: str) -> None:
    known = parse_known_hosts(f"# mine\n{line}\n\nhost {A}\n")
    assert known.notes == (note,)
    assert known.count == 1


@pytest.mark.parametrize(
    "line", ["@revoked host ssh-ed25519 AAAA", "@revoked", f"@revoked |1|x {A}"], ids=["key", "bare", "hash"]
)
def test_a_revoked_key_that_cannot_be_read_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match="line 1: the revoked key cannot be read"):
        parse_known_hosts(line)


words = st.sampled_from(
    ["@revoked", "@cert-authority", "*", "host", "|1|a|b", "10.0.0.0/8", A, "ssh-rsa", "#"]
)


@given(st.lists(st.lists(words | st.text(max_size=8), max_size=4).map(" ".join), max_size=5).map("\n".join))
def test_any_text_is_read_or_a_value_error_and_accepts_no_key_it_does_not_hold(text: str) -> None:
    try:
        known = parse_known_hosts(text)
    except ValueError:
        return
    assert known.look_up("host", 41022, B).standing in (Standing.UNLISTED, Standing.OTHER)


def test_a_file_that_cannot_be_used_is_an_error_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    with pytest.raises(
        SettingsError, match=r"tunnels\.known_hosts: .*known_hosts cannot be used: No such file"
    ):
        KnownHostsFile(path)
    path.write_text(f"@revoked * {A}\n")
    with pytest.raises(SettingsError, match="lists no host key that can be used"):
        KnownHostsFile(path)
    path.write_text("@revoked nothing\n")
    with pytest.raises(SettingsError, match="line 1: the revoked key cannot be read"):
        KnownHostsFile(path)
    path.write_bytes(b" " * ((16 << 20) + 1))
    with pytest.raises(SettingsError, match="it has more than 16777216 bytes"):
        KnownHostsFile(path)


async def test_an_entry_counts_as_soon_as_it_is_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"host {A}\n")
    file = await asyncio.to_thread(KnownHostsFile, path)
    assert repr(file) == f"<KnownHostsFile {path} entries=1>"
    path.write_text(f"host {A}\nhost {B}\nodd\n")
    await file.refresh()
    await file.refresh()
    assert file.known.look_up("host", 22, B).standing is Standing.KNOWN
    assert caplog.messages == [f"{path} line 3 is not an entry of known_hosts that can be used"]


async def test_a_file_that_is_gone_for_a_moment_goes_on_to_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"host {A}\n")
    file = await asyncio.to_thread(KnownHostsFile, path)
    path.unlink()
    for _ in range(2):
        await file.refresh()
    assert file.known.look_up("host", 22, A).standing is Standing.KNOWN
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "go on to count" in caplog.text


def test_a_file_full_of_strange_lines_is_not_told_line_by_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "known_hosts"
    path.write_text("odd\n" * 30 + f"host {A}\n")
    KnownHostsFile(path)
    assert len(caplog.records) == 11
    assert caplog.messages[-1].endswith("has 20 more lines that are left out")
