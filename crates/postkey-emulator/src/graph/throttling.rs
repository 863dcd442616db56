//! The directory's limits: resource units and writes, counted per app, per tenant, and refused with 429.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use http::Method;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::errors::Refusal;
use crate::request::ApiRequest;

/// How much is allowed in how long.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Resource units or requests.
    pub amount: u32,
    /// The sliding window.
    pub window: Duration,
}

impl Limit {
    const fn of(amount: u32, seconds: u64) -> Self {
        Self { amount, window: Duration::from_secs(seconds) }
    }
}

/// The directory's limits; the service's own unless a test makes them smaller.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Resource units of one app in this tenant; None = by the tenant's size.
    pub app_units: Option<Limit>,
    /// Writes of one app in this tenant.
    pub app_writes: Limit,
    /// Writes in this tenant by all apps.
    pub tenant_writes: Limit,
    /// Writes on applications whose audience includes personal accounts.
    pub personal_writes: Limit,
    /// Reports, sign-ins among them.
    pub reports: Limit,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            app_units: None,
            app_writes: Limit::of(3_000, 150),
            tenant_writes: Limit::of(18_000, 300),
            personal_writes: Limit::of(60, 60),
            reports: Limit::of(5, 10),
        }
    }
}

/// What one tenant has used.
#[derive(Debug, Default)]
pub struct Usage {
    /// What is allowed.
    pub limits: Limits,
    units: BTreeMap<Uuid, Window>,
    writes: BTreeMap<Uuid, Window>,
    tenant_writes: Window,
    personal_writes: BTreeMap<Uuid, Window>,
    reports: BTreeMap<Uuid, Window>,
}

/// What happened lately, oldest first. Bounded by its limit: what is refused is not counted.
#[derive(Debug, Default)]
struct Window {
    events: VecDeque<(Timestamp, u32)>,
}

impl Window {
    /// How much of the limit the events that were last looked at use.
    fn share(&self, limit: Limit) -> f64 {
        let used: u32 = self.events.iter().map(|(_, cost)| cost).sum();
        f64::from(used) / f64::from(limit.amount.max(1))
    }

    /// Counts `cost`, or says how many seconds to wait.
    fn take(&mut self, limit: Limit, cost: u32, now: Timestamp) -> Result<(), u64> {
        let window = SignedDuration::try_from(limit.window).unwrap_or(SignedDuration::MAX);
        while self.events.front().is_some_and(|(at, _)| now.duration_since(*at) >= window) {
            self.events.pop_front();
        }
        let used: u32 = self.events.iter().map(|(_, cost)| cost).sum();
        if used + cost <= limit.amount {
            self.events.push_back((now, cost));
            return Ok(());
        }
        let oldest = self.events.front().map_or(now, |(at, _)| *at);
        let wait = window - now.duration_since(oldest);
        // Rounded up: whoever waits so long is let in.
        let seconds = wait.as_secs() + i64::from(wait.subsec_nanos() > 0);
        Err(u64::try_from(seconds).unwrap_or(0).max(1))
    }
}

impl Usage {
    /// Counts a request of `app`, and says how much of its limit is used; 429 above a limit.
    pub(crate) fn count(
        &mut self,
        request: &ApiRequest,
        app: Uuid,
        tenant: Uuid,
        users: usize,
        now: Timestamp,
    ) -> Result<f64, Refusal> {
        let limits = self.limits;
        if request.path.first().is_some_and(|segment| segment == "auditLogs") {
            let reports = self.reports.entry(app).or_default();
            let taken = reports.take(limits.reports, 1, now);
            taken.map_err(|wait| throttled(wait, "Read", "CPULimitExceeded", app, tenant))?;
            return Ok(reports.share(limits.reports));
        }
        let app_units = limits.app_units.unwrap_or(match users {
            0..50 => Limit::of(3_500, 10),
            50..=500 => Limit::of(5_000, 10),
            _ => Limit::of(8_000, 10),
        });
        let units = self.units.entry(app).or_default();
        units
            .take(app_units, resource_units(request), now)
            .map_err(|wait| throttled(wait, "ReadWrite", "ResourceUnitLimitExceeded", app, tenant))?;
        let share = units.share(app_units);
        if request.method != Method::GET {
            let refused = |wait| throttled(wait, "Write", "WriteLimitExceeded", app, tenant);
            self.writes.entry(app).or_default().take(limits.app_writes, 1, now).map_err(refused)?;
            self.tenant_writes.take(limits.tenant_writes, 1, now).map_err(refused)?;
        }
        Ok(share)
    }

    /// Counts a write on an application that personal accounts may use.
    pub(crate) fn count_personal_write(&mut self, app: Uuid, tenant: Uuid, now: Timestamp) -> Result<(), Refusal> {
        let limit = self.limits.personal_writes;
        let writes = self.personal_writes.entry(app).or_default();
        writes.take(limit, 1, now).map_err(|wait| throttled(wait, "Write", "WriteLimitExceeded", app, tenant))
    }
}

/// What a request costs.
pub(crate) fn resource_units(request: &ApiRequest) -> u32 {
    if request.method != Method::GET {
        return 1;
    }
    let names: Vec<&str> = request.path.iter().map(|segment| segment.split('(').next().unwrap_or(segment)).collect();
    let base: i32 = match names.as_slice() {
        ["applications" | "oauth2PermissionGrants" | "users"] => 2,
        ["servicePrincipals", _, "appRoleAssignments"] | ["servicePrincipals", "appRoleAssignments"] => 2,
        _ => 1,
    };
    let mut cost = base;
    for (name, value) in &request.query {
        match name.strip_prefix('$').unwrap_or(name) {
            "select" => cost -= 1,
            "expand" => cost += 1,
            "top" if value.parse::<u32>().is_ok_and(|top| top < 20) => cost -= 1,
            _ => {}
        }
    }
    u32::try_from(cost.max(1)).unwrap_or(1)
}

fn throttled(wait: u64, scope: &str, why: &str, app: Uuid, tenant: Uuid) -> Refusal {
    let mut refusal = Refusal::new(429, "TooManyRequests", "Please retry again later.");
    refusal.headers = vec![
        ("retry-after", wait.to_string()),
        ("x-ms-throttle-scope", format!("Tenant_Application/{scope}/{app}/{tenant}")),
        ("x-ms-throttle-information", why.to_owned()),
    ];
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_refuses_above_its_limit_and_says_how_long_to_wait() {
        let limit = Limit::of(3, 10);
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut window = Window::default();
        for (second, want) in
            [(0, Ok(())), (1, Ok(())), (2, Ok(())), (3, Err(7)), (9, Err(1)), (10, Ok(())), (10, Err(1))]
        {
            assert_eq!(window.take(limit, 1, start + SignedDuration::from_secs(second)), want, "second {second}");
        }
    }
}
