//! Everything a command can fail with, as one diagnosis and one exit code.

use std::path::Path;

use postkey_base::{Diagnose, Diagnosis, Who};

/// Why a command ended early. The error was a [`Diagnose`]; what a person needs of it is here.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) diagnosis: Box<Diagnosis>,
    /// 1: it failed. 2: the command itself was wrong.
    pub(crate) exit: u8,
}

impl<E: Diagnose> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { diagnosis: Box::new(error.diagnosis()), exit: 1 }
    }
}

impl Failure {
    /// A failure whose diagnosis was made for the sender at hand.
    pub(crate) fn explained(diagnosis: Diagnosis) -> Self {
        Self { diagnosis: Box::new(diagnosis), exit: 1 }
    }

    /// The command line asks for something that cannot be.
    pub(crate) fn usage(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { exit: 2, ..Self::new("cli.usage", what, remedy, Who::You) }
    }

    /// Anything else that has no error type of its own.
    pub(crate) fn new(code: &str, what: impl Into<String>, remedy: impl Into<String>, who: Who) -> Self {
        Self {
            diagnosis: Box::new(Diagnosis {
                code: code.to_owned(),
                what: what.into(),
                why: None,
                remedy: remedy.into(),
                who,
                evidence: Vec::new(),
            }),
            exit: 1,
        }
    }

    /// A file that cannot be read, or written to.
    pub(crate) fn file(path: &Path, done: &str, cause: std::io::Error) -> Self {
        let mut failure = Self::new(
            "cli.file",
            format!("{} cannot be {done}", path.display()),
            "Check that the path is right and that you may use it.",
            Who::You,
        );
        failure.diagnosis.why = Some(cause.to_string());
        failure
    }
}
