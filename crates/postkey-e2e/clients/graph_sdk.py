"""The official Graph SDK for Python: manages an application, sends a mail and reads it back."""

import asyncio
import uuid

import environment
from environment import CLIENT_ID, GRAPH, GRAPH_DEFAULT, TENANT_ID, check

from azure.identity import ClientSecretCredential
from kiota_abstractions.api_error import APIError
from kiota_authentication_azure.azure_identity_authentication_provider import AzureIdentityAuthenticationProvider
from msgraph import GraphRequestAdapter, GraphServiceClient
from msgraph.generated.applications.item.add_password.add_password_post_request_body import AddPasswordPostRequestBody
from msgraph.generated.applications.item.remove_password.remove_password_post_request_body import (
    RemovePasswordPostRequestBody,
)
from msgraph.generated.models.app_role_assignment import AppRoleAssignment
from msgraph.generated.models.application import Application
from msgraph.generated.models.body_type import BodyType
from msgraph.generated.models.email_address import EmailAddress
from msgraph.generated.models.file_attachment import FileAttachment
from msgraph.generated.models.item_body import ItemBody
from msgraph.generated.models.message import Message
from msgraph.generated.models.password_credential import PasswordCredential
from msgraph.generated.models.recipient import Recipient
from msgraph.generated.models.required_resource_access import RequiredResourceAccess
from msgraph.generated.models.resource_access import ResourceAccess
from msgraph.generated.models.service_principal import ServicePrincipal
from msgraph.generated.users.item.messages.messages_request_builder import MessagesRequestBuilder
from msgraph.generated.users.item.send_mail.send_mail_post_request_body import SendMailPostRequestBody

GRAPH_APP = "00000003-0000-0000-c000-000000000000"


def client(client_id, client_secret):
    """The SDK, pointed at another host by the two settings it has for that."""
    credential = ClientSecretCredential(
        TENANT_ID,
        client_id,
        client_secret,
        authority=environment.AUTHORITY_HOST,
        disable_instance_discovery=True,
    )
    host = GRAPH.split("/")[2].split(":")[0]
    provider = AzureIdentityAuthenticationProvider(credential, scopes=[GRAPH_DEFAULT], allowed_hosts=[host])
    adapter = GraphRequestAdapter(provider)
    adapter.base_url = GRAPH
    return GraphServiceClient(request_adapter=adapter)


async def eventually(what, attempt):
    """A tenant shows a new object to every one of its servers only after a moment: 404 and 400 until then."""
    for _ in range(200):
        try:
            return await attempt()
        except APIError as refused:
            if refused.response_status_code not in (400, 404):
                raise
            last = refused
        await asyncio.sleep(0.3)
    check(what, False, last)


async def manage_an_application():
    graph = client(environment.ADMIN_CLIENT_ID, environment.ADMIN_CLIENT_SECRET)
    resource = await graph.service_principals_with_app_id(GRAPH_APP).get()
    role = next(role for role in resource.app_roles if role.value == "Mail.Send")
    check("Microsoft Graph's service principal lists Mail.Send", str(role.id).startswith("b633e1c5"), role.id)

    name = f"real client {uuid.uuid4()}"
    wanted = RequiredResourceAccess(
        resource_app_id=GRAPH_APP, resource_access=[ResourceAccess(id=role.id, type="Role")]
    )
    made = await graph.applications.post(
        Application(display_name=name, sign_in_audience="AzureADMyOrg", required_resource_access=[wanted])
    )
    check("an application is created", made.app_id and made.display_name == name, made)
    one = graph.applications.by_application_id(made.id)
    try:
        body = AddPasswordPostRequestBody(password_credential=PasswordCredential(display_name="first"))
        secret = await eventually("add a secret", lambda: one.add_password.post(body))
        check("a secret is added and shown once", secret.secret_text and secret.key_id, secret)
        seen = await eventually("read the application", one.get)
        check("afterwards only its hint is shown", seen.password_credentials[0].secret_text is None)

        principal = await eventually(
            "make the service principal", lambda: graph.service_principals.post(ServicePrincipal(app_id=made.app_id))
        )
        check("its service principal is created", principal.app_id == made.app_id, principal)
        grants = graph.service_principals.by_service_principal_id(principal.id).app_role_assignments
        grant = AppRoleAssignment(
            principal_id=uuid.UUID(principal.id), resource_id=uuid.UUID(resource.id), app_role_id=role.id
        )
        await eventually("grant the role", lambda: grants.post(grant))
        listed = await eventually("list the grants", grants.get)
        check("the role is granted and listed", [g.app_role_id for g in listed.value] == [role.id], listed)

        page, found = await graph.applications.get(), []
        while page:
            found += [app.id for app in page.value]
            link = page.odata_next_link
            page = await graph.applications.with_url(link).get() if link else None
        check("the listing, page by page, contains it", made.id in found, found)

        remove = RemovePasswordPostRequestBody(key_id=secret.key_id)
        await one.remove_password.post(remove)
        seen = await one.get()
        check("the secret is removed", seen.password_credentials == [], seen.password_credentials)
    finally:
        await one.delete()
    try:
        await one.get()
        check("the application is gone", False)
    except APIError as refused:
        check("the application is gone: 404", refused.response_status_code == 404, refused)


async def send_and_read_back():
    graph = client(CLIENT_ID, environment.CLIENT_SECRET)
    subject, content = f"Grüße {uuid.uuid4()}", bytes(range(256)) * 40
    message = Message(
        subject=subject,
        body=ItemBody(content_type=BodyType.Text, content="the body"),
        to_recipients=[Recipient(email_address=EmailAddress(address=environment.USER_NAME))],
        attachments=[FileAttachment(name="bytes.bin", content_type="application/octet-stream", content_bytes=content)],
    )
    sender = graph.users.by_user_id(environment.SENDER)
    await sender.send_mail.post(SendMailPostRequestBody(message=message, save_to_sent_items=True))
    check("a mail with an attachment is accepted", True)

    mailbox = graph.users.by_user_id(environment.USER_NAME)
    query = MessagesRequestBuilder.MessagesRequestBuilderGetQueryParameters
    select = query(select=["id", "subject", "from", "hasAttachments"], top=50)
    options = MessagesRequestBuilder.MessagesRequestBuilderGetRequestConfiguration(query_parameters=select)
    for _ in range(200):
        listed = await mailbox.messages.get(request_configuration=options)
        arrived = [found for found in listed.value if found.subject == subject]
        if arrived:
            break
        await asyncio.sleep(0.3)
    check("it arrives in the recipient's mailbox", len(arrived) == 1, [found.subject for found in listed.value])
    check("from the sender", arrived[0].from_.email_address.address.lower() == environment.SENDER.lower())
    one = mailbox.messages.by_message_id(arrived[0].id)
    attachments = (await one.attachments.get()).value
    received = attachments[0].content_bytes
    # The model holds the bytes as the JSON had them: base64.
    import base64

    check("its attachment has the same bytes", content in (received, base64.b64decode(received)), len(received))
    raw = await one.content.get()
    check("its MIME can be fetched", subject.split()[1].encode() in raw or b"=?" in raw, raw[:300])


async def main():
    await manage_an_application()
    await send_and_read_back()


if __name__ == "__main__":
    asyncio.run(main())
