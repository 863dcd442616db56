//! `postkey key`: the master key that seals secrets in the store.

use std::ops::ControlFlow;

use clap::Subcommand;
use postkey_base::Who;
use postkey_store::KeySource;

use crate::{
    failure::Failure,
    output::{self, GOOD, styled},
    settings::Settings,
    wiring,
};

/// The master key that seals secrets in the store.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Where it comes from and which versions there are; never the key itself
    List,
    /// Make a new version and seal everything with it; continues where an interrupted one stopped
    Rotate,
}

impl Key {
    pub(crate) async fn run(self, settings: &Settings, json: bool) -> Result<(), Failure> {
        let source = wiring::key_source(settings);
        let place = match &source {
            KeySource::File(path) => path.display().to_string(),
            KeySource::Environment(name) => format!("environment variable {name}"),
            KeySource::SystemdCredential(path) => format!("systemd credential {}", path.display()),
        };
        let outside = wiring::open(settings).await?;
        match self {
            Self::List => {
                let keys = wiring::master_keys(settings)?;
                if json {
                    output::json(
                        &serde_json::json!({ "source": place, "versions": keys.versions(), "newest": keys.newest() }),
                    );
                } else {
                    let rows: Vec<Vec<String>> = keys
                        .versions()
                        .into_iter()
                        .map(|version| {
                            let role = if version == keys.newest() { "seals" } else { "only opens" };
                            vec![version.to_string(), role.into(), place.clone()]
                        })
                        .collect();
                    output::table(&["VERSION", "ROLE", "FROM"], &rows);
                }
            }
            Self::Rotate => {
                let KeySource::File(path) = source else {
                    return Err(Failure::new(
                        "key.not_a_file",
                        format!("the master key comes from the {place}, which postkey cannot write"),
                        "Add a line with the next version there yourself, keep the old line, start postkey once, then remove the old line; or move the key to a file.",
                        Who::You,
                    ));
                };
                let rotated =
                    postkey_store::rotate_master_key(&outside.store, &path, |_| ControlFlow::Continue(())).await?;
                if json {
                    output::json(
                        &serde_json::json!({ "version": rotated.version, "resealed": rotated.resealed, "finished": rotated.finished }),
                    );
                } else {
                    output::line(format_args!(
                        "{} version {} of the master key seals now; values sealed anew: {}",
                        styled(GOOD, "✓"),
                        rotated.version,
                        rotated.resealed
                    ));
                }
            }
        }
        Ok(())
    }
}
