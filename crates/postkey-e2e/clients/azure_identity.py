"""azure-identity for Python: secret, certificate, client assertion, device code, and a browser on loopback."""

import threading
import webbrowser

import environment
from environment import AUTHORITY_HOST, CLIENT_ID, CLIENT_SECRET, GRAPH, GRAPH_DEFAULT, TENANT_ID, check, until

import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import (
    AuthorizationCodeCredential,
    CertificateCredential,
    ClientSecretCredential,
    DeviceCodeCredential,
    InteractiveBrowserCredential,
)
from browser import Browser
from directory import Certificate, upload
from urllib.parse import urlencode

# The switches documented for private authorities.
PRIVATE = {"authority": AUTHORITY_HOST, "disable_instance_discovery": True}


def administrator():
    return Browser(environment.ADMIN_USER, environment.ADMIN_PASSWORD)


def refusal(credential):
    try:
        return credential.get_token(GRAPH_DEFAULT) and None
    except ClientAuthenticationError as refused:
        return str(refused)


def by_secret():
    token = ClientSecretCredential(TENANT_ID, CLIENT_ID, CLIENT_SECRET, **PRIVATE).get_token(GRAPH_DEFAULT)
    answer = requests.get(
        f"{GRAPH}/users/{environment.SENDER}", headers={"Authorization": f"Bearer {token.token}"}, timeout=30
    )
    check("a secret gets a token that Graph takes", answer.status_code == 200, answer.text)
    refused = refusal(ClientSecretCredential(TENANT_ID, CLIENT_ID, "not~the~secret", **PRIVATE))
    check("a wrong secret is refused with 7000215", refused and "AADSTS7000215" in refused, refused)


def by_certificate():
    certificate = Certificate()
    upload(certificate)
    pem = (certificate.key + certificate.pem).encode()
    for chain in (False, True):
        what = f"a certificate gets a token, {'with' if chain else 'without'} x5c"

        def attempt():
            credential = CertificateCredential(
                TENANT_ID, CLIENT_ID, certificate_data=pem, send_certificate_chain=chain, **PRIVATE
            )
            try:
                return credential.get_token(GRAPH_DEFAULT).token
            except ClientAuthenticationError:
                return None

        until(what, attempt)
        check(what, True)


def by_code():
    redirect = "http://localhost/myapps/"
    asked = {
        "client_id": CLIENT_ID,
        "response_type": "code",
        "redirect_uri": redirect,
        "response_mode": "query",
        "scope": "offline_access https://graph.microsoft.com/User.Read",
        "state": "a state",
    }
    url = f"{AUTHORITY_HOST}/{TENANT_ID}/oauth2/v2.0/authorize?{urlencode(asked)}"
    answer = Browser().visit(url, redirect=redirect)
    check("a hand-made authorize URL leads back with a code", "code" in answer, answer)
    check("and with the state as sent", answer["state"] == "a state", answer)
    credential = AuthorizationCodeCredential(
        TENANT_ID, CLIENT_ID, answer["code"], redirect, client_secret=CLIENT_SECRET, authority=AUTHORITY_HOST
    )
    check("the code gets a token", credential.get_token("https://graph.microsoft.com/User.Read").token)


def by_device_code():
    def prompt(address, code, _ends):
        administrator().visit(address, code=code)

    credential = DeviceCodeCredential(
        environment.COMMAND_LINE_TOOLS, tenant_id=TENANT_ID, prompt_callback=prompt, timeout=60, **PRIVATE
    )
    record = credential.authenticate(scopes=["https://graph.microsoft.com/User.Read"])
    check("a device code signs the person in", record.username == environment.ADMIN_USER, record.username)
    check("and the token is there without asking again", credential.get_token("https://graph.microsoft.com/User.Read").token)


class PlayedBrowser(webbrowser.BaseBrowser):
    """Opens pages as a real browser does: at once, while the caller listens for the redirect."""

    def open(self, url, new=0, autoraise=True):
        visit = lambda: administrator().visit(url, redirect="http://localhost:", deliver=True)
        threading.Thread(target=visit, daemon=True).start()
        return True


def by_browser():
    webbrowser.register("played", None, PlayedBrowser("played"), preferred=True)
    credential = InteractiveBrowserCredential(
        client_id=environment.COMMAND_LINE_TOOLS, tenant_id=TENANT_ID, timeout=60, **PRIVATE
    )
    token = credential.get_token("https://graph.microsoft.com/User.Read")
    check("a browser and a port on loopback get a token", token.token)


if __name__ == "__main__":
    by_secret()
    by_certificate()
    by_code()
    by_device_code()
    by_browser()
