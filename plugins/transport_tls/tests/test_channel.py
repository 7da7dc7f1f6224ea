"""TLS without sockets: who is trusted and who is not, records cut anywhere, and nonsense."""

import ssl
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ltunnel.plugin import TransportContext
from ltunnel_transport_tls import ltunnel_transport
from ltunnel_transport_tls.certificate import Pair, make_pair
from ltunnel_transport_tls.channel import RECORD, RECORD_COST, Channel
from ltunnel_transport_tls.options import TlsOptions, server_context

NOW = datetime.now(UTC)
ROOM = 1 << 18


class Ends:
    """A node's and a hub's channel, and what each says at last."""

    def __init__(self, client: Channel, server: Channel) -> None:
        self.client, self.server = client, server
        self.errors: dict[str, str] = {}
        self.got = {"client": b"", "server": b""}

    def pass_on(self, name: str, data: bytes, step: int = ROOM) -> None:
        """Give bytes to one end, `step` at a time."""
        channel: Channel = getattr(self, name)
        target = bytearray(ROOM)
        for at in range(0, len(data), step):
            if name in self.errors:
                return
            end = channel.receive(memoryview(data)[at : at + step], memoryview(target), 3)
            self.got[name] += target[3:end]
            if channel.ended is not None:
                self.errors[name] = channel.ended

    def shake(self, step: int = ROOM) -> "Ends":
        """Let the handshake take its course."""
        to_server = self.client.start()
        for _ in range(4):
            self.pass_on("server", to_server, step)
            self.pass_on("client", self.server.output(), step)
            to_server = self.client.output()
        self.pass_on("server", to_server, step)
        self.pass_on("client", self.server.output(), step)
        return self


def node_channel(name: str = "hub.example", **fields: object) -> Channel:
    """The channel that a node makes by these options."""
    context = TransportContext(listen=None, remote=("203.0.113.1", 443), remote_name=name)
    port = type("Port", (), {"room": None})()
    descriptor = ltunnel_transport()
    return descriptor.create(TlsOptions.model_validate(fields), [port], context)._connect()


def hub_channel(files, **fields: object) -> Channel:
    return Channel(server_context(TlsOptions.model_validate(files.hub | fields)), server_side=True)


def connect(files, name: str = "hub.example", **fields: object) -> Ends:
    return Ends(node_channel(name, **fields), hub_channel(files)).shake()


@pytest.fixture
def make(write):
    """Make a pair in files: names, and from when on it is valid for how many days."""

    def make(*names, begin=timedelta(), days=30):
        return write(make_pair(names or ["hub.example"], now=NOW + begin, days=days))

    return make


def sign(issuer: x509.Certificate | None, issuer_key: ec.EllipticCurvePrivateKey | None, name: str, *, ca: bool):
    """A certificate of a CA, or by one, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(issuer_key or key, hashes.SHA256())
    )
    return certificate, key


def test_a_certificate_by_a_ca(tmp_path, write):
    root, root_key = sign(None, None, "root", ca=True)
    leaf, leaf_key = sign(root, root_key, "hub.example", ca=False)
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    key = leaf_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    files = write(Pair(leaf.public_bytes(pem), key, ""))
    (tmp_path / "ca.pem").write_bytes(root.public_bytes(pem))
    ca = str(tmp_path / "ca.pem")

    ends = connect(files, ca=ca)
    assert (ends.errors, ends.client.ready, ends.server.ready) == ({}, True, True)
    assert "unable to get local issuer certificate" in connect(files).errors["client"]
    assert "not valid for 'other.example'" in connect(files, "other.example", ca=ca).errors["client"]
    assert connect(files, "other.example", ca=ca, server_name="hub.example").errors == {}


def test_an_address_is_a_name_too(files):
    assert connect(files, "203.0.113.1", ca=files.cert).errors == {}
    assert connect(files, "", ca=files.cert).errors == {}, "without a name, the address that is connected to"
    assert "not valid for '192.0.2.9'" in connect(files, "192.0.2.9", ca=files.cert).errors["client"]


def test_expired_and_not_yet_valid(make):
    expired = make(begin=timedelta(days=-40))
    assert "certificate has expired" in connect(expired, ca=expired.cert).errors["client"]
    future = make(begin=timedelta(days=5))
    assert "certificate is not yet valid" in connect(future, ca=future.cert).errors["client"]
    for files in (expired, future):
        assert connect(files, pin=files.pair.pin).errors == {}, "a pin does not look at dates"
        assert connect(files, skip_verify=True).errors == {}


def test_self_signed(make):
    files = make()
    ends = connect(files)
    assert "self-signed certificate" in ends.errors["client"]
    assert "unknown ca" in ends.errors["server"], "it is told"
    assert not ends.client.ready
    assert not ends.server.ready
    for options in ({"ca": files.cert}, {"pin": files.pair.pin}, {"skip_verify": True}):
        ends = connect(files, **options)
        assert (ends.errors, ends.client.ready) == ({}, True)


def test_pins(make):
    files, other = make("wrong.example"), make()
    certificate = x509.load_pem_x509_certificate(files.pair.certificate)
    assert connect(files, pin=certificate.fingerprint(hashes.SHA256()).hex(":")).errors == {}
    assert connect(files, pin=[other.pair.pin, files.pair.pin]).errors == {}
    ends = connect(files, pin=other.pair.pin)
    assert ends.errors["client"] == "the server's certificate has none of the pinned fingerprints"
    assert not ends.client.ready


@pytest.mark.parametrize("old", ["client", "server"])
def test_tls_1_2_is_refused(files, old):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if old == "client" else ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if old == "client":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        ends = Ends(Channel(context), hub_channel(files))
    else:
        context.load_cert_chain(files.cert, files.key)
        ends = Ends(node_channel(pin=files.pair.pin), Channel(context, server_side=True))
    ends.shake()
    assert set(ends.errors) == {"client", "server"}
    assert not ends.client.ready
    assert not ends.server.ready


@pytest.mark.parametrize(("client", "server", "spoken"), [
    (["http/1.1"], ["http/1.1"], "http/1.1"), (["h2", "http/1.1"], ["http/1.1"], "http/1.1"),
    ([], ["http/1.1"], None), (["h2"], ["http/1.1"], None),
])  # fmt: skip
def test_alpn_is_settable_and_no_obstacle(files, client, server, spoken):
    ends = Ends(node_channel(pin=files.pair.pin, alpn=client), hub_channel(files, alpn=server)).shake()
    assert ends.errors == {}
    assert ends.client._tls.selected_alpn_protocol() == ends.server._tls.selected_alpn_protocol() == spoken


def test_the_name_goes_out_as_sni(files):
    assert b"hub.example" in node_channel(pin=files.pair.pin).start()
    assert b"front.example" in node_channel(pin=files.pair.pin, server_name="front.example").start()
    assert b"203.0.113.1" not in node_channel("203.0.113.1", pin=files.pair.pin).start()


def test_every_cut_of_a_conversation(files):
    """Each end gets what the other says in two pieces, cut at each place in turn; or byte by byte."""
    for step in (1, 2, 5, 7):
        ends = Ends(node_channel(pin=files.pair.pin), hub_channel(files)).shake(step)
        assert (ends.errors, ends.client.ready, ends.server.ready) == ({}, True, True)
        said = ends.client.seal(memoryview(b"question" * 9))
        ends.pass_on("server", said, step)
        assert ends.got["server"] == b"question" * 9
    ends = Ends(node_channel(pin=files.pair.pin), hub_channel(files)).shake()
    size = len(ends.client.seal(memoryview(b"x" * 40)))
    ends.pass_on("server", b"")
    ends = Ends(node_channel(pin=files.pair.pin), hub_channel(files)).shake()
    for cut in range(size + 1):
        records = ends.client.seal(memoryview(bytes((cut,)) * 40))
        ends.got["server"] = b""
        ends.pass_on("server", records[:cut])
        assert ends.got["server"] == (bytes((cut,)) * 40 if cut == size else b"")
        ends.pass_on("server", records[cut:])
        assert ends.got["server"] == bytes((cut,)) * 40


def test_records_cost_what_is_reckoned_with(files):
    ends = Ends(node_channel(pin=files.pair.pin), hub_channel(files)).shake()
    for size in (1, 100, RECORD - 1, RECORD, RECORD + 1, 65_000):
        records = ends.client.seal(memoryview(bytes(size)))
        assert len(records) <= size + RECORD_COST * (size // RECORD + 1)


def test_an_orderly_end(files):
    ends = Ends(node_channel(pin=files.pair.pin), hub_channel(files)).shake()
    ends.pass_on("server", ends.client.seal(memoryview(b"last words")) + ends.client.finish() + b"and more" * 9)
    assert ends.errors == {"server": "the far end closed it"}
    assert ends.got["server"] == b"last words"
    fresh = node_channel(pin=files.pair.pin)
    fresh.start()
    assert fresh.finish() == b""


def test_nonsense_never_raises_anything_else(files):
    random = Random(1)
    genuine = node_channel(pin=files.pair.pin).start()
    for i in range(300):
        data = bytearray(genuine) if i % 2 else bytearray(random.randbytes(random.choice((1, 5, 200, 5000))))
        for _ in range(random.randint(1, 6)):
            data[random.randrange(len(data))] = random.randrange(256)
        ends = Ends(node_channel(pin=files.pair.pin), hub_channel(files))
        ends.pass_on("server", bytes(data))
        ends.client.start()
        ends.pass_on("client", bytes(data))
        for text in ends.errors.values():
            assert text.isprintable()
            assert text


def test_tampered_records_end_it(files):
    ends = Ends(node_channel(pin=files.pair.pin), hub_channel(files)).shake()
    records = bytearray(ends.client.seal(memoryview(b"x" * 100)))
    records[50] ^= 1
    ends.pass_on("server", bytes(records))
    assert "mac" in ends.errors["server"] or "decrypt" in ends.errors["server"]
    assert ends.got["server"] == b""
