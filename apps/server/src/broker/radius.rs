//! The broker's side of RADIUS: questions to the process that speaks it ([`crate::helper::radius`]).

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use culvert_radius::{ClientConfig, Transport};

use super::service::{NoAnswer, Service, Services};
use crate::helper::confine::Unprivileged;
use crate::helper::radius::messages::{
    AccessAnswer, AccessQuestion, AccountingRecord, RadiusAnswer, RadiusAssignment, RadiusQuestion,
};
use crate::helper::radius::tls;
use crate::ipc::Text;
use crate::log::{self, Level};

/// All client configurations in use.
pub(super) type RadiusClients = Services<RadiusAssignment>;

/// The servers of one client configuration.
#[derive(Debug, Clone)]
pub(super) struct RadiusClient {
    service: Arc<Service<RadiusAssignment>>,
    /// Longest time for an answer: all servers are asked as often as configured, after names that
    /// resolve slowly.
    time: Duration,
}

/// Time for a name to resolve, and for a login to wait behind others.
const MARGIN: Duration = Duration::from_secs(60);

impl RadiusClient {
    /// The client for a file of radcli or freeradius-client (blocking).
    ///
    /// # Errors
    /// One line for the administrator.
    pub(super) fn load(clients: &RadiusClients, path: &Path, rights: Unprivileged) -> Result<Self, String> {
        let (config, notes) = ClientConfig::load(path).map_err(|error| format!("radius: {error}"))?;
        for note in notes {
            log::write(Level::Warning, &format!("sec-mod: radius: {note}"));
        }
        if let Transport::Tls(settings) = &config.transport {
            for server in &config.auth_servers {
                tls::to(settings, &server.host)
                    .map_err(|error| format!("radius: {}: {error}", path.display()))?;
            }
        }
        let servers = u32::try_from(config.auth_servers.len()).unwrap_or(u32::MAX);
        let tries = servers.saturating_mul(config.retries.saturating_add(1));
        let time = config.timeout.saturating_mul(tries).saturating_add(MARGIN);
        let service = clients.get(RadiusAssignment { config, rights });
        Ok(Self { service, time })
    }

    /// Whether a user may come in.
    pub(super) async fn ask(&self, peer: IpAddr, question: AccessQuestion) -> AccessAnswer {
        let question = RadiusQuestion::Access(question);
        match self.service.ask_for(peer, question, self.time).await {
            Ok(RadiusAnswer::Access(answer)) => answer,
            Ok(RadiusAnswer::Accounted(_)) => unavailable(NoAnswer::Ended),
            Err(error) => unavailable(error),
        }
    }

    /// True when a server has taken this record.
    pub(super) async fn account(&self, record: AccountingRecord) -> bool {
        let answer = self.service.ask(RadiusQuestion::Account(record)).await;
        matches!(answer, Ok(RadiusAnswer::Accounted(true)))
    }
}

fn unavailable(error: NoAnswer) -> AccessAnswer {
    AccessAnswer::Unavailable(Text::truncated(&error.to_string()))
}
