//! The catalogue of AADSTS numbers a mail application meets. A number refines a message; programs branch on `error`,
//! because Microsoft may change numbers at any time.

use postkey_base::Who;

use crate::error::Class;

/// What one number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The number behind `AADSTS`.
    pub code: u32,
    /// A plain sentence: what it means.
    pub sentence: &'static str,
    /// Whose failure it is, for a user's grant.
    pub class: Class,
    /// Who must act.
    pub who: Who,
    /// What to do, without a full stop.
    pub step: &'static str,
}

/// Looks a number up.
pub fn lookup(code: u32) -> Option<&'static Entry> {
    CATALOGUE.binary_search_by_key(&code, |entry| entry.code).ok().map(|at| &CATALOGUE[at])
}

/// Every number known here, ascending.
pub fn catalogue() -> &'static [Entry] {
    CATALOGUE
}

const fn app(code: u32, sentence: &'static str, step: &'static str) -> Entry {
    Entry { code, sentence, class: Class::App, who: Who::AppOwner, step }
}

const fn config(code: u32, sentence: &'static str, step: &'static str) -> Entry {
    Entry { code, sentence, class: Class::App, who: Who::You, step }
}

const fn tenant(code: u32, sentence: &'static str, step: &'static str) -> Entry {
    Entry { code, sentence, class: Class::Tenant, who: Who::TenantAdministrator, step }
}

const fn user(code: u32, sentence: &'static str, step: &'static str) -> Entry {
    Entry { code, sentence, class: Class::User, who: Who::User, step }
}

const fn account(code: u32, sentence: &'static str, step: &'static str) -> Entry {
    Entry { code, sentence, class: Class::User, who: Who::TenantAdministrator, step }
}

const fn wait(code: u32, sentence: &'static str) -> Entry {
    Entry { code, sentence, class: Class::Wait, who: Who::Wait, step: "Wait; postkey tries again by itself" }
}

const fn defect(code: u32, sentence: &'static str) -> Entry {
    Entry { code, sentence, class: Class::App, who: Who::Postkey, step: "Report it with the correlation id" }
}

const SIGN_IN: &str = "Sign in again";
const FIX_TENANT: &str = "Compare the Directory (tenant) ID and the cloud";
const USE_TENANT: &str = "Use the tenant's own id or domain";
const NEW_CERTIFICATE: &str = "Put a new certificate on the app";
const UPLOAD_CERTIFICATE: &str = "Upload the public certificate and compare the thumbprints";
const CHECK_CREDENTIAL: &str = "Compare the app's credential with the one postkey holds";
const ONE_RESOURCE: &str = "Ask for one API's .default scope at a time";

/// Sorted by number: [`lookup`] searches it by halves, and a test checks the order.
static CATALOGUE: &[Entry] = &[
    config(28002, "The scope of the request is not valid", ONE_RESOURCE),
    config(28003, "The scope of the request is empty", ONE_RESOURCE),
    tenant(50001, "The API is disabled or unknown in the tenant", "Enable the API's enterprise application"),
    app(50011, "The redirect URI is not registered for the app", "Register exactly the redirect URI that was sent"),
    app(50012, "The app could not be authenticated", CHECK_CREDENTIAL),
    account(
        50014,
        "The account is not known in the tenant",
        "Sign in with another account, or invite this one as a guest",
    ),
    account(
        50020,
        "The account belongs to another tenant or provider",
        "Sign in with another account, or invite this one as a guest",
    ),
    app(50027, "The app's signed assertion is not valid", CHECK_CREDENTIAL),
    wait(50033, "Entra had a passing error"),
    account(
        50034,
        "There is no such account in the tenant",
        "Sign in with another account, or invite this one as a guest",
    ),
    app(50048, "The subject of the assertion is not its issuer", CHECK_CREDENTIAL),
    config(50049, "The login host does not know itself by that name", "Check the cloud's login host in the settings"),
    account(
        50053,
        "The account is locked, or the sign-in came from an address with a bad name",
        "Let an administrator unlock the account or clear the address",
    ),
    user(50055, "The password has expired", "Set a new password, then sign in again"),
    account(50057, "The account is disabled", "Let an administrator enable the account"),
    config(50059, "The request names no tenant", USE_TENANT),
    user(50072, "The user must enrol in multi-factor authentication", "Sign in again in a browser and enrol"),
    user(50074, "Multi-factor authentication was not passed", "Sign in again in a browser and pass the second factor"),
    user(
        50076,
        "The tenant asks for multi-factor authentication here",
        "Sign in again in a browser and pass the second factor",
    ),
    user(
        50078,
        "The multi-factor authentication has grown too old",
        "Sign in again in a browser and pass the second factor",
    ),
    user(50079, "The user must enrol in multi-factor authentication", "Sign in again in a browser and enrol"),
    account(
        50105,
        "The user is not assigned to the app",
        "Assign the user to the enterprise application, or switch off \"Assignment required\"",
    ),
    user(50126, "The user name or password is wrong", SIGN_IN),
    user(50132, "The session is no longer valid, as after a change of password", SIGN_IN),
    user(50133, "The session is no longer valid, as after a change of password", SIGN_IN),
    user(50147, "The PKCE challenge has a wrong size", "Start the sign-in again"),
    user(50173, "The sessions of the user were ended, or the password changed", SIGN_IN),
    config(50194, "The app is for one tenant only and was called at the address for all", USE_TENANT),
    wait(50196, "Entra saw the same request in a loop and stopped it"),
    account(
        51004,
        "The account does not exist in the tenant",
        "Sign in with another account, or invite this one as a guest",
    ),
    tenant(53000, "A policy asks for a compliant device", "Exempt the app or the account from the policy"),
    tenant(53001, "A policy asks for a device joined to the domain", "Exempt the app or the account from the policy"),
    tenant(53003, "A Conditional Access policy blocks the token", "Exempt the app or the account from the policy"),
    user(54005, "The code had already been used", "Start the sign-in again, in one browser window"),
    user(65001, "Neither the user nor an administrator has consented to what is asked", "Consent again"),
    user(65004, "The user declined to consent", "Sign in again and accept"),
    user(70000, "The refresh token is not valid, or does not cover what is asked", SIGN_IN),
    tenant(70001, "The app is disabled", "Enable the enterprise application again"),
    app(70002, "The client secret is wrong", CHECK_CREDENTIAL),
    defect(70003, "Entra does not know this grant type"),
    user(70008, "The code or refresh token has expired", SIGN_IN),
    config(70011, "The scope is not valid", ONE_RESOURCE),
    wait(70016, "The user has not finished signing in on the device page"),
    user(70018, "The device code is wrong", "Start the sign-in again"),
    user(70019, "The device code has expired", "Start the sign-in again"),
    user(70020, "The device code has expired", "Start the sign-in again"),
    user(70043, "A policy asks the user to sign in from time to time", SIGN_IN),
    config(90002, "There is no such tenant in this cloud", FIX_TENANT),
    defect(90004, "The request is not properly formed"),
    wait(90006, "An external service of Entra did not answer"),
    config(90010, "The grant cannot be used at the address for all tenants", USE_TENANT),
    wait(90012, "The request timed out in Entra"),
    defect(90014, "A field is missing in the request"),
    config(90019, "The request names no tenant", USE_TENANT),
    defect(90023, "The request is not valid for its service"),
    wait(90024, "Entra's budget for the request was used up"),
    wait(90033, "Entra had a passing error"),
    wait(90055, "The tenant sends more requests than Entra takes at a time"),
    wait(90090, "Entra had a passing error"),
    tenant(90094, "Only an administrator can consent to what is asked", "Let an administrator consent"),
    tenant(90095, "Only an administrator can consent to what is asked", "Let an administrator consent"),
    defect(90100, "A field of the request is not valid"),
    config(90133, "Device code cannot be used at the address for all accounts", USE_TENANT),
    tenant(
        500_011,
        "The API has no enterprise application in the tenant",
        "Check the API's name in the scope, or add the API to the tenant",
    ),
    account(
        500_208,
        "The domain takes no sign-in for this type of account",
        "Sign in with a work or school account of the tenant",
    ),
    tenant(501_051, "The API gives tokens only to apps that hold one of its roles", "Grant the app a role of the API"),
    user(
        501_481,
        "The PKCE verifier does not fit the challenge: two sign-ins got mixed",
        "Start the sign-in again, in one browser window",
    ),
    user(501_491, "The PKCE challenge has a wrong size", "Start the sign-in again"),
    tenant(
        530_032,
        "A security policy of the tenant blocks the sign-in",
        "Exempt the app or the account from the policy",
    ),
    tenant(
        530_035,
        "Security defaults of the tenant block the sign-in",
        "Use another way of signing in, or replace security defaults by policies",
    ),
    tenant(
        650_052,
        "The tenant has no subscription for the API",
        "Subscribe to the service or remove its permissions from the app",
    ),
    tenant(
        650_054,
        "The app asks for an API that has been removed or is not available",
        "Remove the API's permissions from the app",
    ),
    app(
        650_057,
        "The app asks for an API that is not in its list of permissions",
        "Add the API's permission to the app",
    ),
    user(700_005, "The code is for another tenant", "Start the sign-in again"),
    config(
        700_016,
        "There is no such app in the tenant",
        "Compare the Application (client) ID and the Directory (tenant) ID, or consent to the app",
    ),
    config(700_022, "The request asks for several APIs at once", ONE_RESOURCE),
    config(700_024, "The signed assertion is outside its valid time", "Set this machine's clock"),
    app(
        700_025,
        "The app is registered as a public client and may present no credential",
        "Register the redirect URI under the platform Web",
    ),
    app(700_027, "Entra does not know the certificate, or its signature does not verify", UPLOAD_CERTIFICATE),
    app(
        700_030,
        "The certificate's subject is not among those allowed",
        "Use a certificate that is registered on the app",
    ),
    app(
        700_054,
        "The app may not ask for an ID token from the authorize page",
        "Enable ID tokens under Authentication",
    ),
    user(700_081, "The refresh token has reached its longest life", SIGN_IN),
    user(700_082, "The refresh token was not used for too long", SIGN_IN),
    app(
        700_084,
        "The refresh token was given to a single-page app and ended after a day",
        "Register the redirect URI under the platform Web instead of Single-page application",
    ),
    config(900_023, "The tenant is neither a GUID nor a domain", FIX_TENANT),
    defect(900_144, "A field is missing in the request"),
    defect(900_561, "The endpoint was called by the wrong method"),
    app(900_971, "The app has no redirect URI", "Register a redirect URI"),
    defect(901_002, "The request carried a resource parameter, which this endpoint does not take"),
    app(1_000_502, "The certificate is outside its dates", NEW_CERTIFICATE),
    config(1_002_012, "An app's token needs a scope that ends in /.default", ONE_RESOURCE),
    tenant(7_000_112, "The app is disabled", "Enable the enterprise application again"),
    app(7_000_214, "The certificate has been revoked", NEW_CERTIFICATE),
    app(
        7_000_215,
        "The client secret is not one of the app's",
        "Make a new client secret and give postkey its Value, not its ID",
    ),
    config(
        7_000_218,
        "The app must present a credential, or allow public client flows",
        "Give postkey a credential, or allow public client flows",
    ),
    app(7_000_222, "The client secret has expired", "Make a new client secret"),
    app(7_000_274, "The signature of the assertion does not verify", UPLOAD_CERTIFICATE),
    app(7_000_277, "The certificate has been revoked", NEW_CERTIFICATE),
    config(9_001_023, "The grant cannot be used at the address for all tenants", USE_TENANT),
    user(9_002_313, "The request is malformed, as with a damaged refresh token", SIGN_IN),
    app(9_002_325, "A single-page app must use PKCE", "Register the redirect URI under the platform Web"),
    app(
        9_002_326,
        "Only a single-page app may redeem from a browser",
        "Register the redirect URI under the right platform",
    ),
    app(
        9_002_327,
        "A single-page app's code can be redeemed only from a browser",
        "Register the redirect URI under the platform Web",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_in_order_and_every_entry_is_found() {
        assert!(
            CATALOGUE.is_sorted_by_key(|entry| entry.code),
            "{:?}",
            CATALOGUE.windows(2).find(|pair| pair[0].code >= pair[1].code)
        );
        for entry in CATALOGUE {
            assert_eq!(lookup(entry.code), Some(entry));
            assert!(!entry.sentence.ends_with('.') && !entry.step.ends_with('.'), "{}", entry.code);
        }
        assert_eq!(lookup(1), None);
    }
}
