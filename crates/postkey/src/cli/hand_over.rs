//! `postkey setup --script`: the plan as a script for somebody else, and the private key that stays here meanwhile.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use postkey_base::Who;
use postkey_identity::{Certificate, KeySize};
use postkey_setup::{
    options::{CredentialChoice, SetupOptions},
    plan::PlannedCall,
    script::{self, ScriptValues},
};
use zeroize::Zeroizing;

use crate::{
    failure::Failure,
    output::{self, GOOD, WARN, styled},
    settings::{Settings, shell_word},
};

/// Writes the script to `path`, `-` being standard output, and for a certificate its key beside it.
pub(crate) async fn write(
    settings: &Settings,
    options: &SetupOptions,
    calls: &[PlannedCall],
    path: &Path,
    now: Timestamp,
) -> Result<(), Failure> {
    let lifetime = options.credential.lifetime();
    let ends = lifetime.after(now);
    let ends_text = ends.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let name = format!("{} by script", options.name);
    let mut values = ScriptValues { certificate: None, credential_name: &name, ends: &ends_text };
    if matches!(options.credential, CredentialChoice::Secret(_)) {
        let text = script::powershell(options, calls, values);
        if path.as_os_str() == "-" {
            output::line(text.trim_end());
            return Ok(());
        }
        write_script(path, &text)?;
        tell(settings, options, path, "--secret-file FILE --expires DATE");
        return Ok(());
    }
    if path.as_os_str() == "-" {
        return Err(Failure::usage(
            "the private key of the certificate has no place beside a script on standard output",
            format!(
                "Name a file: --script {0}.ps1 writes the script there and the key to {0}.key.pem. Or add --credential secret.",
                options.name
            ),
        ));
    }
    let key_path = path.with_file_name(format!("{}.key.pem", options.name));
    // Before the key pair is made, which takes a second; `create_new` below is what holds.
    if key_path.exists() {
        return Err(exists(&key_path));
    }
    let subject = format!("postkey {}", options.name);
    let lives = ends.duration_since(now).try_into().unwrap_or_default();
    let certificate = Certificate::generate(&subject, now, lives, KeySize::Rsa2048).await?;
    let public = STANDARD.encode(certificate.der());
    values.certificate = Some(&public);
    let text = script::powershell(options, calls, values);
    write_key(&key_path, &certificate)?;
    if let Err(failure) = write_script(path, &text) {
        // A key without its script is of no use to anybody.
        let _ = std::fs::remove_file(&key_path);
        return Err(failure);
    }
    let key_file = shell_word(&key_path.display().to_string());
    tell(settings, options, path, &format!("--certificate {key_file}"));
    output::note(format_args!(
        "\n{} {} holds the private key, readable by you only. Delete it once `sender add` has taken it; until then it is the only copy.",
        styled(WARN, "!"),
        key_path.display()
    ));
    Ok(())
}

fn write_script(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|cause| Failure::file(path, "written to", cause))
}

/// The key and its certificate in a file that is there from the first byte for its owner alone.
fn write_key(path: &PathBuf, certificate: &Certificate) -> Result<(), Failure> {
    let text = Zeroizing::new([certificate.private_pem().as_str(), &certificate.public_pem()].concat());
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = match options.open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => return Err(exists(path)),
        Err(cause) => return Err(Failure::file(path, "written to", cause)),
    };
    // On disk before the script that refers to it can leave this machine.
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|cause| {
        let _ = std::fs::remove_file(path);
        Failure::file(path, "written to", cause)
    })
}

fn exists(path: &Path) -> Failure {
    Failure::new(
        "cli.key_exists",
        format!("{} exists already and is not overwritten", path.display()),
        "It may be the only copy of the key to a script that somebody has: give it to `postkey sender add … --certificate` first, \
         or delete it if that script was never run.",
        Who::You,
    )
}

fn tell(settings: &Settings, options: &SetupOptions, path: &Path, credential: &str) {
    output::note(format_args!("{} {}", styled(GOOD, "written:"), path.display()));
    output::note(format_args!(
        "An administrator runs it with PowerShell and gives you the values that it prints; then:\n\n  {} sender add {} {credential} --tenant … --client-id … --mailbox {}",
        settings.command(),
        options.name,
        shell_word(options.mailbox.as_str()),
    ));
}
