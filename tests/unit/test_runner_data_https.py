"""What a run fetches by https: certificates, redirects out of TLS, and proxies."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kinetic_flows.runner_image.runner.contract import Fault

from kinetic_flows.core.job_parts import DataSpec
from loopback.wire import Request, Response, WireServer
from stored_data import Bring, a_run

CONTENT = b"by https"


@pytest.fixture
def bring(tmp_path: Path) -> Iterator[Bring]:
    with a_run(tmp_path) as bring:
        yield bring


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of this machine, and its key behind it, which nobody trusts but who is told."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@pytest.fixture
def secure(certificate: Path) -> Iterator[WireServer]:
    """A server with TLS, which redirects out of it where it is asked to."""

    def answer(request: Request) -> Response:
        if request.path.startswith("/plain/"):
            return Response(status=302, headers={"Location": "http://127.0.0.1:9/file"})
        return Response(body=CONTENT)

    server = WireServer(answer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    yield server.start()
    server.stop()


def spec_of(url: str) -> DataSpec:
    return DataSpec(
        kind="web",
        identity=hashlib.sha256(CONTENT).hexdigest(),
        source=url,
        name="file",
        is_file=True,
        place={"url": url},
    )


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_certificates_that_the_machine_names_are_trusted(
    secure: WireServer, bring: Bring, certificate: Path, variable: str
) -> None:
    url = f"https://127.0.0.1:{secure.port}/file"
    [path] = bring(spec_of(url), **{variable: str(certificate)})
    assert Path(path).read_bytes() == CONTENT


def test_a_certificate_that_nobody_trusts_is_told_at_once(secure: WireServer, bring: Bring) -> None:
    with pytest.raises(Fault, match=r"does not answer as it should: .*CERTIFICATE_VERIFY_FAILED"):
        bring(spec_of(f"https://127.0.0.1:{secure.port}/file"))
    assert secure.requests == []


def test_no_redirect_leads_out_of_tls(secure: WireServer, bring: Bring, certificate: Path) -> None:
    with pytest.raises(Fault, match=r"redirects to 127\.0\.0\.1:9 without TLS"):
        bring(
            spec_of(f"https://127.0.0.1:{secure.port}/plain/file"), SSL_CERT_FILE=str(certificate)
        )


def test_a_proxy_of_the_environment_is_asked(bring: Bring, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def proxy(request: Request) -> Response:
        asked.append(request.target)
        return Response(body=CONTENT)

    server = WireServer(proxy).start()
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    [path] = bring(spec_of("http://files.invalid/file"))
    server.stop()
    assert asked == ["http://files.invalid/file"]
    assert Path(path).read_bytes() == CONTENT


def test_a_proxy_that_does_not_answer_is_named_without_its_password(
    bring: Bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinetic_flows.runner_image.runner.data_http.TRIES", 1)
    monkeypatch.setenv("http_proxy", "http://me:password@127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(Fault, match=r"files\.invalid \(by the proxy 127\.0\.0\.1:9\)") as caught:
        bring(spec_of("http://files.invalid/file"))
    assert "password" not in caught.value.message
