/// Result of the standard check (`specs/client.md` §7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Why the certificate is not acceptable by itself, in the words that users know;
    /// `None` when it is.
    pub reason: Option<&'static str>,
}

/// One problem of a certificate or its chain, in the order in which they are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Problem {
    SignerNotFound,
    SignerNotCa,
    InsecureAlgorithm,
    NotYetActivated,
    Expired,
    /// A wrong signature, a violated name constraint or an unknown critical extension.
    SignatureFailed,
    HostMismatch,
    SniMismatch,
}

impl Problem {
    fn reason(self) -> &'static str {
        match self {
            Self::SignerNotFound => "signer not found",
            Self::SignerNotCa => "signer not a CA certificate",
            Self::InsecureAlgorithm => "insecure algorithm",
            Self::NotYetActivated => "certificate not yet activated",
            Self::Expired => "certificate expired",
            Self::SignatureFailed => "signature verification failed",
            Self::HostMismatch => "certificate does not match hostname",
            Self::SniMismatch => "certificate does not match SNI",
        }
    }
}

impl Verdict {
    /// The verdict on these problems: the first in order of priority counts.
    pub(crate) fn of(problems: &[Problem]) -> Self {
        Self {
            reason: problems.iter().min().map(|problem| problem.reason()),
        }
    }
}
