//! Deep links into the Entra admin center of the right cloud. Microsoft publishes no contract for these addresses: every
//! shape below is unverified, so each remedy also names the page in the portal's words.

use postkey_base::{AppObjectId, ClientId, ServicePrincipalId};
use url::Url;

use crate::cloud::Cloud;

/// A page an administrator is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortalPage {
    /// *App registrations*, all of them.
    AppRegistrations,
    /// *App registrations → New registration*.
    NewRegistration,
    /// *App registrations → (app) → Overview*.
    AppOverview(ClientId),
    /// *App registrations → (app) → Certificates & secrets*.
    Credentials(ClientId),
    /// *App registrations → (app) → API permissions*.
    ApiPermissions(ClientId),
    /// *App registrations → (app) → Authentication*.
    Authentication(ClientId),
    /// *App registrations → (app) → Manifest*, by the object id where that is all one has.
    Manifest(AppObjectId, ClientId),
    /// *Enterprise applications → (app) → Overview*.
    EnterpriseApp(ServicePrincipalId, ClientId),
    /// *Enterprise applications*, all of them.
    EnterpriseApps,
    /// *Protection → Conditional Access → Policies*.
    ConditionalAccess,
    /// *Overview* of the tenant, where its id stands.
    TenantOverview,
}

impl PortalPage {
    /// The way there in the portal's words, for when the link has moved.
    pub fn path(self) -> &'static str {
        match self {
            Self::AppRegistrations => "Entra ID > App registrations > All applications",
            Self::NewRegistration => "Entra ID > App registrations > New registration",
            Self::AppOverview(_) => "App registrations > (the app) > Overview",
            Self::Credentials(_) => "App registrations > (the app) > Certificates & secrets",
            Self::ApiPermissions(_) => "App registrations > (the app) > API permissions",
            Self::Authentication(_) => "App registrations > (the app) > Authentication",
            Self::Manifest(..) => "App registrations > (the app) > Manifest",
            Self::EnterpriseApp(..) => "Enterprise applications > (the app) > Overview",
            Self::EnterpriseApps => "Entra ID > Enterprise applications > All applications",
            Self::ConditionalAccess => "Entra ID > Conditional Access > Policies",
            Self::TenantOverview => "Entra ID > Overview",
        }
    }

    /// The address in this cloud's admin center.
    pub fn link(self, cloud: &Cloud) -> Url {
        let view = match self {
            // unverified: all of these
            Self::AppRegistrations => "Microsoft_AAD_RegisteredApps/ApplicationsListBlade".to_owned(),
            Self::NewRegistration => "Microsoft_AAD_RegisteredApps/CreateApplicationBlade".to_owned(),
            Self::AppOverview(client) => app_menu("Overview", client),
            Self::Credentials(client) => app_menu("Credentials", client),
            Self::ApiPermissions(client) => app_menu("CallAnAPI", client),
            Self::Authentication(client) => app_menu("Authentication", client),
            Self::Manifest(object, client) => format!("{}/objectId/{object}", app_menu("AppManifest", client)),
            Self::EnterpriseApp(principal, client) => {
                format!("Microsoft_AAD_IAM/ManagedAppMenuBlade/~/Overview/objectId/{principal}/appId/{client}")
            }
            Self::EnterpriseApps => "Microsoft_AAD_IAM/StartboardApplicationsMenuBlade/~/AppAppsPreview".to_owned(),
            Self::ConditionalAccess => "Microsoft_AAD_ConditionalAccess/ConditionalAccessBlade/~/Policies".to_owned(),
            Self::TenantOverview => "Microsoft_AAD_IAM/TenantOverview.ReactView".to_owned(),
        };
        let mut url = cloud.portal.clone();
        url.set_fragment(Some(&format!("view/{view}")));
        url
    }
}

fn app_menu(page: &str, client: ClientId) -> String {
    format!("Microsoft_AAD_RegisteredApps/ApplicationMenuBlade/~/{page}/appId/{client}")
}

impl Cloud {
    /// [`PortalPage::link`], read from left to right.
    pub fn portal_link(&self, page: PortalPage) -> Url {
        page.link(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_points_into_the_clouds_own_portal() {
        let client: ClientId = "3fa85f64-5717-4562-b3fc-2c963f66afa6".parse().unwrap();
        assert_eq!(
            Cloud::us_gov().portal_link(PortalPage::Credentials(client)).as_str(),
            "https://entra.microsoft.us/#view/Microsoft_AAD_RegisteredApps/ApplicationMenuBlade/~/Credentials/appId/3fa85f64-5717-4562-b3fc-2c963f66afa6"
        );
    }
}
