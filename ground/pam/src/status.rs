//! What PAM's functions return.

use std::fmt;

/// What a result means for a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Granted.
    Granted,
    /// The user's password has expired; he may change it.
    PasswordExpired,
    /// Refused: wrong answer, unknown, expired or forbidden user.
    Refused,
    /// PAM or a module cannot decide.
    Failed,
}

/// A result other than success, with the library's text for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub(crate) code: i32,
    pub(crate) text: String,
}

// Results of Linux-PAM (`_pam_types.h`); other implementations have other numbers.
pub(crate) const SUCCESS: i32 = 0;
pub(crate) const SYSTEM_ERR: i32 = 4;
pub(crate) const BUF_ERR: i32 = 5;
const PERM_DENIED: i32 = 6;
const AUTH_ERR: i32 = 7;
const CRED_INSUFFICIENT: i32 = 8;
const USER_UNKNOWN: i32 = 10;
const MAXTRIES: i32 = 11;
const NEW_AUTHTOK_REQD: i32 = 12;
const ACCT_EXPIRED: i32 = 13;
const CRED_EXPIRED: i32 = 16;
pub(crate) const CONV_ERR: i32 = 19;
const AUTHTOK_ERR: i32 = 20;
const AUTHTOK_RECOVERY_ERR: i32 = 21;
const TRY_AGAIN: i32 = 24;
const AUTHTOK_EXPIRED: i32 = 27;

impl Status {
    /// What it means for a login.
    pub fn verdict(&self) -> Verdict {
        match self.code {
            SUCCESS => Verdict::Granted,
            NEW_AUTHTOK_REQD => Verdict::PasswordExpired,
            PERM_DENIED | AUTH_ERR | CRED_INSUFFICIENT | USER_UNKNOWN | MAXTRIES | ACCT_EXPIRED
            | CRED_EXPIRED | AUTHTOK_ERR | AUTHTOK_RECOVERY_ERR | TRY_AGAIN | AUTHTOK_EXPIRED => {
                Verdict::Refused
            }
            _ => Verdict::Failed,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (PAM result {})", self.text, self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        for (code, verdict) in [
            (0, Verdict::Granted),
            (6, Verdict::Refused),
            (7, Verdict::Refused),
            (9, Verdict::Failed),
            (10, Verdict::Refused),
            (12, Verdict::PasswordExpired),
            (13, Verdict::Refused),
            (19, Verdict::Failed),
            (26, Verdict::Failed),
            (28, Verdict::Failed),
            (-1, Verdict::Failed),
        ] {
            let status = Status {
                code,
                text: String::new(),
            };
            assert_eq!(status.verdict(), verdict, "{code}");
        }
    }
}
