use std::time::Duration;

use culvert_vocab::{HttpScheme, SecretString};

/// One entry of `select-group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOption {
    /// Real name.
    pub name: String,
    /// What users see; the name itself unless configured.
    pub label: String,
}

/// The profile of `user-profile`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Name in URLs: the last component of the configured path.
    pub file: String,
    /// SHA-1 of the content.
    pub sha1: [u8; 20],
    /// The file.
    pub content: Vec<u8>,
}

/// What the front-end of one virtual host needs to know of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FrontEndConfig {
    /// Names and passwords are not asked for: HTTP authentication decides, else a certificate, shown
    /// or missing, and nothing is asked but the group.
    pub without_form: bool,
    /// HTTP authentication, in order of preference.
    pub http: Vec<HttpScheme>,
    /// HTTP authentication comes before the form also for clients that do not say that they know it.
    pub http_first: bool,
    /// What answers to forms need as the query of their URL (`camouflage_secret`).
    pub form_query: Option<SecretString>,
    /// `banner`, part of the success document.
    pub banner: Option<String>,
    /// `pre-login-banner`, part of the first form.
    pub pre_login_banner: Option<String>,
    /// `select-group`, in order.
    pub groups: Vec<GroupOption>,
    /// `default-select-group`: this choice means no group.
    pub default_group: Option<String>,
    /// `select-group-by-url`.
    pub select_group_by_url: bool,
    /// `cookie-timeout`.
    pub cookie_timeout: Duration,
    /// Raw lines of `included-http-headers`.
    pub included_headers: Vec<String>,
    /// `user-profile`.
    pub profile: Option<Profile>,
    /// SHA-1 of the DER form of the server certificate in use.
    pub certificate_sha1: [u8; 20],
}

impl FrontEndConfig {
    /// The real group behind a choice: `None` for the default choice; friendly names become
    /// real ones; a group that is not listed stays as it is, membership decides.
    pub(super) fn resolve_group(&self, choice: &str) -> Option<String> {
        if choice.is_empty() || self.default_group.as_deref() == Some(choice) {
            return None;
        }
        let listed = self
            .groups
            .iter()
            .find(|group| group.name == choice)
            .or_else(|| self.groups.iter().find(|group| group.label == choice));
        Some(listed.map_or(choice, |group| &group.name).to_owned())
    }
}
