//! Register, credential, permissions and consent, and the proof; the doctor; the runbooks.
