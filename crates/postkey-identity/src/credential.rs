//! How an app proves who it is at the token endpoint.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use postkey_base::{ClientAssertion, ClientSecret};
use zeroize::Zeroizing;

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

/// Reads the JWT that another issuer keeps in a file.
pub(crate) async fn federated(file: &Path, limit: u64) -> Result<ClientAssertion, CredentialError> {
    let unreadable =
        |error: std::io::Error| CredentialError::FederatedFile { file: file.to_owned(), cause: Arc::new(error) };
    let shape = || CredentialError::FederatedShape { file: file.to_owned() };
    if tokio::fs::metadata(file).await.map_err(unreadable)?.len() > limit {
        return Err(shape());
    }
    let text = Zeroizing::new(tokio::fs::read_to_string(file).await.map_err(unreadable)?);
    let token = text.trim();
    let part = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '=')
    };
    if token.split('.').count() != 3 || !token.split('.').all(part) {
        return Err(shape());
    }
    Ok(ClientAssertion::new(token.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_federated_token_is_read_anew_and_must_be_a_jwt() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        assert!(matches!(federated(&file, 100).await, Err(CredentialError::FederatedFile { .. })));
        for (content, good) in [("aa.bb.cc\n", true), ("aa.bb", false), ("aa.b b.cc", false), ("", false)] {
            std::fs::write(&file, content).unwrap();
            assert_eq!(federated(&file, 100).await.is_ok(), good, "{content:?}");
        }
        std::fs::write(&file, "a".repeat(101)).unwrap();
        assert!(matches!(federated(&file, 100).await, Err(CredentialError::FederatedShape { .. })));
    }
}
