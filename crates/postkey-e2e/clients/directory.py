"""Putting a certificate on the application, as an administrator's script would: plain requests to Graph."""

import base64
import datetime

import environment
import msal
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID


class Certificate:
    """A fresh key with a self-signed certificate."""

    def __init__(self, name="postkey real clients"):
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        now = datetime.datetime.now(datetime.timezone.utc)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=90))
            .sign(key, hashes.SHA256())
        )
        self.key = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        self.pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        self.der = certificate.public_bytes(serialization.Encoding.DER)
        self.thumbprint = certificate.fingerprint(hashes.SHA1()).hex().upper()


def administrator_token():
    """A Graph token of the app that may manage applications."""
    app = msal.ConfidentialClientApplication(
        environment.ADMIN_CLIENT_ID,
        authority=environment.AUTHORITY,
        client_credential=environment.ADMIN_CLIENT_SECRET,
        instance_discovery=False,
    )
    answer = app.acquire_token_for_client([environment.GRAPH_DEFAULT])
    environment.check("the administrator's app gets a token", "access_token" in answer, answer)
    return answer["access_token"]


def upload(certificate):
    """Adds the certificate to the application by PATCH, which replaces the list: what is there goes along."""
    headers = {"Authorization": f"Bearer {administrator_token()}"}
    application = f"{environment.GRAPH}/applications(appId='{environment.CLIENT_ID}')"
    answer = requests.get(f"{application}?$select=id,keyCredentials", headers=headers, timeout=30)
    environment.check("the application is found by its appId", answer.status_code == 200, answer.text)
    new = {
        "type": "AsymmetricX509Cert",
        "usage": "Verify",
        "displayName": "real clients",
        "key": base64.b64encode(certificate.der).decode(),
    }
    found = answer.json()
    body = {"keyCredentials": found["keyCredentials"] + [new]}
    answer = requests.patch(f"{environment.GRAPH}/applications/{found['id']}", headers=headers, json=body, timeout=30)
    environment.check("the certificate is added", answer.status_code == 204, answer.text)
