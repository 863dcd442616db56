//! Each credential's dates: expired, ending soon, end unknown.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use postkey_base::Who;
use postkey_identity::{Cloud, PortalPage};
use postkey_store::{App, Credential, CredentialState, Material};

use super::{Check, finding};

pub(super) const DATES: (&str, &str) = ("credential.dates", "the credential is valid for a while");

/// Long enough to find whoever may make another one.
const SOON: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What the dates of a credential say today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dates {
    NotYet,
    Valid { days: i64 },
    EndsSoon { days: i64 },
    Expired,
    Unknown,
}

fn dates(now: Timestamp, starts: Option<Timestamp>, ends: Option<Timestamp>) -> Dates {
    if starts.is_some_and(|starts| starts > now) {
        return Dates::NotYet;
    }
    let Some(ends) = ends else { return Dates::Unknown };
    let left = ends.duration_since(now);
    let days = left.as_hours().div_euclid(24);
    match left {
        left if left <= SignedDuration::ZERO => Dates::Expired,
        left if left <= SOON => Dates::EndsSoon { days },
        _ => Dates::Valid { days },
    }
}

/// One check per credential that is not retired. A bad one fails only when no other stands in for it.
pub(super) fn examine(
    now: Timestamp,
    app: &App,
    cloud: &Cloud,
    credentials: &[Credential],
    sender: &str,
) -> Vec<Check> {
    let live: Vec<&Credential> =
        credentials.iter().filter(|one| !matches!(one.state, CredentialState::Retired { .. })).collect();
    let usable = |one: &Credential| {
        matches!(one.state, CredentialState::Verified { .. })
            && !matches!(dates(now, one.starts_at, one.ends_at), Dates::Expired | Dates::NotYet)
    };
    let another = |than: &Credential| live.iter().any(|one| one.id != than.id && usable(one));
    live.iter().map(|one| judge(now, app, cloud, one, another(one), sender)).collect()
}

fn judge(now: Timestamp, app: &App, cloud: &Cloud, one: &Credential, another: bool, sender: &str) -> Check {
    let (name, title) = DATES;
    let page = PortalPage::Credentials(app.client_id);
    let place = format!("{} ({})", page.path(), cloud.portal_link(page));
    let make = match one.material {
        Material::Secret { .. } => format!(
            "Make another secret under {place} and give postkey its Value: `postkey sender add {sender} --secret-file -`. \
             Works within a minute; the old one stays valid beside it until its end."
        ),
        _ => format!(
            "Run `postkey setup` for {sender} again: it makes another one beside it. The app's page is {place}."
        ),
    };
    let kind = match &one.material {
        Material::Secret { .. } => "client secret",
        Material::Certificate { .. } => "certificate",
        Material::Federated { .. } => "federated credential",
    };
    let end = one.ends_at.map(|ends| ends.to_zoned_datetime(TimeZone::UTC).date().to_string());
    let found = |code, what: String, remedy: String, who| finding(code, what, None, remedy, who);
    let subject = one.display_name.clone();
    let check = match dates(now, one.starts_at, one.ends_at) {
        _ if matches!(one.material, Material::Federated { .. }) => {
            Check::skipped(name, title, "each assertion has dates of its own")
        }
        Dates::Valid { days } => Check::passed(name, title).with("days_left", days),
        Dates::EndsSoon { days } => Check::warning(
            name,
            title,
            found("credential.ends_soon", format!("the {kind} ends in {days} days"), make, Who::AppOwner),
        )
        .with("days_left", days),
        Dates::Expired if another => Check::warning(
            name,
            title,
            found(
                "credential.expired_unused",
                format!("the {kind} has expired; another one is in use"),
                format!("Remove it under {place}."),
                Who::AppOwner,
            ),
        ),
        Dates::Expired => Check::failed(
            name,
            title,
            found("credential.expired", format!("the {kind} has expired"), make, Who::AppOwner),
        ),
        Dates::NotYet => {
            let what = format!("the {kind} is not valid yet");
            let remedy = "Wait for its first day, and check this machine's clock (clock.skew).".to_owned();
            let found = found("credential.not_yet_valid", what, remedy, Who::Wait);
            if another { Check::warning(name, title, found) } else { Check::failed(name, title, found) }
        }
        Dates::Unknown => Check::warning(
            name,
            title,
            found(
                "credential.end_unknown",
                format!("nobody knows when the {kind} ends"),
                format!(
                    "Read its date under {place} and tell postkey: `postkey sender add {sender} --expires <date>`."
                ),
                Who::AppOwner,
            ),
        ),
    };
    let check = check.about(subject).with("kind", kind).with("ends", end.as_deref().unwrap_or("unknown"));
    let check = match &one.material {
        Material::Secret { hint: Some(hint) } => check.with("begins_with", hint),
        Material::Certificate { thumbprint, .. } => check.with("thumbprint", thumbprint),
        _ => check,
    };
    match one.state {
        CredentialState::Verified { .. } => check,
        _ => check.with("state", "has never produced a token"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_judged_to_the_second_and_a_month_ahead() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        for (starts, ends, want) in [
            (None, None, Dates::Unknown),
            (None, at("2026-11-24T12:00:00Z"), Dates::Expired),
            (None, at("2026-11-24T12:00:01Z"), Dates::EndsSoon { days: 0 }),
            (None, at("2026-12-24T12:00:00Z"), Dates::EndsSoon { days: 30 }),
            (None, at("2026-12-24T12:00:01Z"), Dates::Valid { days: 30 }),
            (at("2026-11-24T11:00:00Z"), at("2028-11-24T12:00:00Z"), Dates::Valid { days: 731 }),
            (at("2026-11-24T12:30:00Z"), at("2028-11-24T12:00:00Z"), Dates::NotYet),
        ] {
            assert_eq!(dates(now, starts, ends), want, "{starts:?} to {ends:?}");
        }
    }
}
