//! How an app proves who it is at the token endpoint.

use std::{path::PathBuf, sync::Arc};

use postkey_base::ClientSecret;

use crate::certificate::Certificate;

/// One of the three ways. `Debug` shows no secret.
#[derive(Debug, Clone)]
pub enum ClientCredential {
    /// `client_secret` in the form.
    Secret(ClientSecret),
    /// A signed assertion.
    Certificate(Certificate),
    /// Somebody else's JWT, read anew from a file each time (Kubernetes and others renew it there).
    Federated {
        /// Where the JWT lies.
        file: PathBuf,
    },
}

/// Why a credential of ours could not even be presented.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CredentialError {
    /// The file with the federated token cannot be read.
    #[error("the federated token {file} cannot be read")]
    FederatedFile {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        cause: Arc<std::io::Error>,
    },
    /// The file holds no JWT.
    #[error("the federated token {file} holds no JWT")]
    FederatedShape {
        /// The file.
        file: PathBuf,
    },
    /// The key would not sign.
    #[error("the private key of certificate {thumbprint} does not sign")]
    Signing {
        /// As the portal writes it.
        thumbprint: String,
    },
    /// Not one credential is held for the app.
    #[error("postkey holds no credential for the app")]
    None,
}
