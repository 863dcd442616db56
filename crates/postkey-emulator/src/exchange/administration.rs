//! What an Exchange administrator does, and what a test looks at: for the management API and for sample data.

use std::collections::BTreeSet;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    access::{AccessPolicy, MailboxPrincipal, RoleAssignment},
    delivery,
    mailbox::{Mailbox, MailboxKind},
    messages::mime_of,
    state::OutsideMail,
};
use crate::{
    directory::User,
    world::{Tenant, World},
};

/// A message as a test sees it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Display name of its folder.
    pub folder: String,
    /// Default id.
    pub id: String,
    /// Subject.
    pub subject: String,
    /// In angle brackets.
    pub message_id: Option<String>,
    /// The whole message.
    pub mime: Bytes,
    /// Not sent yet.
    pub is_draft: bool,
}

/// A right in somebody's mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// `Add-RecipientPermission … -AccessRights SendAs`
    SendAs,
    /// `Set-Mailbox -GrantSendOnBehalfTo`
    SendOnBehalf,
    /// `Add-MailboxPermission … -AccessRights FullAccess`
    FullAccess,
}

impl Tenant {
    /// The mailbox with this address, or of the user with this id or name.
    pub fn mailbox(&self, key: &str) -> Option<&Mailbox> {
        super::access::owner_of(self, key).and_then(|owner| self.mailboxes.get(&owner))
    }

    /// The mailbox with this address, or of the user with this id or name, to change it.
    pub fn mailbox_mut(&mut self, key: &str) -> Option<&mut Mailbox> {
        super::access::owner_of(self, key).and_then(|owner| self.mailboxes.get_mut(&owner))
    }

    /// Gives the user with this id or name a mailbox; None if there is no such user.
    pub fn add_mailbox(&mut self, key: &str, kind: MailboxKind) -> Option<&mut Mailbox> {
        let user = self.directory.user(key)?;
        let addresses = std::iter::once(&user.user_principal_name).chain(&user.aliases).cloned().collect();
        let mailbox = Mailbox::new(user.id, &user.display_name, addresses, kind);
        let owner = user.id;
        Some(self.mailboxes.entry(owner).or_insert(mailbox))
    }

    /// A new person with a mailbox and without a password; returns the address.
    pub fn hire(&mut self, local: &str, now: Timestamp) -> String {
        let address = format!("{local}@{}", self.domain);
        self.directory.users.push(User {
            id: Uuid::new_v4(),
            user_principal_name: address.clone(),
            display_name: local.to_owned(),
            given_name: None,
            surname: None,
            password: None,
            account_enabled: true,
            administrator: false,
            aliases: Vec::new(),
            sign_in_refusal: None,
            tokens_valid_from: now,
        });
        self.add_mailbox(&address, MailboxKind::User);
        address
    }

    /// Takes a user's mailbox away (its licence, say).
    pub fn remove_mailbox(&mut self, key: &str) -> bool {
        super::access::owner_of(self, key).is_some_and(|owner| self.mailboxes.remove(&owner).is_some())
    }

    /// `New-ServicePrincipal -AppId … -ObjectId …`, with whatever the administrator pasted as object id.
    pub fn register_mail_principal(&mut self, app_id: Uuid, object_id: Uuid) {
        self.exchange.principals.retain(|known| known.app_id != app_id);
        self.exchange.principals.push(MailboxPrincipal { app_id, object_id });
    }

    /// Grants a right in the mailbox `key` to a user or service principal; false if there is no such mailbox.
    pub fn grant(&mut self, key: &str, right: Right, trustee: Uuid) -> bool {
        let Some(mailbox) = self.mailbox_mut(key) else { return false };
        rights(mailbox, right).insert(trustee);
        true
    }

    /// Takes a right away again.
    pub fn revoke(&mut self, key: &str, right: Right, trustee: Uuid) -> bool {
        self.mailbox_mut(key).is_some_and(|mailbox| rights(mailbox, right).remove(&trustee))
    }

    /// `New-ApplicationAccessPolicy`.
    pub fn add_access_policy(&mut self, app_id: Uuid, members: &[&str], deny: bool) {
        let members = members.iter().map(|address| address.to_ascii_lowercase()).collect();
        self.exchange.access_policies.push(AccessPolicy { app_id, members, deny });
    }
}

fn rights(mailbox: &mut Mailbox, right: Right) -> &mut BTreeSet<Uuid> {
    match right {
        Right::SendAs => &mut mailbox.rights.send_as,
        Right::SendOnBehalf => &mut mailbox.rights.send_on_behalf,
        Right::FullAccess => &mut mailbox.rights.full_access,
    }
}

impl World {
    /// `New-ManagementRoleAssignment`: role e.g. `Application Mail.Send`; scope None = every mailbox. It takes effect
    /// after [`super::state::MailState::role_cache`].
    pub fn assign_mail_role(&mut self, tenant: Uuid, service_principal: Uuid, role: &str, scope: Option<&[&str]>) {
        let effective_from = crate::world::later(self.clock.now(), self.mail.role_cache);
        let scope = scope.map(|list| list.iter().map(|address| address.to_ascii_lowercase()).collect());
        if let Some(tenant) = self.tenant_mut(tenant) {
            let assignment = RoleAssignment { service_principal, role: role.to_owned(), scope, effective_from };
            tenant.exchange.role_assignments.push(assignment);
        }
    }

    /// Every message of a mailbox, oldest first, after whatever was due has been delivered.
    pub fn mailbox_contents(&mut self, tenant: Uuid, key: &str) -> Option<Vec<Seen>> {
        delivery::settle(self);
        let mailbox = self.tenant(tenant)?.mailbox(key)?;
        Some(
            mailbox
                .messages
                .iter()
                .map(|message| Seen {
                    folder: mailbox
                        .folder(&message.folder)
                        .map_or_else(String::new, |folder| folder.display_name.clone()),
                    id: message.rest_id.clone(),
                    subject: message.letter.subject.clone(),
                    message_id: message.letter.message_id.clone(),
                    mime: mime_of(message),
                    is_draft: message.is_draft,
                })
                .collect(),
        )
    }

    /// Delivers whatever is due.
    pub fn settle_mail(&mut self) {
        delivery::settle(self);
    }

    /// Mail that left for other organizations so far.
    pub fn outside_mail(&mut self) -> &[OutsideMail] {
        delivery::settle(self);
        self.mail.outside.make_contiguous()
    }

    /// Mailboxes of a tenant and their switches, as JSON for the management API.
    pub fn mailboxes_json(&self, tenant: Uuid) -> Option<Value> {
        let tenant = self.tenant(tenant)?;
        Some(
            tenant
                .mailboxes
                .values()
                .map(|mailbox| {
                    json!({
                        "owner": mailbox.owner,
                        "addresses": mailbox.addresses,
                        "shared": mailbox.kind == MailboxKind::Shared,
                        "messages": mailbox.messages.len(),
                        "smtp_auth_disabled": mailbox.smtp_auth_disabled,
                    })
                })
                .collect(),
        )
    }

    /// How long transport takes from acceptance to delivery.
    pub fn set_settle(&mut self, settle: std::time::Duration) {
        self.mail.settle = settle;
    }
}
