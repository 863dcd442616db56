//! What people paste into the four fields, checked at once: shape first, then against each other, before any call.
//! What only the tenant can tell (another app's secret, an expired one) is the token endpoint's to answer.

use postkey_base::{ClientId, ClientSecret, Diagnose, TenantId, Who};
use postkey_identity::TenantRef;

/// Why a pasted value cannot be what the field asks for. Nothing of a pasted secret stands in the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasteError {
    /// Nothing but blanks.
    #[error("{0} is missing")]
    Blank(Field),
    /// Not in the form of a GUID.
    #[error(
        "{0} has the wrong form: it is 32 hexadecimal digits in five groups, such as 3fa85f64-5717-4562-b3fc-2c963f66afa6"
    )]
    NotAGuid(Field),
    /// Neither a GUID nor a domain.
    #[error("the tenant is neither a Directory (tenant) ID nor a domain of the tenant")]
    NotATenant,
    /// The same value in both fields.
    #[error("the client id and the tenant id are the same value")]
    SameIds,
    /// The ids stand in each other's fields.
    #[error("the client id and the tenant id are swapped: {client} is a tenant, {tenant} is not")]
    Swapped {
        /// What was given as client id.
        client: ClientId,
        /// What was given as tenant.
        tenant: TenantId,
    },
    /// A GUID where the secret belongs.
    #[error("this is the Secret ID, not the secret: the secret is in the column named Value")]
    SecretId,
    /// What the portal shows once the page was left.
    #[error("this is the masked secret as the portal shows it later, not the secret itself")]
    Masked,
    /// A blank in the middle.
    #[error(
        "the secret has a blank or a line break in the middle: more than the value was copied, or it was broken on the way"
    )]
    Blanks,
    /// Graph makes secrets of 16 to 64 characters.
    #[error("the secret is cut off: {0} characters arrived, a secret has at least 16")]
    Truncated(usize),
    /// Far more than a secret.
    #[error("{0} characters are too many for a client secret (at most 64): something else was pasted")]
    TooLong(usize),
    /// A key or certificate instead of a secret.
    #[error("this is a certificate or a private key, not a client secret")]
    Pem,
    /// Not year-month-day.
    #[error("this is not a date such as 2028-11-24")]
    NotADate,
    /// A token.
    #[error("this is an access token, not a client secret")]
    Token,
}

/// The fields that vendors ask for, by the portal's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// *Application (client) ID*; PAL and FOIAXpress say *OAuth Client ID*.
    ClientId,
    /// *Directory (tenant) ID*.
    TenantId,
    /// *Value* of the client secret; PAL and FOIAXpress say *Secret Key*.
    Secret,
    /// The mailbox that sends.
    Mailbox,
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ClientId => "the Application (client) ID",
            Self::TenantId => "the Directory (tenant) ID",
            Self::Secret => "the client secret's Value",
            Self::Mailbox => "the email address",
        })
    }
}

impl Diagnose for PasteError {
    fn code(&self) -> &'static str {
        match self {
            Self::Blank(_) => "setup.value_missing",
            Self::NotAGuid(_) | Self::NotATenant => "setup.id_malformed",
            Self::SameIds | Self::Swapped { .. } => "setup.ids_swapped",
            Self::SecretId => "setup.secret_id_pasted",
            Self::Masked => "setup.secret_masked",
            Self::Blanks | Self::Truncated(_) | Self::TooLong(_) => "setup.secret_damaged",
            Self::Pem | Self::Token => "setup.not_a_secret",
            Self::NotADate => "setup.not_a_date",
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::Blank(Field::ClientId) | Self::NotAGuid(Field::ClientId) => {
                "Copy Application (client) ID from the app's Overview page in the Entra admin center."
            }
            Self::Blank(Field::TenantId) | Self::NotAGuid(Field::TenantId) | Self::NotATenant => {
                "Copy Directory (tenant) ID from the app's Overview page in the Entra admin center, or give a domain of the tenant."
            }
            Self::Blank(Field::Mailbox) | Self::NotAGuid(Field::Mailbox) => "Give the address of the mailbox that sends.",
            Self::SameIds => "Copy both again from the app's Overview page: Application (client) ID and Directory (tenant) ID differ.",
            Self::Swapped { .. } => "Give them the other way round.",
            Self::SecretId => {
                "Copy the column Value under Certificates & secrets. If the page was left since, the value is gone for good: add a new client secret and copy its Value at once."
            }
            Self::Masked => "The value can be read only right after it was made: add a new client secret and copy its Value at once.",
            Self::NotADate => "Give the day that the portal shows under Expires as year-month-day.",
            _ => "Copy the column Value once more with the copy button beside it; if the page was left since, add a new client secret.",
        }
        .to_owned()
    }

    fn who(&self) -> Who {
        Who::You
    }
}

/// The *Application (client) ID* field.
///
/// # Errors
/// [`PasteError::Blank`] or [`PasteError::NotAGuid`].
pub fn client_id(text: &str) -> Result<ClientId, PasteError> {
    if text.trim().is_empty() {
        return Err(PasteError::Blank(Field::ClientId));
    }
    text.parse().map_err(|_| PasteError::NotAGuid(Field::ClientId))
}

/// The *Directory (tenant) ID* field, which takes a domain of the tenant too.
///
/// # Errors
/// [`PasteError::Blank`] or [`PasteError::NotATenant`].
pub fn tenant(text: &str) -> Result<TenantRef, PasteError> {
    if text.trim().is_empty() {
        return Err(PasteError::Blank(Field::TenantId));
    }
    match text.parse::<TenantRef>() {
        Ok(tenant) if tenant.is_concrete() => Ok(tenant),
        _ => Err(PasteError::NotATenant),
    }
}

/// The two ids side by side.
///
/// # Errors
/// [`PasteError::SameIds`].
pub fn ids_differ(client: ClientId, tenant: &TenantRef) -> Result<(), PasteError> {
    match tenant.id() {
        Some(tenant) if tenant.uuid() == client.uuid() => Err(PasteError::SameIds),
        _ => Ok(()),
    }
}

/// The secret's *Value*. Blanks around it come from copying and are dropped; anything else wrong is refused.
///
/// # Errors
/// What was pasted instead of the value, as far as its form tells.
pub fn secret(text: &str) -> Result<ClientSecret, PasteError> {
    let value = text.trim();
    if value.is_empty() {
        return Err(PasteError::Blank(Field::Secret));
    }
    if value.parse::<ClientId>().is_ok() {
        return Err(PasteError::SecretId);
    }
    if value.starts_with("-----BEGIN") {
        return Err(PasteError::Pem);
    }
    if value.starts_with("eyJ") && value.matches('.').count() >= 2 {
        return Err(PasteError::Token);
    }
    if value.contains(char::is_whitespace) || value.contains(char::is_control) {
        return Err(PasteError::Blanks);
    }
    // The portal shows the first three characters and hides the rest.
    let hidden = value.chars().skip(3);
    if value.chars().count() > 3 && hidden.clone().all(|c| matches!(c, '*' | '•' | '●')) {
        return Err(PasteError::Masked);
    }
    // Graph: application-addpassword, "16-64 characters"
    match value.chars().count() {
        short @ ..16 => Err(PasteError::Truncated(short)),
        16..=64 => Ok(ClientSecret::new(value.to_owned())),
        long => Err(PasteError::TooLong(long)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_field_says_what_was_pasted_instead() {
        for (text, want) in [
            ("", Some(PasteError::Blank(Field::Secret))),
            (" \r\n", Some(PasteError::Blank(Field::Secret))),
            ("3fa85f64-5717-4562-b3fc-2c963f66afa6", Some(PasteError::SecretId)),
            ("q7~******************", Some(PasteError::Masked)),
            ("q7~8Q~abc", Some(PasteError::Truncated(9))),
            ("q7~8Q~abcdefghijkl mnopqrstuv", Some(PasteError::Blanks)),
            ("-----BEGIN CERTIFICATE-----\nMIID", Some(PasteError::Pem)),
            ("eyJhbGciOiJ.eyJhdWQi.c2ln", Some(PasteError::Token)),
            ("  q7~8Q~abcdefghijklmnopqrstuvwxyz0123456\n", None),
        ] {
            assert_eq!(secret(text).err(), want, "{text:?}");
        }
        assert_eq!(secret(&"x".repeat(65)).err(), Some(PasteError::TooLong(65)));
    }

    #[test]
    fn a_refused_secret_is_not_repeated() {
        let pasted = "q7~8Q~hush";
        let said = secret(pasted).unwrap_err();
        assert!(!format!("{said} {said:?} {}", said.remedy()).contains("hush"));
    }

    #[test]
    fn one_id_in_both_fields_is_noticed() {
        let id = "3fa85f64-5717-4562-b3fc-2c963f66afa6";
        assert_eq!(ids_differ(client_id(id).unwrap(), &tenant(id).unwrap()), Err(PasteError::SameIds));
        assert_eq!(tenant("common").err(), Some(PasteError::NotATenant));
        assert!(tenant("contoso.onmicrosoft.com").is_ok());
    }
}
