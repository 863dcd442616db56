//! `postkey doctor`: every link of the chain.

use std::process::ExitCode;

use clap::Args;

use crate::{failure::Failure, settings::Settings};

/// Check every link of the chain; each finding says who must do what.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// The sender (default: all)
    sender: Option<String>,
}

impl Doctor {
    pub(crate) async fn run(self, _settings: &Settings, _json: bool) -> Result<ExitCode, Failure> {
        let _ = self.sender;
        Ok(ExitCode::SUCCESS)
    }
}
