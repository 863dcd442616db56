//! The credential phase: intent first, then the call, then the result; adopt or destroy what a crash left behind.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use postkey_graph::credentials::NewCertificate;
use postkey_graph::{
    Graph,
    applications::{self, Application},
};
use postkey_identity::{Certificate, Class, KeySize, TokenError};
use postkey_store::{
    App, Credential, CredentialState, LocalCredentialId, Material, Minted, NewCredential, NewMaterial,
};
use rand::RngExt;

use crate::{
    automatic::{Automatic, Lag, Wait},
    error::SetupError,
    options::{CredentialChoice, SetupName},
    watch::Event,
};

/// Letters that nobody confuses, so that a nonce can be read aloud.
const NONCE_LETTERS: &[u8] = b"abcdefghjkmnpqrstuvwxyz23456789";
/// 10 letters of 31: about 49 bits, far more than the thousand names an app can hold need.
const NONCE_LENGTH: usize = 10;

impl Automatic<'_> {
    /// Ends with one verified credential of the kind that was asked for.
    pub(crate) async fn credential(
        &self,
        graph: &Graph,
        application: &Application,
        app: &App,
    ) -> Result<Credential, SetupError> {
        let known = self.store().credentials(app.id).await?;
        let wanted = self.options.credential;
        let right_kind = |credential: &&Credential| {
            matches!(
                (&credential.material, wanted),
                (Material::Certificate { .. }, CredentialChoice::Certificate(_))
                    | (Material::Secret { .. }, CredentialChoice::Secret(_))
            )
        };
        let now = self.clock().now();
        let alive = |credential: &&Credential| {
            !matches!(credential.state, CredentialState::Retired { .. })
                && credential.ends_at.is_none_or(|ends| ends > now)
        };
        let mut unfinished = known.iter().filter(right_kind).rfind(alive);
        if let Some(verified) = unfinished
            && self.is_gone(application, app, verified, now).await?
        {
            self.store().record_retired(verified.id).await?;
            self.watcher.notice(Event::Note(
                "the credential that worked before is no longer on the application; a new one takes its place",
            ));
            unfinished = None;
        }
        let minted = match (wanted, unfinished) {
            (_, Some(verified @ Credential { state: CredentialState::Verified { .. }, .. })) => {
                self.watcher
                    .notice(Event::Done { what: "credential", detail: Some("there already, and it has worked") });
                return Ok(verified.clone());
            }
            (_, Some(minted @ Credential { state: CredentialState::Minted { .. }, .. })) => minted.clone(),
            (CredentialChoice::Certificate(_), Some(intended)) => self.upload(graph, application, intended).await?,
            (CredentialChoice::Certificate(_), None) => {
                let intended = self.make_certificate(app, now).await?;
                self.upload(graph, application, &intended).await?
            }
            (CredentialChoice::Secret(_), _) => {
                self.sweep(graph, app).await?;
                self.make_secret(graph, application, app, now).await?
            }
        };
        self.accepted(app, &minted).await
    }

    /// Whether somebody has removed the credential from the application: it is not listed, and Entra refuses it. Neither
    /// alone is proof enough while the tenant may still be catching up with the run that made it.
    async fn is_gone(
        &self,
        application: &Application,
        app: &App,
        known: &Credential,
        now: Timestamp,
    ) -> Result<bool, SetupError> {
        let CredentialState::Verified { at } = known.state else { return Ok(false) };
        let young = SignedDuration::try_from(self.patience.replication).unwrap_or(SignedDuration::MAX);
        let secrets = application.password_credentials.iter().map(|secret| secret.key_id);
        let mut listed = secrets.chain(application.key_credentials.iter().map(|certificate| certificate.key_id));
        if now.duration_since(at) < young || listed.any(|id| known.key_id == Some(id)) {
            return Ok(false);
        }
        let endpoint = self.outside.endpoint(&self.options.cloud)?;
        let credential = self.outside.open(known).await?;
        let scope = self.options.cloud.graph_scope();
        let asked = endpoint.client_credentials(&self.tenant(app), app.client_id, &credential, &scope, None).await;
        Ok(asked.is_err_and(|error| error.concerns_credential()))
    }

    /// A new key pair, durable before anybody hears of it.
    async fn make_certificate(&self, app: &App, now: Timestamp) -> Result<Credential, SetupError> {
        self.watcher.notice(Event::Begun { what: "make a key pair" });
        let ends = self.options.credential.lifetime().after(now);
        let (nonce, display_name) = named(&self.options.name, now, ends);
        let lifetime = ends.duration_since(now).try_into().unwrap_or_default();
        let subject = format!("postkey {}", self.options.name);
        let certificate =
            Certificate::generate(&subject, now, lifetime, KeySize::Rsa2048).await.map_err(SetupError::Certificate)?;
        let id = LocalCredentialId::random();
        let new = NewCredential {
            id,
            app: app.id,
            nonce,
            display_name,
            material: NewMaterial::Certificate {
                thumbprint: certificate.portal_thumbprint(),
                certificate: certificate.der().to_vec(),
                private_key: certificate.key().clone(),
            },
            starts_at: Some(certificate.not_before()),
            ends_at: Some(certificate.not_after()),
        };
        self.store().insert_credential(&new).await?;
        self.expect(id).await
    }

    /// Puts the public half on the app, if it is not there from an interrupted run, and learns its key id.
    async fn upload(
        &self,
        graph: &Graph,
        application: &Application,
        intended: &Credential,
    ) -> Result<Credential, SetupError> {
        const UPLOAD: &str = "add the certificate to the application";
        const READ: &str = "see the certificate on the application";
        let Material::Certificate { certificate, thumbprint } = &intended.material else {
            unreachable!("only certificates are uploaded");
        };
        self.watcher.notice(Event::Begun { what: UPLOAD });
        let addition = NewCertificate {
            display_name: intended.display_name.clone(),
            der: certificate.clone(),
            starts: None,
            ends: None,
        };
        let on_app = |keys: Vec<postkey_graph::credentials::KeyCredential>| {
            keys.into_iter().find(|key| key.is_certificate(certificate))
        };
        let present =
            self.settle(READ, Lag::Replication, || applications::key_credentials(graph, application.id)).await?;
        let mut found = on_app(present);
        if found.is_none() {
            self.settle(UPLOAD, Lag::Replication, || {
                applications::change_key_credentials(graph, application.id, std::slice::from_ref(&addition), &[])
            })
            .await?;
            let mut wait = Wait::new(self.clock().clone(), self.patience.replication);
            loop {
                found = on_app(
                    self.settle(READ, Lag::Replication, || applications::key_credentials(graph, application.id))
                        .await?,
                );
                // Its key id is good to know and not needed: the thumbprint names the certificate to Entra.
                let tell = |waited, until| self.watcher.notice(Event::Waiting { what: READ, waited, until });
                if found.is_some() || !wait.again(None, tell).await {
                    break;
                }
            }
        }
        let minted = Minted {
            key_id: found.as_ref().map(|key| key.key_id),
            starts_at: found.as_ref().and_then(|key| key.starts),
            ends_at: found.as_ref().and_then(|key| key.ends),
            ..Minted::default()
        };
        self.watcher.notice(Event::Done { what: "certificate", detail: Some(thumbprint) });
        Ok(self.store().record_minted(intended.id, &minted).await?)
    }

    /// Has Graph make a secret. Its text exists once, in this answer: it is sealed before anything else happens.
    async fn make_secret(
        &self,
        graph: &Graph,
        application: &Application,
        app: &App,
        now: Timestamp,
    ) -> Result<Credential, SetupError> {
        const STEP: &str = "make a client secret";
        self.watcher.notice(Event::Begun { what: STEP });
        let ends = self.options.credential.lifetime().after(now);
        // A call whose answer is lost may have made a secret that nobody knows: each attempt has a name of its own, and
        // the sweep removes what such a name left behind.
        let mut wait = Wait::new(self.clock().clone(), self.patience.replication);
        loop {
            let (nonce, display_name) = named(&self.options.name, now, ends);
            let id = LocalCredentialId::random();
            let new = NewCredential {
                id,
                app: app.id,
                nonce,
                display_name: display_name.clone(),
                material: NewMaterial::Secret,
                starts_at: None,
                ends_at: Some(ends),
            };
            self.store().insert_credential(&new).await?;
            let error = match applications::add_password(graph, application.id, &display_name, Some(ends)).await {
                Ok(secret) => {
                    let minted = Minted {
                        key_id: Some(secret.key_id),
                        secret: Some(secret.secret),
                        hint: secret.hint,
                        starts_at: secret.starts,
                        ends_at: secret.ends,
                    };
                    let minted = self.store().record_minted(id, &minted).await?;
                    let until = minted.ends_at.map(|ends| format!("until {}", ends.strftime("%Y-%m-%d")));
                    self.watcher.notice(Event::Done { what: "client secret", detail: until.as_deref() });
                    return Ok(minted);
                }
                Err(error) => error,
            };
            self.store().record_retired(id).await?;
            let lagging = error.may_be_replication_lag() && wait.waited() < self.patience.replication;
            if !(lagging || error.is_transient()) {
                return Err(SetupError::Graph { step: STEP, cause: Box::new(error) });
            }
            let tell = |waited, until| self.watcher.notice(Event::Waiting { what: STEP, waited, until });
            if !wait.again(error.retry_after(), tell).await {
                return Err(SetupError::NotSettled { step: STEP, waited: wait.waited(), cause: Box::new(error) });
            }
            self.sweep(graph, app).await?;
        }
    }

    /// Removes secrets of ours whose text was lost with an answer. Only names that our own journal of this very app knows
    /// are touched: somebody may have copied a name.
    pub(crate) async fn sweep(&self, graph: &Graph, app: &App) -> Result<(), SetupError> {
        const READ: &str = "look for secrets of an interrupted run";
        const REMOVE: &str = "remove a secret of an interrupted run";
        let lost: Vec<Credential> = self
            .store()
            .credentials(app.id)
            .await?
            .into_iter()
            .filter(|credential| matches!(credential.material, Material::Secret { .. }) && credential.key_id.is_none())
            .filter(|credential| bears_its_nonce(&credential.display_name, &credential.nonce))
            .collect();
        let (Some(object), false) = (app.object_id, lost.is_empty()) else {
            return Ok(());
        };
        let seen = self.settle(READ, Lag::Replication, || applications::get(graph, object)).await?;
        for stray in &seen.password_credentials {
            let Some(ours) = lost.iter().find(|lost| stray.display_name.as_deref() == Some(&*lost.display_name)) else {
                continue;
            };
            self.settle(REMOVE, Lag::Replication, || applications::remove_password(graph, object, stray.key_id))
                .await?;
            let detail = stray.key_id.to_string();
            self.watcher
                .notice(Event::Done { what: "stray secret of an interrupted run removed", detail: Some(&detail) });
            tracing::info!(key.id = %stray.key_id, nonce = %ours.nonce, "removed a secret whose text was never received");
        }
        for credential in lost.iter().filter(|lost| lost.state == CredentialState::Intended) {
            self.store().record_retired(credential.id).await?;
        }
        Ok(())
    }

    /// Waits until Entra gives a token for it, and only then calls it the app's credential.
    async fn accepted(&self, app: &App, minted: &Credential) -> Result<Credential, SetupError> {
        const STEP: &str = "use the new credential";
        self.watcher.notice(Event::Begun { what: STEP });
        let endpoint = self.outside.endpoint(&self.options.cloud)?;
        let credential = self.outside.open(minted).await?;
        let scope = self.options.cloud.graph_scope();
        let tenant = self.tenant(app);
        let mut wait = Wait::new(self.clock().clone(), self.patience.acceptance);
        loop {
            let error = match endpoint.client_credentials(&tenant, app.client_id, &credential, &scope, None).await {
                Ok(_) => break,
                Err(error) => error,
            };
            // A new app is unknown, a new credential refused, until Entra's nodes have heard of them.
            let young = matches!(
                error,
                TokenError::SecretWrong { .. }
                    | TokenError::CertificateUnknown(_)
                    | TokenError::CredentialRefused(_)
                    | TokenError::AppNotFound(_)
            );
            let passes = error.is_transient() || error.class() == Class::Wait;
            let tell = |waited, until| self.watcher.notice(Event::Waiting { what: STEP, waited, until });
            if !(young || passes) || !wait.again(error.retry_after(), tell).await {
                return Err(SetupError::Token(Box::new(error)));
            }
        }
        let verified = self.store().record_verified(minted.id).await?;
        self.watcher.notice(Event::Done { what: "Entra accepts the credential", detail: None });
        Ok(verified)
    }

    async fn expect(&self, id: LocalCredentialId) -> Result<Credential, SetupError> {
        let found = self.store().credential(id).await?;
        Ok(found.ok_or_else(|| postkey_store::StoreError::NotFound { what: format!("credential {id}") })?)
    }
}

/// Whether the name is one that setup gives. A pasted secret has none of ours, and somebody still uses it.
fn bears_its_nonce(name: &str, nonce: &str) -> bool {
    name.strip_suffix(nonce).is_some_and(|start| start.ends_with(" pk-"))
}

/// A nonce, and the name in the portal: the setup's name, the period, and the nonce by which a stray is recognised.
fn named(name: &SetupName, starts: Timestamp, ends: Timestamp) -> (String, String) {
    let mut random = rand::rng();
    let nonce: String =
        (0..NONCE_LENGTH).map(|_| char::from(NONCE_LETTERS[random.random_range(0..NONCE_LETTERS.len())])).collect();
    let year = |at: Timestamp| at.to_zoned_datetime(TimeZone::UTC).year().rem_euclid(100);
    let display = format!("{name} {:02}/{:02} · pk-{nonce}", year(starts), year(ends));
    (nonce, display)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credentials_name_carries_period_and_nonce_and_fits_the_portal() {
        let (starts, ends) = ("2026-03-01T00:00:00Z".parse().unwrap(), "2027-03-01T00:00:00Z".parse().unwrap());
        let (nonce, display) = named(&"x".repeat(40).parse().unwrap(), starts, ends);
        assert!(display.ends_with(&format!(" 26/27 · pk-{nonce}")), "{display}");
        assert!(display.chars().count() <= 64, "{display}");
        assert!(bears_its_nonce(&display, &nonce));
        assert!(!bears_its_nonce("pasted secret", &nonce) && !bears_its_nonce("pasted secret", ""));
    }
}
