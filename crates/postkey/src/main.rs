//! The program: it parses, wires and prints; it decides nothing.

mod cli;
mod failure;
mod hardening;
mod output;
mod progress;
mod serve;
mod settings;
mod signals;
mod wiring;

use std::process::ExitCode;

use clap::Parser;
use tracing::Level;
use tracing_subscriber::{EnvFilter, Layer, filter::filter_fn, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    cli::{Cli, Command, serve::LogFormat},
    failure::Failure,
    settings::Settings,
};

fn main() -> ExitCode {
    // Before any secret is in memory.
    hardening::forbid_core_dumps();
    let cli = Cli::parse();
    start_log(&cli);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(format_args!("error: the program cannot start its threads: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(async {
        let ended = run(cli).await;
        wiring::close().await;
        ended
    });
    match ended {
        Ok(code) => code,
        Err(failure) => {
            output::failure(&failure.diagnosis);
            ExitCode::from(failure.exit)
        }
    }
}

/// Logs go to standard error. A command logs nothing unless asked, since what people need is printed; a server tells of each
/// message.
fn start_log(cli: &Cli) {
    let (serves, in_json) = match &cli.command {
        Command::Serve(serve) => (true, serve.log_format == LogFormat::Json),
        _ => (false, false),
    };
    let verbose = cli.common.verbose;
    let asked = std::env::var("POSTKEY_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = match (asked, verbose) {
        (Some(filter), _) => filter,
        (None, 0) if serves => "info".into(),
        (None, 0) => "error".into(),
        (None, 1) => "info".into(),
        // Other crates' own traces may show bodies of requests: never secrets of ours in a log.
        (None, _) => "info,postkey=trace,postkey_setup=trace,postkey_identity=trace,postkey_graph=trace,postkey_transport=trace,postkey_store=trace,postkey_queue=trace,postkey_submission=trace,postkey_api=trace".into(),
    };
    let filter = EnvFilter::try_new(&filter).unwrap_or_else(|error| {
        output::note(format_args!("POSTKEY_LOG is not understood ({error}); logging at info instead"));
        EnvFilter::new("info")
    });
    let harmless = filter_fn(|line| may_be_logged(line.target(), *line.level()));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(output::someone_watches());
    let lines = match in_json {
        true => lines.json().flatten_event(true).boxed(),
        false => lines.boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter).with_filter(harmless)).init();
}

/// These write what goes over the wire when they log in detail.
const WIRE: [&str; 6] = ["h2", "hyper", "hyper_util", "reqwest", "rustls", "sqlx"];

/// Whatever was asked for: no filter brings a secret into the log.
fn may_be_logged(target: &str, level: Level) -> bool {
    match target.split("::").next().unwrap_or(target) {
        // Its errors are in our own failures.
        "rustls_platform_verifier" => false,
        room if WIRE.contains(&room) => level <= Level::INFO,
        _ => true,
    }
}

async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let Cli { common, command } = cli;
    // These need no settings, and must work beside broken ones.
    let command = match command {
        Command::Completions(command) => {
            command.run();
            return Ok(ExitCode::SUCCESS);
        }
        Command::Man(command) => return command.run().map(|()| ExitCode::SUCCESS),
        Command::Reference(command) => {
            command.run();
            return Ok(ExitCode::SUCCESS);
        }
        Command::Emulator(command) => return command.run(common.dir).await.map(|()| ExitCode::SUCCESS),
        Command::Demo(command) => return command.run(common.dir).await.map(|()| ExitCode::SUCCESS),
        other => other,
    };
    let settings = Settings::load(common.dir.as_deref(), common.settings.as_deref())?;
    let json = common.json;
    match command {
        Command::Setup(command) => command.run(&settings, json).await?,
        Command::Sender(command) => command.run(&settings, json).await?,
        Command::Serve(command) => command.run(settings, json).await?,
        Command::Submitter(command) => command.run(&settings, json).await?,
        Command::ApiKey(command) => command.run(&settings, json).await?,
        Command::Message(command) => command.run(&settings, json).await?,
        Command::Webhook(command) => command.run(&settings, json).await?,
        Command::Doctor(command) => return command.run(&settings, json).await,
        Command::Send(command) => command.run(&settings, json).await?,
        Command::Token(command) => command.run(&settings, json).await?,
        Command::Key(command) => command.run(&settings, json).await?,
        Command::Tenant(command) => command.run(&settings, json).await?,
        Command::App(command) => command.run(&settings, json).await?,
        Command::Credential(command) => command.run(&settings, json).await?,
        Command::Completions(_) | Command::Man(_) | Command::Reference(_) | Command::Emulator(_) | Command::Demo(_) => {
            unreachable!("answered above")
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_filter_shows_what_goes_over_the_wire() {
        for (target, level, shown) in [
            ("postkey_graph::call", Level::TRACE, true),
            ("hyper::proto::h1", Level::TRACE, false),
            ("hyper_util::client", Level::DEBUG, false),
            ("h2", Level::INFO, true),
            ("rustls_platform_verifier::verification", Level::ERROR, false),
            ("hyperbole", Level::TRACE, true),
        ] {
            assert_eq!(may_be_logged(target, level), shown, "{target} {level}");
        }
    }
}
