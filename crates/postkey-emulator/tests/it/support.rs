//! An emulator and a client that trusts it.

use postkey_emulator::{Emulator, EmulatorSettings};
use serde_json::Value;

pub(crate) struct Box {
    pub(crate) emulator: Emulator,
    pub(crate) client: reqwest::Client,
}

impl Box {
    pub(crate) async fn start() -> Self {
        Self::with(EmulatorSettings::default()).await
    }

    pub(crate) async fn with(settings: EmulatorSettings) -> Self {
        let emulator = Emulator::start(settings).await.unwrap();
        let ca = reqwest::Certificate::from_pem(emulator.ca_pem().as_bytes()).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only([ca])
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .unwrap();
        Self { emulator, client }
    }

    /// A URL under the sample tenant on the login host.
    pub(crate) fn login(&self, path: &str) -> String {
        format!("{}/{}/{path}", self.emulator.authority(), self.emulator.tenant_id())
    }

    /// Posts a form to the sample tenant's token endpoint.
    pub(crate) async fn token(&self, form: &[(&str, &str)]) -> (u16, Value) {
        self.post(&self.login("oauth2/v2.0/token"), form).await
    }

    pub(crate) async fn post(&self, url: &str, form: &[(&str, &str)]) -> (u16, Value) {
        let answer = self.client.post(url).form(form).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// An app-only token of the sample mail application.
    pub(crate) async fn app_token(&self, scope: &str) -> String {
        let sample = self.emulator.sample().clone();
        let client_id = sample.client_id.to_string();
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &client_id),
            ("client_secret", &sample.client_secret),
            ("scope", scope),
        ];
        let (status, body) = self.token(&form).await;
        assert_eq!(status, 200, "{body}");
        body["access_token"].as_str().unwrap().to_owned()
    }
}

/// The claims of a JWT, unchecked.
pub(crate) fn claims(token: &str) -> Value {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

pub(crate) const GRAPH: &str = "https://graph.microsoft.com/.default";
