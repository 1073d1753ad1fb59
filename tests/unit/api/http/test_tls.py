"""The certificate of the listening side: read, refused in one line, replaced without breaking the one in use."""

import logging
import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from tests.helpers.certificates import Made, make_certificate
from vastproxy.api.http.tls import ServerTls
from vastproxy.settings import SettingsError


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "cert.pem", tmp_path / "key.pem"


def handshake(
    server: ssl.SSLContext, *, name: str | None = "localhost", client: ssl.SSLContext | None = None
) -> ssl.SSLObject:
    """The client's side of a connection to a server with this context, in memory."""
    if client is None:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(down, up, server_hostname=name)
    answering = server.wrap_bio(up, down, server_side=True)
    for _ in range(10):
        pending = 0
        for side in (asking, answering):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pending += 1
        if not pending:
            return asking
    raise AssertionError("the handshake does not end")


def serial(connection: ssl.SSLObject) -> int:
    der = connection.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


def serving(*files: Path) -> ServerTls:
    """Serves what these files hold, which was written long ago: what is written within one tick of the file system's
    clock cannot be told apart by its time."""
    for file in files:
        os.utime(file, (0, 0))
    return ServerTls(*files)


def settled(tls: ServerTls) -> None:
    """As long after a change as it takes."""
    tls.look()
    tls.look()


@pytest.mark.parametrize("rsa_key", [False, True])
@pytest.mark.parametrize("name", ["localhost", None])
def test_a_client_gets_the_certificate_over_tls_1_3(
    files: tuple[Path, Path], rsa_key: bool, name: str | None
) -> None:
    made = make_certificate(rsa_key=rsa_key)
    made.write(*files)
    connection = handshake(ServerTls(*files).context, name=name)
    assert serial(connection) == made.serial
    assert connection.version() == "TLSv1.3"


def test_the_key_may_stand_in_the_file_of_the_certificate(files: tuple[Path, Path]) -> None:
    made = make_certificate()
    for content in (made.cert + made.key, made.key + made.cert):
        files[0].write_bytes(content)
        assert serial(handshake(ServerTls(files[0]).context)) == made.serial


@pytest.mark.parametrize(
    ("version", "ciphers", "fine"),
    [
        (ssl.TLSVersion.TLSv1_2, "ECDHE+AESGCM", True),
        (ssl.TLSVersion.TLSv1_2, "ECDHE+CHACHA20", True),
        (ssl.TLSVersion.TLSv1_2, "ECDHE+AES:!AESGCM:!AESCCM", False),
        (ssl.TLSVersion.TLSv1_2, "AES128-GCM-SHA256", False),
    ],
)
def test_an_older_client_must_have_a_good_cipher(
    files: tuple[Path, Path], version: ssl.TLSVersion, ciphers: str, fine: bool
) -> None:
    """No key exchange without forward secrecy, no CBC."""
    make_certificate(rsa_key=True).write(*files)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.maximum_version = version
    client.set_ciphers(ciphers)
    context = ServerTls(*files).context
    if fine:
        assert handshake(context, client=client).version() == "TLSv1.2"
    else:
        with pytest.raises(ssl.SSLError):
            handshake(context, client=client)


def test_nothing_older_than_tls_1_2(files: tuple[Path, Path]) -> None:
    make_certificate().write(*files)
    assert ServerTls(*files).context.minimum_version is ssl.TLSVersion.TLSv1_2


# ── what is refused at the start ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda made, cert, key: cert.unlink(), "server.tls_cert: cannot read {cert}: no such file"),
        (lambda made, cert, key: key.unlink(), "server.tls_key: cannot read {key}: no such file"),
        (lambda made, cert, key: (cert.unlink(), cert.mkdir()), "cannot read {cert}: is a directory"),
        (
            lambda made, cert, key: cert.write_bytes(b""),
            "server.tls_cert: {cert} holds no certificate in PEM",
        ),
        (
            lambda made, cert, key: cert.write_bytes(made.cert[:200]),
            "{cert} holds no certificate in PEM form",
        ),
        (lambda made, cert, key: cert.write_bytes(b"\xff" * 99), "{cert} holds no certificate in PEM form"),
        (
            lambda made, cert, key: key.write_bytes(made.cert),
            "server.tls_key: {key} holds no private key in PEM",
        ),
        (
            lambda made, cert, key: key.write_bytes(b"\x00"),
            "server.tls_key: {key} holds no private key in PEM",
        ),
        (
            lambda made, cert, key: key.write_bytes(make_certificate().key),
            "server.tls_key: {key} holds a key that does not belong to the certificate in {cert}",
        ),
        (
            lambda made, cert, key: make_certificate(passphrase="hush").write(cert, key),
            "server.tls_key: {key} holds a key with a passphrase; store one without",
        ),
    ],
)
def test_files_that_cannot_be_used_are_one_line_that_names_them(
    files: tuple[Path, Path], change: Callable[[Made, Path, Path], object], says: str
) -> None:
    made = make_certificate()
    made.write(*files)
    change(made, *files)
    with pytest.raises(SettingsError) as caught:
        ServerTls(*files)
    text = str(caught.value)
    assert says.format(cert=files[0], key=files[1]) in text
    assert "\n" not in text
    assert "PRIVATE" not in text


def test_a_certificate_without_its_key_says_what_to_set(files: tuple[Path, Path]) -> None:
    make_certificate().write(*files)
    with pytest.raises(
        SettingsError, match=r"no private key in PEM form; name its file with server\.tls_key"
    ):
        ServerTls(files[0])


# ── replacing ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["localhost", None])
@pytest.mark.parametrize(("before", "after"), [(False, False), (True, False), (False, True)])
def test_new_handshakes_get_the_new_certificate_and_nothing_of_the_old(
    files: tuple[Path, Path], name: str | None, before: bool, after: bool
) -> None:
    """Also a client that would rather have the old kind of key, and one that names no host."""
    make_certificate(rsa_key=before).write(*files)
    tls = serving(*files)
    new = make_certificate("new.example", rsa_key=after)
    new.write(*files)
    settled(tls)
    assert serial(handshake(tls.context, name=name)) == new.serial
    assert tls.served.names == ("new.example", "127.0.0.1")


def test_files_are_taken_once_they_are_left_alone(files: tuple[Path, Path]) -> None:
    """The certificate is there before its key: that is no failure, and nothing to warn of."""
    old, new = make_certificate(), make_certificate()
    old.write(*files)
    tls = serving(*files)
    files[0].write_bytes(new.cert)
    tls.look()
    files[1].write_bytes(new.key)
    tls.look()
    assert serial(handshake(tls.context)) == old.serial
    tls.look()
    assert serial(handshake(tls.context)) == new.serial


@pytest.mark.parametrize("name", ["localhost", None])
def test_files_that_do_not_fit_leave_the_old_certificate_whole(
    files: tuple[Path, Path], name: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = make_certificate(), make_certificate()
    old.write(*files)
    tls = serving(*files)
    files[0].write_bytes(new.cert)
    for _ in range(4):
        tls.look()
        assert serial(handshake(tls.context, name=name)) == old.serial
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "the one before goes on: server.tls_key" in record.getMessage()
    files[1].write_bytes(new.key)
    settled(tls)
    assert serial(handshake(tls.context, name=name)) == new.serial


def test_a_connection_that_is_open_is_not_concerned(files: tuple[Path, Path]) -> None:
    make_certificate().write(*files)
    tls = serving(*files)
    before = handshake(tls.context)
    first = serial(before)
    make_certificate().write(*files)
    settled(tls)
    assert serial(before) == first
    assert before.cipher() is not None


def test_what_is_not_touched_is_not_read_again(files: tuple[Path, Path]) -> None:
    make_certificate().write(*files)
    tls = serving(*files)
    served = tls.served
    settled(tls)
    assert tls.served is served


def test_a_certificate_that_ends_soon_or_has_ended_is_told_of(
    files: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """It is used all the same: better a warning in a browser than nothing at all."""
    make_certificate(valid_s=3_600).write(*files)
    ServerTls(*files)
    assert "expires within a day" in caplog.text
    make_certificate(valid_s=-60).write(*files)
    ServerTls(*files)
    assert "has expired" in caplog.text
    caplog.clear()
    make_certificate(valid_s=90_000).write(*files)
    ServerTls(*files)
    assert caplog.records == []


def test_it_says_whose_it_is(files: tuple[Path, Path]) -> None:
    make_certificate(*(f"h{number}.example" for number in range(9))).write(*files)
    text = str(ServerTls(*files).served)
    assert text.startswith("certificate for h0.example, h1.example, ")
    assert " and 5 more, valid until 20" in text
