//! What is generated from the grammar: completions, manual pages, the reference in docs/.

use std::path::PathBuf;

use clap::{Args, CommandFactory, ValueEnum};

use super::Cli;
use crate::{failure::Failure, output};

/// Shell completions, to standard output.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// For which shell
    shell: clap_complete::Shell,
}

impl Completions {
    pub(crate) fn run(self) {
        clap_complete::generate(self.shell, &mut Cli::command(), "postkey", &mut std::io::stdout());
    }
}

/// Manual pages, one a command.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Folder to write them to
    #[arg(default_value = ".")]
    folder: PathBuf,
}

impl Man {
    pub(crate) fn run(self) -> Result<(), Failure> {
        std::fs::create_dir_all(&self.folder)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), &self.folder))
            .map_err(|cause| Failure::file(&self.folder, "written to", cause))?;
        output::note(format_args!("manual pages written to {}", self.folder.display()));
        Ok(())
    }
}

/// A page of the reference, to standard output.
#[derive(Debug, Args)]
pub(crate) struct Reference {
    /// Which one
    page: Page,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Page {
    Cli,
    Environment,
    Settings,
}

impl Reference {
    pub(crate) fn run(self) {
        match self.page {
            Page::Cli => output::line(cli_page()),
            Page::Environment => output::line(environment_page()),
            Page::Settings => output::line(settings_page()),
        }
    }
}

fn cli_page() -> String {
    let mut text = String::from(
        "# Commands\n\nGenerated from the program's own grammar. Every listing takes `--json`; exit codes are 0 (done), 1 (failed, and it \
         says why), 2 (the command itself was wrong).\n",
    );
    // Colour and terminal width must not reach the page.
    let mut root = Cli::command().color(clap::ColorChoice::Never).term_width(100);
    root.build();
    write_command(&mut text, &mut root, "");
    text.trim_end().to_owned()
}

fn write_command(text: &mut String, command: &mut clap::Command, parents: &str) {
    let name = format!("{parents}{}", command.get_name());
    if !parents.is_empty() {
        text.push_str(&format!("\n## {name}\n\n```text\n{}\n```\n", command.render_help().to_string().trim_end()));
    }
    let visible: Vec<String> = command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
        .map(|sub| sub.get_name().to_owned())
        .collect();
    for sub in visible {
        if let Some(sub) = command.find_subcommand_mut(&sub) {
            write_command(text, sub, &format!("{name} "));
        }
    }
}

fn environment_page() -> String {
    let mut text = String::from(
        "# Environment\n\nThe command line goes before these, these go before the settings file.\n\n| variable | meaning |\n|---|---|\n",
    );
    for (name, meaning) in crate::settings::VARIABLES {
        text.push_str(&format!("| `{name}` | {meaning} |\n"));
    }
    text.trim_end().to_owned()
}

fn settings_page() -> String {
    let text = crate::settings::REFERENCE.trim_end();
    format!(
        "# Settings\n\n`postkey.toml` lies in the installation's folder. Nothing in it is needed; a key that does not exist is refused with \
         its line. The [environment](environment.md) goes before it.\n\n```toml\n{text}\n```"
    )
}
