"""Certificates for servers and clients, with a CommonName or without, for one use or for both."""

from __future__ import annotations

import datetime as dt
import ipaddress
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


class Authority:
    """Issues certificates. trustme's have no CommonName and always both uses, and etcd looks at both."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="consul-access-authority-")
        self.home = Path(self.folder.name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the authority of the tests")])
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = self._builder(self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self._certificate = builder.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        self.file = self.home / "authority.pem"
        self.file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, folder: Path, host: str, *, clients_too: bool = True) -> tuple[Path, Path]:
        """A server's certificate and its key, in files; unless it is for clients too, only servers may use it."""
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, *([ExtendedKeyUsageOID.CLIENT_AUTH] if clients_too else [])]
        names = x509.SubjectAlternativeName(
            [x509.IPAddress(ipaddress.ip_address(host)), x509.DNSName("localhost")],
        )
        return self._issue(folder, "server", x509.Name([]), uses, names)

    def client(self, *, common_name: str | None) -> tuple[Path, Path]:
        """A client's certificate and its key, in files."""
        attributes = [] if common_name is None else [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "tests"), *attributes])
        stem = f"client-{common_name or 'nobody'}"
        if (self.home / f"{stem}.pem").exists():
            return self.home / f"{stem}.pem", self.home / f"{stem}.key"
        return self._issue(self.home, stem, name, [ExtendedKeyUsageOID.CLIENT_AUTH], None)

    def close(self) -> None:
        self.folder.cleanup()

    def _issue(
        self,
        folder: Path,
        stem: str,
        name: x509.Name,
        uses: list[x509.ObjectIdentifier],
        names: x509.SubjectAlternativeName | None,
    ) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(name, key.public_key()).add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        if names is not None:
            builder = builder.add_extension(names, critical=not list(name))
        certificate = builder.sign(self._key, hashes.SHA256())
        pem, private = folder / f"{stem}.pem", folder / f"{stem}.key"
        pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return pem, private

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=2))
            .add_extension(identifier, critical=False)
            .add_extension(issuer, critical=False)
        )
