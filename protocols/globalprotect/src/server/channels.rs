use std::time::{Duration, Instant};

use culvert_login::server::{Claims, Connection, ReportName, Stream};
use culvert_record::{AnyDatagramChannel, erase};
use culvert_tls::{Opener, Sealer};
use culvert_vocab::SessionId;
use serde::{Deserialize, Serialize};

use super::beside::Beside;
use super::config_answer::Grant;
use super::front_end::FrontEndConfig;
use crate::data::{CheckedOpener, EspChannel, GpstServerOpener, GpstServerSealer, MagicPing, Sources};
use crate::wire::EspParameters;

/// The channels of a tunnel: ESP, or frames in TLS.
#[derive(Debug, Serialize, Deserialize)]
pub struct Channels {
    /// Keys of ESP.
    pub(super) esp: Option<EspParameters>,
    /// Where the client's packets may come from.
    pub(super) sources: Sources,
    /// What the client got over a connection that goes on beside the tunnel.
    pub(super) beside: Option<Box<Announced>>,
}

/// What a client has been told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Announced {
    pub(super) session: SessionId,
    /// What the client has rightly said of the session.
    pub(super) claims: Claims,
    /// The last report about its host, and how long ago it was taken.
    pub(super) report: Option<(ReportName, Duration)>,
    pub(super) grant: Grant,
    pub(super) config: FrontEndConfig,
}

/// GlobalProtect's frames in the records of a connection.
pub(super) fn stream(sealer: Sealer, opener: Opener, sources: Sources) -> Stream {
    (
        Box::new(GpstServerSealer::new(sealer)),
        Box::new(CheckedOpener::new(GpstServerOpener::new(opener), sources)),
    )
}

impl culvert_login::server::Channels for Channels {
    fn take_connection(&mut self, now: Instant, sealer: Sealer, opener: Opener) -> Connection {
        match self.beside.take() {
            Some(announced) => {
                let sources = self.sources.clone();
                Connection::Beside(Box::new(Beside::new(now, (sealer, opener), *announced, sources)))
            }
            None => Connection::Stream(stream(sealer, opener, self.sources.clone())),
        }
    }

    fn begin_datagrams(&self, _now: Instant, _hello: bool, established: bool) -> Option<AnyDatagramChannel> {
        let keys = self.esp.as_ref().filter(|_| !established)?;
        let channel = EspChannel::server(&keys.up, &keys.down, MagicPing::Gateway(self.sources.clone()));
        channel.ok().map(erase)
    }

    /// New keys come with a new configuration only. With the old ones, after the channel has been lost,
    /// whoever has recorded packets of the client could begin it anew.
    fn datagrams_work(&mut self) {
        self.esp = None;
    }

    fn established(&self) -> &'static str {
        "ESP session established"
    }
}
