use crate::SecretString;

/// A login form that a server wants answered (`specs/client.md` §5, `specs/anyconnect.md` §3.3).
/// All texts come from the peer and must be sanitised before they reach a terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form {
    /// Form id, the `FORM` part of `--form-entry` (for AnyConnect `<auth id>`).
    pub id: String,
    /// Text shown first, for instance terms of use.
    pub banner: Option<String>,
    /// Instruction for the user.
    pub message: Option<String>,
    /// What was wrong with the previous answer.
    pub error: Option<String>,
    /// Fields in the order they are asked.
    pub fields: Vec<Field>,
    /// Index in `fields` of the select that chooses the group, if there is one.
    pub group_field: Option<usize>,
}

/// One field of a [`Form`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Name sent to the server.
    pub name: String,
    /// Text shown to the user.
    pub label: String,
    /// What to ask for.
    pub kind: FieldKind,
    /// The answer; for hidden fields the server's value.
    pub value: Option<SecretString>,
    /// True when the field must not be asked in the present state of the form (for example a
    /// password that the chosen group does not need).
    pub ignored: bool,
}

/// Kinds of software tokens. They decide which field of a form gets a generated code
/// (`specs/client.md` §9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// TOTP, HOTP, and YubiKeys that speak them.
    Oath,
    /// RSA SecurID.
    SecurId,
}

/// Kinds of [`Field`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldKind {
    /// Visible input.
    Text,
    /// Hidden input.
    Password,
    /// Not shown; the server's value goes back unchanged.
    Hidden,
    /// A one-time code that the client generates.
    Token,
    /// One of several choices.
    Select(Vec<Choice>),
    /// Value supplied by a browser sign-in.
    SsoToken,
}

/// One option of a select [`Field`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// Value sent to the server.
    pub value: String,
    /// Text shown to the user.
    pub label: String,
    /// The server preselects this one.
    pub selected: bool,
}
