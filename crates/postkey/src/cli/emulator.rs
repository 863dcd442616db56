//! `postkey emulator`: the tenant in a box, until Ctrl-C.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use postkey_base::Who;
use postkey_emulator::{Emulator, EmulatorSettings, Keep, Limits, environment};

use crate::{
    failure::Failure,
    output::{self, FAINT, GOOD, STRONG, styled},
    signals,
};

/// Run the emulator until Ctrl-C. With --dir it keeps its CA certificate and clock file there.
#[derive(Debug, Args)]
pub(crate) struct Emulate {
    /// Write shell assignments of addresses and sample credentials to this file, once all is listening
    #[arg(long, value_name = "FILE")]
    env: Option<PathBuf>,
    /// Also answer as Microsoft's own hosts, for clients at their defaults behind the CONNECT proxy that opens
    #[arg(long)]
    as_microsoft: bool,
    /// How long directory writes take to be seen everywhere
    #[arg(long, value_name = "MS", default_value_t = 0)]
    replication_lag_ms: u64,
    /// How long the token endpoint does not know a new credential
    #[arg(long, value_name = "MS", default_value_t = 0)]
    acceptance_lag_ms: u64,
    /// How much may be asked and sent before it is throttled
    #[arg(long, value_enum, default_value_t = LimitsWord::Documented)]
    limits: LimitsWord,
    /// How late Graph answers each request that concerns mail
    #[arg(long, value_name = "MS", default_value_t = 0)]
    graph_latency_ms: u64,
    /// What is kept of mail that has been delivered; it is counted all the same
    #[arg(long, value_enum, default_value_t = KeepWord::All)]
    keep: KeepWord,
    /// So many more mailboxes in the tenant, box-0 and on
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    mailboxes: usize,
    /// Listen on this address
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    listen: IpAddr,
    /// Allow --listen to be reached from other machines: whoever reaches it can sign in with the sample users
    #[arg(long)]
    beyond_loopback: bool,
    /// Where chance starts, so that a run can be repeated
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LimitsWord {
    /// As Microsoft documents them
    Documented,
    /// None, for measuring
    Lifted,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KeepWord {
    /// Every copy, whole
    All,
    /// In Sent Items what each message is called, nothing else
    Ids,
    /// Nothing
    None,
}

impl Emulate {
    pub(crate) async fn run(self, dir: Option<PathBuf>) -> Result<(), Failure> {
        // The CA must lie somewhere that other programs can read it; a temporary folder goes with the emulator.
        let (folder, _temporary) = folder(dir)?;
        let settings = EmulatorSettings {
            dir: Some(folder.clone()),
            listen: self.listen,
            beyond_loopback: self.beyond_loopback,
            as_microsoft: self.as_microsoft,
            replication_lag: Duration::from_millis(self.replication_lag_ms),
            acceptance_lag: Duration::from_millis(self.acceptance_lag_ms),
            limits: match self.limits {
                LimitsWord::Documented => Limits::default(),
                LimitsWord::Lifted => Limits::lifted(),
            },
            graph_latency: Duration::from_millis(self.graph_latency_ms),
            keep: match self.keep {
                KeepWord::All => Keep::All,
                KeepWord::Ids => Keep::Ids,
                KeepWord::None => Keep::None,
            },
            seed: self.seed,
            ..EmulatorSettings::default()
        };
        let emulator = start(settings).await?;
        for number in 0..self.mailboxes {
            emulator.hire(&format!("box-{number}"));
        }
        if let Some(path) = &self.env {
            environment::write(path, &emulator.environment())
                .map_err(|cause| Failure::file(path, "written to", cause))?;
        }
        describe(&emulator);
        if let Some(path) = &self.env {
            output::line(format_args!("\n  {} {}", styled(FAINT, "assignments for your shell:"), path.display()));
        }
        output::line(format_args!("\n{}", styled(FAINT, "Ctrl-C ends it.")));
        signals::stop_asked().await;
        emulator.shutdown().await;
        Ok(())
    }
}

/// The given folder, made if need be, or a temporary one that is removed when the second value is dropped.
pub(crate) fn folder(dir: Option<PathBuf>) -> Result<(PathBuf, Option<tempfile::TempDir>), Failure> {
    match dir {
        Some(dir) => {
            std::fs::create_dir_all(&dir).map_err(|cause| Failure::file(&dir, "created", cause))?;
            let dir = std::path::absolute(&dir).map_err(|cause| Failure::file(&dir, "found", cause))?;
            Ok((dir, None))
        }
        None => {
            let temporary = tempfile::Builder::new()
                .prefix("postkey-")
                .tempdir()
                .map_err(|cause| Failure::file(&std::env::temp_dir(), "written to", cause))?;
            Ok((temporary.path().to_path_buf(), Some(temporary)))
        }
    }
}

pub(crate) async fn start(settings: EmulatorSettings) -> Result<Emulator, Failure> {
    Emulator::start(settings).await.map_err(|error| {
        let mut causes = Vec::new();
        let mut next = std::error::Error::source(&error);
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        let mut failure = Failure::new(
            "emulator.start",
            error.to_string(),
            "Free the port or name another address; without options the emulator takes free ports on loopback.",
            Who::You,
        );
        failure.diagnosis.why = (!causes.is_empty()).then(|| causes.join(": "));
        failure
    })
}

/// Where everything is.
pub(crate) fn describe(emulator: &Emulator) {
    let sample = emulator.sample();
    output::line(format_args!("{} tenant {} is up", styled(GOOD, "✓"), styled(STRONG, emulator.domain())));
    let mut rows = vec![
        ("sign-in", emulator.authority()),
        ("Graph", emulator.graph()),
        ("SMTP", emulator.smtp()),
        ("management", emulator.management()),
        ("tenant id", emulator.tenant_id().to_string()),
        ("people", format!("{}, {}, {}", sample.admin_user, sample.user_name, sample.second_user_name)),
    ];
    if let Some(ca) = emulator.ca_path() {
        rows.push(("CA", ca.display().to_string()));
    }
    if let Some(proxy) = emulator.proxy() {
        rows.push(("proxy", proxy));
    }
    for (name, value) in rows {
        output::line(format_args!("  {} {value}", styled(FAINT, format_args!("{name:<11}"))));
    }
}
