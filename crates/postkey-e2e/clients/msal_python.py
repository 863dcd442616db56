"""MSAL for Python: secret, certificate (RS256 and PS256), authorization code with PKCE, refresh, device code."""

import base64
import json

import environment
from environment import AUTHORITY, CLIENT_ID, CLIENT_SECRET, GRAPH, GRAPH_DEFAULT, check, until

import msal
import requests
from browser import Browser
from directory import Certificate, upload

REDIRECT = "http://localhost:53682"


def confidential(credential, authority=AUTHORITY):
    """The application with this credential; the switch is the one documented for private authorities."""
    return msal.ConfidentialClientApplication(
        CLIENT_ID, authority=authority, client_credential=credential, instance_discovery=False
    )


def graph(token, path, **options):
    method = "POST" if "json" in options else "GET"
    headers = {"Authorization": f"Bearer {token}", **options.pop("headers", {})}
    return requests.request(method, GRAPH + path, headers=headers, timeout=30, **options)


def claims(token):
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def by_secret():
    app = confidential(CLIENT_SECRET)
    answer = app.acquire_token_for_client([GRAPH_DEFAULT])
    check("a secret gets a token", "access_token" in answer, answer)
    again = app.acquire_token_for_client([GRAPH_DEFAULT])
    check("the second one comes from MSAL's cache", again.get("token_source") == "cache", again)
    check("it names the Mail.Send role", "Mail.Send" in claims(answer["access_token"])["roles"], answer)
    message = {
        "message": {
            "subject": "sent with MSAL for Python",
            "body": {"contentType": "Text", "content": "hello"},
            "toRecipients": [{"emailAddress": {"address": environment.USER_NAME}}],
        }
    }
    sent = graph(answer["access_token"], f"/users/{environment.SENDER}/sendMail", json=message)
    check("it sends a mail: 202 without a body", (sent.status_code, sent.content) == (202, b""), sent.text)
    wrong = confidential(CLIENT_SECRET[:-1] + "!").acquire_token_for_client([GRAPH_DEFAULT])
    check("a wrong secret is refused with 7000215", wrong.get("error_codes") == [7000215], wrong)


def wrong_tenant():
    nowhere = f"{environment.AUTHORITY_HOST}/00000000-1111-4222-8333-444444444444"
    try:
        answer = confidential(CLIENT_SECRET, authority=nowhere).acquire_token_for_client([GRAPH_DEFAULT])
    except ValueError as refused:
        answer = str(refused)
    check("MSAL finds no configuration for an unknown tenant", "authority configuration" in str(answer), answer)
    answer = requests.get(f"{nowhere}/v2.0/.well-known/openid-configuration", timeout=30)
    codes = answer.json().get("error_codes")
    check("since discovery refuses it with 90002", (answer.status_code, codes) == (400, [90002]), answer.text)


def by_certificate():
    certificate = Certificate()
    upload(certificate)
    credentials = {
        "RS256 and x5t": {"private_key": certificate.key, "thumbprint": certificate.thumbprint},
        "PS256 and x5t#S256": {"private_key": certificate.key, "public_certificate": certificate.pem},
    }
    for name, credential in credentials.items():
        # A new object each time: MSAL would repeat an earlier refusal from its own cache.
        what = f"a certificate gets a token: {name}"
        until(what, lambda: "access_token" in confidential(credential).acquire_token_for_client([GRAPH_DEFAULT]))
        check(what, True)


def by_code():
    app = confidential(CLIENT_SECRET)
    scopes = ["User.Read", "Mail.Send", "Mail.ReadWrite"]
    flow = app.initiate_auth_code_flow(
        scopes, redirect_uri=REDIRECT, login_hint=environment.USER_NAME, response_mode="form_post"
    )
    answer = Browser().visit(flow["auth_uri"], redirect=REDIRECT)
    check("the sign-in and consent pages lead back with a code", "code" in answer, answer)
    tokens = app.acquire_token_by_auth_code_flow(flow, answer)
    check("the code and its PKCE verifier get tokens", "access_token" in tokens, tokens)
    user = tokens["id_token_claims"]
    check("the id_token names the user", user["preferred_username"] == environment.USER_NAME, user)
    me = graph(tokens["access_token"], "/me")
    check("the token reads /me", me.status_code == 200, me.text)
    again = app.acquire_token_by_auth_code_flow(dict(flow), answer)
    check("the code serves once: 54005", again.get("error_codes") == [54005], again)

    account = app.get_accounts()[0]
    fresh = app.acquire_token_silent(scopes, account, force_refresh=True)
    check("the refresh token gets another token", fresh and "access_token" in fresh, fresh)
    check("which is not the first one", fresh["access_token"] != tokens["access_token"])
    again = app.acquire_token_silent(scopes, account, force_refresh=True)
    check("and the rotated refresh token one more", again and "access_token" in again, again)


def by_device_code():
    app = msal.PublicClientApplication(
        environment.COMMAND_LINE_TOOLS, authority=AUTHORITY, instance_discovery=False
    )
    flow = app.initiate_device_flow(["User.Read"])
    check("a device code is handed out", "user_code" in flow, flow)
    page = Browser(environment.ADMIN_USER, environment.ADMIN_PASSWORD).visit(
        flow["verification_uri"], code=flow["user_code"]
    )
    tokens = app.acquire_token_by_device_flow(flow, exit_condition=lambda flow: True)
    check("once the code is typed and the person signed in, it gets tokens", "access_token" in tokens, (page, tokens))


if __name__ == "__main__":
    by_secret()
    wrong_tenant()
    by_certificate()
    by_code()
    by_device_code()
