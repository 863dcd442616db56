//! The catalogue of AADSTS numbers a mail application meets. A number refines a message; programs branch on `error`.

use postkey_base::Who;

use crate::error::Class;

/// What one number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The number behind `AADSTS`.
    pub code: u32,
    /// A plain sentence: what it means.
    pub sentence: &'static str,
    /// Whose failure, for a user's grant.
    pub class: Class,
    /// Who must act.
    pub who: Who,
    /// What to do.
    pub step: &'static str,
}

/// Looks a number up.
pub fn lookup(code: u32) -> Option<&'static Entry> {
    let _ = code;
    unimplemented!()
}
