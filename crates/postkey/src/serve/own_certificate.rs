//! The certificate of an installation that was given none: made here, signed by a CA made here, which clients can trust.
//! The CA may vouch for loopback and the names of the settings only, so trusting it gives nothing else away.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};
use postkey_base::Who;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints, SanType, date_time_ymd,
};
use uuid::Uuid;

use crate::failure::Failure;

/// What a listener presents, and what its clients must trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnCertificate {
    /// The certificate, in PEM.
    pub(crate) certificate: PathBuf,
    /// Its private key, in PEM.
    pub(crate) key: PathBuf,
    /// The CA for clients to trust, in PEM.
    pub(crate) ca: PathBuf,
}

/// A leaf is replaced so long before its end.
const RENEW_DAYS: i32 = 30;
/// Clients refuse certificates that last longer (CA/Browser forum: 398 days).
const LEAF_DAYS: i32 = 397;
/// Trust is given once by hand and ought to last.
const CA_YEARS: i32 = 15;
/// Clocks of devices are wrong by less.
const BACKDATED_DAYS: i32 = 2;

impl OwnCertificate {
    /// Makes what is missing, ends soon, or is for other names; keeps the rest. The second value tells whether clients must
    /// trust a new CA.
    pub(crate) fn ensure(folder: &Path, names: &[String], now: Timestamp) -> Result<(Self, bool), Failure> {
        let this =
            Self { certificate: folder.join("server.pem"), key: folder.join("server.key"), ca: folder.join("ca.pem") };
        let ca_key = folder.join("ca.key");
        // What the CA was made for: its constraints are checked by clients, so other names need another CA.
        let names_file = folder.join("names");
        let wanted = names.join("\n");
        let read = |path: &Path| std::fs::read_to_string(path).ok();
        let same_names = read(&names_file).is_some_and(|kept| kept.trim_end() == wanted);
        let ca_holds = same_names
            && ca_key.exists()
            && read(&this.ca).and_then(|pem| ends(&pem)).is_some_and(|at| days_left(now, at) > 365);
        let leaf_holds = this.key.exists()
            && read(&this.certificate)
                .and_then(|pem| ends(&pem))
                .is_some_and(|at| days_left(now, at) > RENEW_DAYS.into());
        if ca_holds && leaf_holds {
            return Ok((this, false));
        }
        std::fs::create_dir_all(folder).map_err(|cause| Failure::file(folder, "created", cause))?;
        let today = now.to_zoned_datetime(TimeZone::UTC).date();
        let (ca_pem, ca_key_pem) = match (ca_holds, read(&this.ca), read(&ca_key)) {
            (true, Some(pem), Some(key)) => (pem, key),
            _ => {
                let (pem, key) = make_ca(today, names).map_err(failed)?;
                write(&ca_key, &key, true)?;
                write(&this.ca, &pem, false)?;
                write(&names_file, &wanted, false)?;
                (pem, key)
            }
        };
        let (pem, key) = make_leaf(today, names, &ca_pem, &ca_key_pem).map_err(failed)?;
        // A reader that meets the new key beside the old certificate finds that they do not match and keeps what it has.
        write(&this.key, &key, true)?;
        write(&this.certificate, &format!("{pem}{ca_pem}"), false)?;
        Ok((this, !ca_holds))
    }
}

fn failed(error: rcgen::Error) -> Failure {
    let mut failure = Failure::new(
        "serve.own_certificate",
        "a certificate for the SMTP listeners cannot be made",
        "Check smtp_tls.names: host names and addresses only. Or give smtp_tls.certificate and smtp_tls.key.",
        Who::You,
    );
    failure.diagnosis.why = Some(error.to_string());
    failure
}

/// Whole or not at all, private keys for their owner alone.
fn write(path: &Path, text: &str, private: bool) -> Result<(), Failure> {
    let failed = |cause| Failure::file(path, "written to", cause);
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)?;
    if !private {
        // Others read it to trust it.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.as_file().set_permissions(open).map_err(failed)?;
    }
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

fn dated(params: &mut CertificateParams, today: Date, until: Date) {
    let day = |date: Date| date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs());
    params.not_before = day(today.saturating_sub(BACKDATED_DAYS.days()));
    params.not_after = day(until);
}

fn make_ca(today: Date, names: &[String]) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::default();
    // Two installations on one machine have two CAs, which a list of trusted ones must be able to tell apart.
    params
        .distinguished_name
        .push(DnType::CommonName, format!("postkey CA {}", &Uuid::new_v4().simple().to_string()[..8]));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    dated(&mut params, today, today.saturating_add(CA_YEARS.years()));
    let mut permitted = vec![
        GeneralSubtree::DnsName("localhost".into()),
        GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([127, 0, 0, 0], 8)),
        GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix(std::net::Ipv6Addr::LOCALHOST.octets(), 128)),
    ];
    permitted.extend(names.iter().map(|name| match name.parse::<IpAddr>() {
        Ok(address) => {
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, if address.is_ipv4() { 32 } else { 128 }))
        }
        Err(_) => GeneralSubtree::DnsName(name.clone()),
    }));
    params.name_constraints = Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: Vec::new() });
    let key = KeyPair::generate()?;
    let pem = params.self_signed(&key)?.pem();
    Ok((pem, key.serialize_pem()))
}

fn make_leaf(today: Date, names: &[String], ca: &str, ca_key: &str) -> Result<(String, String), rcgen::Error> {
    let issuer = Issuer::from_ca_cert_pem(ca, KeyPair::from_pem(ca_key)?)?;
    let mut leaf = CertificateParams::default();
    leaf.distinguished_name.push(DnType::CommonName, names.first().map_or("postkey", String::as_str));
    leaf.subject_alt_names = vec![
        SanType::DnsName("localhost".try_into()?),
        SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()),
        SanType::IpAddress(std::net::Ipv6Addr::LOCALHOST.into()),
    ];
    for name in names {
        leaf.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into()?),
        });
    }
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    dated(&mut leaf, today, today.saturating_add(LEAF_DAYS.days()));
    let key = KeyPair::generate()?;
    Ok((leaf.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
}

/// When the first certificate of a PEM text ends.
fn ends(pem: &str) -> Option<Timestamp> {
    let (_, first) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
    Timestamp::from_second(first.parse_x509().ok()?.validity().not_after.timestamp()).ok()
}

fn days_left(now: Timestamp, at: Timestamp) -> i64 {
    at.duration_since(now).as_hours() / 24
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ca_stays_while_the_certificate_is_renewed_and_changes_with_the_names() {
        let folder = tempfile::tempdir().unwrap();
        let now: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        let later: Timestamp = "2027-12-01T10:00:00Z".parse().unwrap();
        let mail = ["mail.contoso.example".to_owned(), "192.0.2.7".to_owned()];
        let mut before = None;
        for (names, at, new_ca, new_leaf) in [
            ([].as_slice(), now, true, true),
            (&[], now, false, false),
            (&[], later, false, true),
            (&mail, later, true, true),
            (&mail, later, false, false),
        ] {
            let (own, changed) = OwnCertificate::ensure(folder.path(), names, at).unwrap();
            let seen = (std::fs::read(&own.ca).unwrap(), std::fs::read(&own.certificate).unwrap());
            assert_eq!(changed, new_ca, "{names:?} {at}");
            if let Some((ca, leaf)) = before.replace(seen.clone()) {
                assert_eq!((ca != seen.0, leaf != seen.1), (new_ca, new_leaf), "{names:?} {at}");
            }
            let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&own.key).unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
