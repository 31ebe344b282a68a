use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest user or group name, in bytes (`specs/server-auth.md` §0).
const NAME_MAX: usize = 63;
/// Most groups of one user, wherever they come from; further ones are left out.
pub const GROUPS_MAX: usize = 512;

/// Why a user or group name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No characters at all.
    #[error("the name is empty")]
    Empty,
    /// More than 63 bytes; names are rejected, never truncated.
    #[error("the name is longer than 63 bytes")]
    TooLong,
    /// A byte below 0x20 or 0x7f.
    #[error("the name contains a control character")]
    Control,
    /// Begins or ends with a space.
    #[error("the name begins or ends with a space")]
    OuterSpace,
}

fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > NAME_MAX {
        return Err(NameError::TooLong);
    }
    if name.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return Err(NameError::Control);
    }
    if name.starts_with(' ') || name.ends_with(' ') {
        return Err(NameError::OuterSpace);
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Validates `name` (`specs/server-auth.md` §1.7).
            ///
            /// # Errors
            /// Says which rule the name breaks.
            pub fn new(name: &str) -> Result<Self, NameError> {
                check(name)?;
                Ok(Self(name.to_owned()))
            }

            /// The validated text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// True when the name is one path component and may select a per-user or
            /// per-group file: no `/`, not `.` or `..` (`specs/server-config.md` §9.4).
            pub fn is_path_component(&self) -> bool {
                !self.0.contains('/') && self.0 != "." && self.0 != ".."
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(name: String) -> Result<Self, NameError> {
                check(&name)?;
                Ok(Self(name))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// A user name: 1 to 63 bytes of UTF-8 without control characters or outer spaces.
    UserName
);
name_type!(
    /// A group name: same rules as [`UserName`].
    GroupName
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_names() {
        assert_eq!(UserName::new(""), Err(NameError::Empty));
        assert_eq!(UserName::new(&"a".repeat(64)), Err(NameError::TooLong));
        assert!(UserName::new(&"a".repeat(63)).is_ok());
        assert_eq!(UserName::new("a\nb"), Err(NameError::Control));
        assert_eq!(UserName::new("a\u{7f}"), Err(NameError::Control));
        assert_eq!(UserName::new(" a"), Err(NameError::OuterSpace));
        assert!(UserName::new("DOM\\user name@realm").is_ok());
    }

    #[test]
    fn path_components() {
        assert!(GroupName::new("staff").is_ok_and(|g| g.is_path_component()));
        for bad in ["..", ".", "../x", "a/b"] {
            assert!(GroupName::new(bad).is_ok_and(|g| !g.is_path_component()), "{bad}");
        }
    }
}
