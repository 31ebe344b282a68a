//! The broker's side of OpenID Connect: tokens for the process that judges them
//! ([`crate::helper::oidc`]).

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use culvert_oidc::Config;

use super::service::{Service, Services};
use crate::helper::confine::Unprivileged;
use crate::helper::oidc::messages::{OidcSettings, Token, Verdict};
use crate::ipc::{SecretText, Text};
use crate::log::{self, Level};

/// Longest time for a verdict: two documents, after names that resolve slowly.
const TIME: Duration = Duration::from_secs(30);

/// All providers in use.
pub(super) type Providers = Services<OidcSettings>;

/// Who issues tokens.
#[derive(Debug)]
pub(super) struct Provider {
    service: Arc<Service<OidcSettings>>,
    /// The tokens name the groups of their users.
    pub(super) names_groups: bool,
}

impl Provider {
    /// The provider for the file of `oidc[config=FILE]` (blocking).
    ///
    /// # Errors
    /// One line for the administrator.
    pub(super) fn load(providers: &Providers, path: &Path, rights: Unprivileged) -> Result<Self, String> {
        let named = |error: &dyn fmt::Display| format!("oidc: {}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
        let config = Config::parse(text.as_bytes()).map_err(|error| named(&error))?;
        if let Some(warning) = config.warning() {
            log::write(Level::Warning, &format!("sec-mod: {}", named(&warning)));
        }
        let config_text = Text::new(text).map_err(|error| named(&error))?;
        let service = providers.get(OidcSettings {
            config: config_text,
            rights,
        });
        Ok(Self {
            service,
            names_groups: config.group_claim.is_some(),
        })
    }

    /// Starts the process: the keys shall be there when they are needed.
    pub(super) fn start(&self) {
        self.service.start();
    }

    /// What the token of a client at `peer` is worth.
    pub(super) async fn judge(&self, peer: IpAddr, token: SecretText<16384>) -> Verdict {
        let verdict = self.service.ask_for(peer, Token(token), TIME).await;
        verdict.unwrap_or_else(|error| Verdict::Unavailable(Text::truncated(&error.to_string())))
    }
}
