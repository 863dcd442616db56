//! Client assertions by certificate, in every shape that Microsoft's own clients send.

use std::time::Duration;

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use postkey_emulator::directory::{FederatedCredential, KeyCredential};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::support::{Box, GRAPH};

struct Signer {
    pair: KeyPair,
    certificate: Vec<u8>,
}

impl Signer {
    fn new() -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let der = rustls_pki_types::PrivatePkcs8KeyDer::from(der.as_ref());
        let key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_RSA_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap().der().to_vec();
        Self { pair, certificate }
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let padding: &'static dyn RsaEncoding =
            if header["alg"] == "PS256" { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
        let text =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(padding, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

async fn present(tenant: &Box, assertion: &str) -> (u16, Value) {
    let client_id = tenant.emulator.sample().client_id.to_string();
    tenant
        .token(&[
            ("grant_type", "client_credentials"),
            ("client_id", client_id.as_str()),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion),
            ("scope", GRAPH),
        ])
        .await
}

#[tokio::test]
async fn a_certificate_proves_the_app_however_its_client_writes_the_assertion() {
    let tenant = Box::start().await;
    let signer = Signer::new();
    let app = tenant.emulator.sample().client_id;
    let now = tenant.emulator.clock().now();
    let year = Duration::from_secs(365 * 24 * 3600);
    tenant.emulator.with_world(|world| {
        let apps = &mut world.tenants[0].directory.applications;
        let key = KeyCredential {
            key_id: uuid::Uuid::new_v4(),
            display_name: None,
            custom_key_identifier: Vec::new(),
            start: now,
            end: now + year,
            kind: "AsymmetricX509Cert".into(),
            usage: "Verify".into(),
            certificate: signer.certificate.clone(),
            accepted_from: now,
        };
        apps.iter_mut().find(|known| known.app_id == app).unwrap().keys.push(key);
    });
    let seconds = now.as_second();
    let aud = tenant.login("oauth2/v2.0/token");
    let (sha1, sha256) = (Sha1::digest(&signer.certificate), Sha256::digest(&signer.certificate));
    let ps = json!({"alg": "PS256", "typ": "JWT", "x5t#S256": URL_SAFE_NO_PAD.encode(sha256)});
    let rs = json!({"alg": "RS256", "typ": "JWT", "x5t": URL_SAFE_NO_PAD.encode(sha1)});
    let go =
        json!({"alg": "PS256", "x5t#S256": STANDARD.encode(sha256), "x5c": [STANDARD.encode(&signer.certificate)]});
    let claims = json!({"aud": aud, "iss": app, "sub": app, "jti": "1", "nbf": seconds, "exp": seconds + 600});
    let with = |changes: Value| {
        let mut changed = claims.clone();
        for (name, value) in changes.as_object().unwrap() {
            changed[name] = value.clone();
        }
        changed
    };
    let cases = [
        (&ps, claims.clone(), 200, 0),
        (&rs, claims.clone(), 200, 0),
        (&go, claims.clone(), 200, 0),
        (&ps, with(json!({"nbf": seconds.to_string(), "exp": (seconds + 600).to_string()})), 200, 0),
        (&ps, with(json!({"nbf": null, "exp": seconds as f64 + 600.5})), 200, 0),
        (&ps, with(json!({"nbf": seconds + 299})), 200, 0),
        (&ps, with(json!({"nbf": seconds + 600})), 401, 700024),
        (&ps, with(json!({"exp": seconds - 600})), 401, 700024),
        // Entra does not cap `exp`, and no number may trip anybody up.
        (&ps, with(json!({"exp": 1e300})), 200, 0),
        (&ps, with(json!({"exp": i64::MAX})), 200, 0),
        (&ps, with(json!({"exp": -1e300})), 401, 700024),
        (&ps, with(json!({"nbf": 1e300})), 401, 700024),
        (&ps, with(json!({"exp": null})), 401, 50027),
        (&ps, with(json!({"sub": "5b8a0dd2-3f3c-4d5b-8f8f-0f2f8b1b0e11"})), 401, 50048),
        (&ps, with(json!({"aud": "https://login.example/token"})), 401, 50027),
        (&rs, with(json!({"iss": "https://issuer.example"})), 401, 70021),
        (&json!({"alg": "PS256", "x5t#S256": "AAAA"}), claims.clone(), 401, 700027),
        (&json!({"alg": "none"}), claims.clone(), 401, 50027),
    ];
    for (header, claims, status, number) in cases {
        let (got, body) = present(&tenant, &signer.sign(header, &claims)).await;
        assert_eq!((got, body["error_codes"][0].as_u64().unwrap_or(0)), (status, number), "{header} {claims}: {body}");
    }
    let stranger = Signer::new();
    assert_eq!(present(&tenant, &stranger.sign(&ps, &claims)).await.1["error_codes"][0], 700027);
    let row = tenant.emulator.with_world(|world| world.tenants[0].directory.sign_ins[0].body.clone());
    assert_eq!((&row["clientCredentialType"], &row["status"]["errorCode"]), (&"certificate".into(), &0.into()));
    assert_ne!(row["servicePrincipalCredentialKeyId"], "");
}

#[tokio::test]
async fn a_federated_token_counts_only_as_registered() {
    let tenant = Box::start().await;
    let app = tenant.emulator.sample().client_id;
    let signer = Signer::new();
    tenant.emulator.with_world(|world| {
        let apps = &mut world.tenants[0].directory.applications;
        apps.iter_mut().find(|known| known.app_id == app).unwrap().federated.push(FederatedCredential {
            id: uuid::Uuid::new_v4(),
            name: "ci".into(),
            issuer: "https://ci.example".into(),
            subject: "repo:main".into(),
            audiences: vec!["api://AzureADTokenExchange".into()],
            description: None,
        });
    });
    let seconds = tenant.emulator.clock().now().as_second();
    let token = |subject: &str| {
        let claims = json!({"iss": "https://ci.example", "sub": subject, "aud": "api://AzureADTokenExchange", "exp": seconds + 60});
        signer.sign(&json!({"alg": "RS256"}), &claims)
    };
    assert_eq!(present(&tenant, &token("repo:main")).await.0, 200);
    assert_eq!(present(&tenant, &token("repo:other")).await.1["error_codes"][0], 70021);
    tenant.emulator.with_world(|world| world.grants.trust_issuer("https://ci.example".into(), Vec::new()));
    assert_eq!(present(&tenant, &token("repo:main")).await.1["error_codes"][0], 700027);
}
