use culvert_vocab::SecretString;

/// What a password is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protected {
    /// The key itself.
    Key,
    /// The persistent key that wraps it.
    Parent,
    /// The hierarchy under which its parent is made: `owner`, `null`, `endorsement`, `platform`.
    Hierarchy(&'static str),
}

/// Gives passwords.
pub trait AskAuth {
    /// The password; `None` gives up. `wrong` says that the one before was refused.
    fn auth(&mut self, what: Protected, wrong: bool) -> Option<SecretString>;

    /// A password is longer than the TPM takes and was cut.
    fn truncated(&mut self, what: Protected);
}
