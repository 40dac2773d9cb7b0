"""Errors for proxies, certificates and addresses with which no request can succeed: named, before anything is sent."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from openreward_gym.errors import ConfigurationError, MissingExtraError, OpenRewardGymError, TransportError
from openreward_gym.options import RetryLimits
from openreward_gym.protocol.client import Client
from openreward_gym.protocol.proxies import Proxy, proxy_of
from openreward_gym.protocol.request import Request
from openreward_gym.protocol.tls import trusted_certificates
from openreward_gym.protocol.transport import TRANSPORTS

pytestmark = pytest.mark.anyio

LIMITS = RetryLimits(attempts=2, first_wait_s=0.01, longest_wait_s=0.05)
FAR = "http://environments.invalid:8080"
PASSWORD = "pw-7Qz81hVt"


@pytest.fixture(params=sorted(TRANSPORTS))
def name(request: pytest.FixtureRequest) -> str:
    """The name of each transport in turn."""
    param: str = request.param
    return param


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)


async def failure(url: str, name: str) -> OpenRewardGymError:
    """The error of a request. The password stands nowhere in it, nor in the variables of its frames."""
    async with Client(url, transport=name, retry_limits=LIMITS, request_timeout_s=10.0) as client:
        with pytest.raises(OpenRewardGymError) as caught:
            await client.health()
    error = caught.value
    shown = "".join(traceback.TracebackException.from_exception(error).format())
    assert PASSWORD not in shown + repr(error) + repr(vars(error))
    assert error.__context__ is None or isinstance(error.__context__, OpenRewardGymError)
    return error


# Proxies -------------------------------------------------------------------------------------------------------------------

MALFORMED = [
    "http://[",
    "http://:99999",
    "http://proxy:99999",
    f"http://me:{PASSWORD}@proxy:port",
    f"http://me:{PASSWORD}",
    f"http://me:{PASSWORD}@",
    f"http://me:{PASSWORD}@pro xy:1",
    "http://pro\x01xy:1",
    "http://",
    "://proxy:1",
    "http://a..b:1",
    "http://" + "x" * 80 + ":1",
    f"ftp://me:{PASSWORD}@proxy:1",
    f"socks4://me:{PASSWORD}@proxy:1",
    "socks://proxy:1",
    "quic+x://proxy:1",
]


@pytest.mark.parametrize("setting", MALFORMED)
async def test_a_proxy_setting_that_cannot_work(monkeypatch: pytest.MonkeyPatch, name: str, setting: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", setting)
    error = await failure(FAR, name)
    assert isinstance(error, ConfigurationError)
    assert "proxy" in str(error).lower()
    assert "HTTP_PROXY" in str(error)
    assert "NO_PROXY" in str(error)
    # The settings for other servers do not matter.
    assert "proxy" not in str(await failure("http://127.0.0.1:1", name)).lower()


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
async def test_socks_without_its_package(monkeypatch: pytest.MonkeyPatch, name: str, scheme: str) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    monkeypatch.setenv("all_proxy", f"{scheme}://me:{PASSWORD}@127.0.0.1:9")
    error = await failure(FAR, name)
    assert isinstance(error, MissingExtraError)
    assert 'pip install "httpx[socks]"' in str(error)
    assert "all_proxy" in str(error)


@given(setting=st.text(max_size=30) | st.from_regex(r"(https?|socks5h?)://[ -~]{0,20}", fullmatch=True))
@settings(max_examples=200, deadline=None)
def test_any_proxy_setting_has_a_url_or_a_named_error(setting: str) -> None:
    proxy = Proxy(setting, "HTTP_PROXY")
    assert isinstance(repr(proxy) + proxy.advice(), str)
    try:
        transport = TRANSPORTS["httpx"]("http://127.0.0.1")
        proxy.url()
    except ConfigurationError:
        return
    assert transport


@asynccontextmanager
async def answering(answer: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """The port of a server that answers so to each request, and the first bytes that it reads."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.read(65536))
        writer.write(answer)
        try:
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], heads
    finally:
        server.close()


@pytest.mark.parametrize(
    ("url", "answer", "tries"),
    [
        ("https://environments.invalid", b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", 1),
        ("https://environments.invalid", b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", 2),
        ("http://environments.invalid", b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", 1),
        ("http://environments.invalid", b"SSH-2.0-x\r\n", 2),
    ],
)
async def test_a_proxy_that_does_not_forward(
    monkeypatch: pytest.MonkeyPatch, name: str, url: str, answer: bytes, tries: int
) -> None:
    async with answering(answer) as (port, heads):
        monkeypatch.setenv("ALL_PROXY", f"http://me:{PASSWORD}@127.0.0.1:{port}")
        error = await failure(url, name)
        assert len(heads) == tries
    assert isinstance(error, TransportError)
    assert error.delivery == ("not_sent" if b"HTTP" in answer else "possibly_delivered")
    assert f"proxy http://127.0.0.1:{port} (ALL_PROXY)" in str(error)
    assert "NO_PROXY" in str(error)


@pytest.mark.parametrize("url", ["http://environments.invalid", "https://environments.invalid"])
async def test_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch, name: str, url: str) -> None:
    monkeypatch.setenv("all_proxy", f"http://me:{PASSWORD}@127.0.0.1:1")
    error = await failure(url, name)
    assert isinstance(error, TransportError)
    assert error.delivery == "not_sent"
    assert "proxy http://127.0.0.1:1 (all_proxy)" in str(error)


async def test_a_proxy_that_forwards(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    async with answering(b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"status":"ok"}') as (port, heads):
        monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{port}")
        async with Client(FAR, transport=name) as client:
            assert await client.health() == {"status": "ok"}
    assert heads[0].startswith(b"GET http://environments.invalid:8080/health HTTP/1.1\r\n")


def test_the_proxy_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://secure:1")
    monkeypatch.setenv("ALL_PROXY", "http://any:1")
    monkeypatch.setenv("NO_PROXY", "near.example, ,[")
    assert proxy_of("https://far.example") == Proxy("http://secure:1", "HTTPS_PROXY")
    assert proxy_of("http://far.example") == Proxy("http://any:1", "ALL_PROXY")
    assert proxy_of("http://a.near.example") is proxy_of("https://near.example") is proxy_of("http://localhost:1") is None


# Certificates --------------------------------------------------------------------------------------------------------------


def certificate(folder: Path, *, days: tuple[int, int] = (-1, 1), host: str = "127.0.0.1", issuer: str = "") -> Path:
    """A certificate with its key, valid on these days from now. Signed by itself, or by an authority that nobody knows."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = ec.generate_private_key(ec.SECP256R1()) if issuer else key
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server")])
    now = datetime.datetime.now(datetime.UTC)
    names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)]
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer or "server")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(signer, hashes.SHA256())
    )
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "server.pem"
    path.write_bytes(secret + signed.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize(
    ("options", "is_trusted", "advice"),
    [
        ({"days": (-9, -2)}, True, "has expired"),
        ({"days": (2, 9)}, True, "not valid yet"),
        ({"host": "other.example"}, True, "another host name"),
        ({}, False, "SSL_CERT_FILE"),
        ({"issuer": "Nobody's authority"}, False, "SSL_CERT_FILE"),
    ],
)
async def test_a_certificate_that_is_not_accepted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, options: dict[str, object], is_trusted: bool, advice: str
) -> None:
    path = certificate(tmp_path, **options)  # type: ignore[arg-type]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    async with answering(b"", tls=context) as (port, heads):
        error = await failure(f"https://127.0.0.1:{port}", name)
        assert not heads
    assert isinstance(error, TransportError)
    assert (error.delivery, error.permanent) == ("not_sent", True)
    assert "no secure connection" in str(error)
    assert advice in str(error)


async def test_http_where_tls_is_spoken_and_the_reverse(tmp_path: Path, name: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    async with answering(b"", tls=context) as (port, heads):
        error = await failure(f"http://127.0.0.1:{port}", name)
        assert not heads
        assert isinstance(error, TransportError)
    assert "https://" in str(error) or "broke" in str(error)
    async with answering(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as (port, _):
        error = await failure(f"https://127.0.0.1:{port}", name)
    assert isinstance(error, TransportError)
    assert (error.delivery, error.permanent) == ("not_sent", True)
    assert "http://" in str(error)


async def test_a_tls_alert_names_the_scheme(name: str) -> None:
    async with answering(b"\x15\x03\x01\x00\x02\x02\x46") as (port, _):
        error = await failure(f"http://127.0.0.1:{port}", name)
    assert isinstance(error, TransportError)
    assert "write https://" in str(error)
    # h11, below httpx, does not say what it read.
    assert (error.delivery, error.permanent) == (("not_sent", True) if name == "fast" else ("possibly_delivered", False))


async def test_trusted_certificates_that_are_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    nothing = tmp_path / "nothing.pem"
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    for variable, value, problem in (
        ("SSL_CERT_FILE", nothing, "does not exist"),
        ("SSL_CERT_FILE", wrong, "not a file of certificates"),
        ("SSL_CERT_FILE", tmp_path, "SSL_CERT_FILE"),
        ("SSL_CERT_DIR", nothing, "not a folder"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(variable, str(value))
            error = await failure("https://127.0.0.1:1", name)
            assert isinstance(error, ConfigurationError)
            assert variable in str(error)
            assert problem in str(error)
            # Plain HTTP needs no certificates.
            assert isinstance(await failure("http://127.0.0.1:1", name), TransportError)
    assert trusted_certificates().verify_mode is ssl.CERT_REQUIRED


# Addresses -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["http://[", "http://h:99999", "http://h:x", "http://a b", "http://a\x01b", "http:///x", f"http://me:{PASSWORD}@[::1"]
)
async def test_what_is_no_url_is_refused_by_the_client(url: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a URL") as caught:
        Client(url)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["http://[", "http://h:99999/x", "http://a..b/x", "http://" + "x" * 70 + ".example/", "http://xn--\udcff/", "http://a\0b/"],
)
async def test_a_request_to_what_is_no_address(name: str, url: str) -> None:
    transport = TRANSPORTS[name]("http://127.0.0.1")
    with pytest.raises(TransportError) as caught:
        await transport.send(Request("GET", url, {}))
    assert caught.value.delivery == "not_sent"
    await transport.aclose()
