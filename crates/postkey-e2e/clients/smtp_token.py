"""Prints an application's access token for SMTP, as a script's token helper would."""

import environment
import msal

app = msal.ConfidentialClientApplication(
    environment.CLIENT_ID,
    authority=environment.AUTHORITY,
    client_credential=environment.CLIENT_SECRET,
    instance_discovery=False,
)
print(app.acquire_token_for_client(["https://outlook.office365.com/.default"])["access_token"], end="")
