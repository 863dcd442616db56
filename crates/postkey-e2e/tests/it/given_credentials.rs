//! Credentials of an app that exists already, beside the secret: a certificate with its key, the token of another issuer, and
//! the certificate of a script that an administrator ran. Each takes the place of the one in use only when it works.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use postkey_identity::{Certificate, KeySize};
use serde_json::{Value, json};

use crate::story::{HOSTS, Story};

const DAY: i64 = 86_400;
const SEND: [&str; 7] = ["send", "--to", "alice@contoso.example", "--subject", "Hello", "--body", "Hello."];
const ISSUER: &str = "https://issuer.contoso.example/cluster";
const SUBJECT: &str = "system:serviceaccount:mail:postkey";
const AUDIENCE: &str = "api://AzureADTokenExchange";

fn now() -> i64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(passed.as_secs()).expect("seconds fit")
}

/// A certificate that is valid for a number of days, from so many days from now on.
fn certificate(subject: &str, from_day: i64, days: i64) -> Certificate {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
    let start = jiff::Timestamp::from_second(now() + from_day * DAY).expect("a date of our times");
    let lives = Duration::from_secs(u64::try_from(days * DAY).expect("it lives forwards"));
    runtime.block_on(Certificate::generate(subject, start, lives, KeySize::Rsa2048)).expect("a certificate can be made")
}

/// Certificate and key in one text.
fn pem(certificate: &Certificate) -> String {
    format!("{}{}", certificate.public_pem(), certificate.private_pem().as_str())
}

/// The path of the sample application in Graph.
fn application(story: &Story) -> String {
    let path = format!("/applications(appId='{}')", story.variable("CLIENT_ID"));
    let app = story.administer("GET", &path, &Value::Null, 200);
    format!("/applications/{}", app["id"].as_str().expect("an app has an id"))
}

/// What an administrator does under Certificates & secrets.
fn upload(story: &Story, base64: &str) {
    let key = json!({ "type": "AsymmetricX509Cert", "usage": "Verify", "key": base64, "displayName": "by hand" });
    story.administer("PATCH", &application(story), &json!({ "keyCredentials": [key] }), 204);
}

#[test]
fn a_certificate_of_the_app_takes_the_place_of_its_secret() {
    let mut story = Story::with_sender();
    let made = certificate("reports", 0, 90);
    let file = story.file("reports.pem", pem(&made).as_bytes());
    upload(&story, &STANDARD.encode(made.der()));
    story.note("An administrator has uploaded the certificate.");
    story.run(&["sender", "add", "mail", "--certificate", &file]);
    story.run(&["credential", "list"]);
    story.note("The file is deleted, and the secret expires.");
    std::fs::remove_file(&file).expect("it is there");
    story.change_app(&json!({ "expire_secrets": true }));
    story.run(&SEND);
    story.note("The same certificate once more, in two files, is no second credential.");
    let public = story.file("cert.pem", made.public_pem().as_bytes());
    let key = story.file("key.pem", made.private_pem().as_bytes());
    story.run(&["sender", "add", "mail", "--certificate", &public, "--key", &key]);
    story.run(&["credential", "list"]);
    story.note("The administrator removes it from the app.");
    story.administer("PATCH", &application(&story), &json!({ "keyCredentials": [] }), 204);
    story.run(&SEND);
    story.shows("given_certificate");
}

#[test]
fn a_certificate_that_cannot_work_is_told_by_what_is_wrong_and_leaves_the_secret_in_use() {
    let mut story = Story::with_sender();
    let [made, other] = [certificate("reports", 0, 90), certificate("other", 0, 90)];
    let [ended, early] = [certificate("old reports", -60, 30), certificate("new reports", 30, 90)];
    let encrypted = pem(&made).replace(" PRIVATE KEY", " ENCRYPTED PRIVATE KEY");
    let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,0123456789ABCDEF\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let curve = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIA==\n-----END EC PRIVATE KEY-----\n";
    let before = story.observe("/calls").as_array().map(Vec::len);
    for (note, content) in [
        ("It has ended.", pem(&ended)),
        ("It is not valid yet.", pem(&early)),
        ("The key is another certificate's.", format!("{}{}", made.public_pem(), other.private_pem().as_str())),
        ("There is no key.", made.public_pem()),
        ("There is no certificate.", made.private_pem().to_string()),
        ("The key has a passphrase.", encrypted),
        ("The key has a passphrase, in OpenSSL's older form.", format!("{}{older}", made.public_pem())),
        ("The key is of an elliptic curve.", format!("{}{curve}", made.public_pem())),
        ("A secret is in the file.", story.variable("CLIENT_SECRET")),
    ] {
        story.note(note);
        let file = story.file("given.pem", content.as_bytes());
        story.run(&["sender", "add", "mail", "--certificate", &file]);
    }
    story.note("A .pfx.");
    let file = story.file("given.pfx", &[0x30, 0x82, 0x0a, 0x51, 0xff, 0xfe]);
    story.run(&["sender", "add", "mail", "--certificate", &file]);
    assert_eq!(story.observe("/calls").as_array().map(Vec::len), before, "Entra was asked");
    story.note("It is not on the app.");
    let file = story.file("given.pem", pem(&made).as_bytes());
    story.run(&["sender", "add", "mail", "--certificate", &file]);
    story.note("The ids are not known yet.");
    story.run(&["sender", "add", "other", "--certificate", &file, "--mailbox", "noreply@contoso.example"]);
    story.note("Two credentials at once, and a date that the certificate knows itself.");
    let secret = story.secret_file("not looked at");
    story.run(&["sender", "add", "mail", "--certificate", &file, "--secret-file", &secret]);
    story.run(&["sender", "add", "mail", "--certificate", &file, "--expires", "2099-01-31"]);
    story.note("The secret in use is untouched.");
    story.run(&["credential", "list"]);
    story.run(&[&SEND[..], &["--sender", "mail"]].concat());
    story.shows("certificate_refused");
}

/// Another issuer and its key.
struct Issuer(EncodingKey);

impl Issuer {
    fn new() -> Self {
        let pair = certificate("issuer", 0, 1);
        Self(EncodingKey::from_rsa_pem(pair.private_pem().as_bytes()).expect("an RSA key"))
    }

    /// Lets the emulator know its key.
    fn known_to(&self, story: &Story) {
        let key = Jwk::from_encoding_key(&self.0, Algorithm::RS256).expect("an RSA key has a public half");
        story.manage("/issuers", &json!({ "issuer": ISSUER, "keys": [key] }));
    }

    /// A token about `subject` that ends so many seconds from now.
    fn token(&self, subject: &str, ends_in: i64) -> String {
        let claims = json!({
            "iss": ISSUER, "sub": subject, "aud": AUDIENCE, "nbf": now() + ends_in - 7200, "exp": now() + ends_in,
        });
        jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &self.0).expect("it signs")
    }
}

/// What an administrator does under Federated credentials.
fn trust(story: &Story) {
    let credential = json!({ "name": "cluster", "issuer": ISSUER, "subject": SUBJECT, "audiences": [AUDIENCE] });
    story.administer("POST", &format!("{}/federatedIdentityCredentials", application(story)), &credential, 201);
}

#[test]
fn the_token_of_an_issuer_that_the_app_trusts_is_read_anew_at_each_use() {
    let mut story = Story::with_sender();
    let issuer = Issuer::new();
    issuer.known_to(&story);
    trust(&story);
    let file = story.file("token", issuer.token(SUBJECT, 3600).as_bytes());
    story.run(&["sender", "add", "mail", "--federated-token-file", &file]);
    story.run(&["credential", "list"]);
    story.note("The secret expires; the issuer has written a newer token.");
    story.change_app(&json!({ "expire_secrets": true }));
    story.file("token", issuer.token(SUBJECT, 5400).as_bytes());
    story.run(&SEND);
    story.note("The file is empty just then.");
    story.file("token", b"");
    story.run(&SEND);
    story.file("token", issuer.token(SUBJECT, 3600).as_bytes());
    story.note("The same file once more is no second credential.");
    story.run(&["sender", "add", "mail", "--federated-token-file", &file]);
    story.run(&["credential", "list"]);
    story.shows("federated_token");
}

#[test]
fn a_federated_token_that_cannot_work_is_told_by_what_is_wrong_and_leaves_the_secret_in_use() {
    let mut story = Story::with_sender();
    let [issuer, stranger] = [Issuer::new(), Issuer::new()];
    issuer.known_to(&story);
    let add = |story: &mut Story, note: &str, content: &str| {
        story.note(note);
        let file = story.file("token", content.as_bytes());
        story.run(&["sender", "add", "mail", "--federated-token-file", &file]);
    };
    story.note("There is no such file.");
    let missing = story.path("nowhere").display().to_string();
    story.run(&["sender", "add", "mail", "--federated-token-file", &missing]);
    add(&mut story, "It holds no JWT.", "something else");
    add(&mut story, "The app trusts nobody yet.", &issuer.token(SUBJECT, 3600));
    trust(&story);
    add(&mut story, "The app trusts another subject.", &issuer.token("system:serviceaccount:mail:other", 3600));
    add(&mut story, "The token has ended.", &issuer.token(SUBJECT, -3600));
    add(&mut story, "Somebody else has signed it.", &stranger.token(SUBJECT, 3600));
    story.note("The ids are not known yet.");
    let file = story.file("token", issuer.token(SUBJECT, 3600).as_bytes());
    story.run(&["sender", "add", "other", "--federated-token-file", &file]);
    story.note("The secret in use is untouched.");
    story.run(&["credential", "list"]);
    story.run(&[&SEND[..], &["--sender", "mail"]].concat());
    story.shows("federated_token_refused");
}

/// What the script holds between `before` and the next quote.
fn quoted<'a>(script: &'a str, before: &str) -> &'a str {
    let (_, rest) = script.split_once(before).unwrap_or_else(|| panic!("no {before} in:\n{script}"));
    rest.split('\'').next().expect("split yields one part at least")
}

#[test]
fn the_script_carries_the_certificate_and_its_key_waits_beside_it() {
    let mut story = Story::begin();
    let tenant = story.variable("TENANT_ID");
    let options = ["--tenant", &tenant, "--mailbox", "noreply@contoso.example", "--reach", "tenant-wide"];
    let setup = [&["setup", "mail", HOSTS], &options[..]].concat();
    let script = story.path("for the administrator.ps1").display().to_string();
    assert_eq!(story.run(&[&setup[..], &["--script", &script]].concat()), 0);
    let key = story.path("mail.key.pem");
    let mode = std::fs::metadata(&key).expect("the key was written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "others may read the key");
    let held = std::fs::read_to_string(&key).expect("the key was written");
    let read = Certificate::from_pem(&held).expect("certificate and key");
    let text = std::fs::read_to_string(&script).expect("the script was written");
    let public = quoted(&text, "$certificate = '").to_owned();
    assert_eq!(public, STANDARD.encode(read.der()));
    for line in read.private_pem().lines().filter(|line| !line.starts_with("-----")) {
        assert!(!text.contains(line), "the script holds the private key");
        assert!(!story.said().contains(line), "the private key was shown");
    }
    story.note("Once more: the key may be the only copy.");
    story.run(&[&setup[..], &["--script", &script]].concat());
    assert_eq!(std::fs::read_to_string(&key).expect("it stays"), held);
    assert_eq!(std::fs::read_to_string(&script).expect("it stays"), text);
    story.note("To standard output there is no place for the key.");
    story.run(&[&setup[..], &["--script", "-"]].concat());
    story.note("A folder that is not there leaves nothing behind.");
    let nowhere = story.path("nowhere/mail.ps1").display().to_string();
    story.run(&[&setup[..], &["--script", &nowhere]].concat());
    let calls = story.observe("/calls");
    assert_eq!(calls, json!([]), "a script made a call");
    story.note("An administrator runs the script, here for the sample application.");
    upload(&story, &public);
    let client = story.variable("CLIENT_ID");
    let key = key.display().to_string();
    story.run(&["sender", "add", "mail", HOSTS, "--certificate", &key, "--tenant", &tenant, "--client-id", &client]);
    std::fs::remove_file(&key).expect("it is there");
    story.run(&["sender", "add", "mail", "--mailbox", "noreply@contoso.example"]);
    story.run(&SEND);
    story.shows("script_with_certificate");
}

#[test]
fn every_call_of_the_administrator_is_in_the_script_and_quotes_in_a_name_survive() {
    let story = Story::begin();
    let tenant = story.variable("TENANT_ID");
    for (number, more) in [&[][..], &["--smtp", "--read-write"], &["--credential", "secret"]].into_iter().enumerate() {
        let name = format!("mail-{number}");
        let options = ["--tenant", &tenant, "--mailbox", "o'brien’s@contoso.example", "--reach", "tenant-wide"];
        let setup = [&["setup", &name, HOSTS], &options[..], more].concat();
        let run = |options: &[&str]| story.command(&[&setup[..], options].concat()).output().expect("it runs");
        let plan: Value = serde_json::from_slice(&run(&["--plan", "--json"]).stdout).expect("a plan in JSON");
        let path = story.path(&format!("{name}.ps1"));
        assert!(run(&["--script", path.to_str().expect("temporary paths are plain")]).status.success());
        let script = std::fs::read_to_string(&path).expect("the script was written");
        let mut rest = script.as_str();
        for call in plan["calls"].as_array().expect("it lists calls") {
            let [method, target] = ["method", "target"].map(|name| call[name].as_str().expect("a text"));
            let own_strays = call["only_if"].as_str().is_some_and(|condition| condition.contains("interrupted"));
            // Connect-MgGraph signs in; what only the app does, and an interrupted run of postkey's own, is not the script's.
            if call["caller"] != "administrator" || target.starts_with("https://") || own_strays {
                continue;
            }
            let mut target = target.replace('$', "`$");
            for (placeholder, variable) in [
                ("{client-id}", "$($application.appId)"),
                ("{application-id}", "$($application.id)"),
                ("{service-principal-id}", "$($servicePrincipal.id)"),
                ("{graph-id}", "$($graph.id)"),
                ("{exchange-id}", "$($exchange.id)"),
            ] {
                target = target.replace(placeholder, variable);
            }
            let line = format!("Invoke-Tenant -Method {method} -Uri \"/v1.0{target}\"");
            let at = rest.find(&line).unwrap_or_else(|| panic!("{name}: {line} is not in its place in:\n{script}"));
            rest = &rest[at + line.len()..];
        }
        assert!(script.contains("'Email Address:    o''brien’’s@contoso.example'"), "{script}");
    }
}
