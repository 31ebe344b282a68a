//! What an Accounting-Request says (RFC 2866, RFC 2869 §5.1-5.3; `specs/server-auth.md` §3.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::attribute::*;
use crate::request::{Code, Request};

/// What an accounting record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// A session begins.
    Start,
    /// It goes on.
    Interim,
    /// It is over.
    Stop(TerminateCause),
    /// The server begins to account.
    On,
    /// The server ends.
    Off,
}

/// `Acct-Terminate-Cause` (RFC 2866 §5.10), as far as a VPN server has causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TerminateCause {
    /// The user logged out.
    UserRequest,
    /// The client does not answer any more.
    LostCarrier,
    /// The connection ended without a word, or the client will not come back.
    LostService,
    /// Nothing was sent for too long.
    IdleTimeout,
    /// The session was as long as it may be.
    SessionTimeout,
    /// The administrator ended it, or the server was stopped.
    AdminReset,
    /// The server ended without having been told to.
    NasReboot,
    /// The client broke the protocol.
    UserError,
}

impl TerminateCause {
    /// The value on the wire.
    pub fn number(self) -> u32 {
        match self {
            Self::UserRequest => 1,
            Self::LostCarrier => 2,
            Self::LostService => 3,
            Self::IdleTimeout => 4,
            Self::SessionTimeout => 5,
            Self::AdminReset => 6,
            Self::NasReboot => 11,
            Self::UserError => 17,
        }
    }
}

/// What is told about a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountedSession {
    /// User name, with the realm if one is added.
    pub user: String,
    /// Acct-Session-Id.
    pub id: String,
    /// Acct-Multi-Session-Id, of a session that was accounted under another id before.
    pub multi_id: Option<String>,
    /// The client's address.
    pub calling_station: IpAddr,
    /// Name of the virtual host.
    pub called_station: String,
    /// The client's user agent.
    pub connect_info: String,
    /// The client's address in the tunnel.
    pub ipv4: Option<Ipv4Addr>,
    /// The client's address in the tunnel.
    pub ipv6: Option<Ipv6Addr>,
    /// Class attributes of the login.
    pub classes: Vec<Vec<u8>>,
    /// Since when, in whole seconds on the wire.
    pub time: Duration,
    /// Octets from the client.
    pub input: u64,
    /// Octets to the client.
    pub output: u64,
}

/// A record for the accounting server.
#[derive(Debug, Clone)]
pub struct AccountingRequest {
    /// What it is about.
    pub status: Status,
    /// The session; `None` for [`Status::On`] and [`Status::Off`].
    pub session: Option<AccountedSession>,
    /// NAS-Identifier.
    pub nas_identifier: Option<String>,
    /// The server's address that the client connected to.
    pub nas_address: Option<IpAddr>,
    /// When it happened.
    pub at: SystemTime,
    /// How long ago that is.
    pub delay: Duration,
}

impl From<AccountingRequest> for Request {
    fn from(record: AccountingRequest) -> Self {
        let mut request = Self::new(Code::Accounting);
        let status = match record.status {
            Status::Start => 1,
            Status::Stop(_) => 2,
            Status::Interim => 3,
            Status::On => 7,
            Status::Off => 8,
        };
        request.push_number(ACCT_STATUS_TYPE, status);
        match record.status {
            Status::Stop(cause) => request.push_number(ACCT_TERMINATE_CAUSE, cause.number()),
            Status::Off => request.push_number(ACCT_TERMINATE_CAUSE, TerminateCause::AdminReset.number()),
            Status::Start | Status::Interim | Status::On => {}
        }
        let info = record
            .session
            .as_ref()
            .map(|session| session.connect_info.as_str());
        if let Some(info) = info.filter(|info| record.status == Status::Start && !info.is_empty()) {
            request.push(CONNECT_INFO, info);
        }
        if let Some(identifier) = record.nas_identifier {
            request.push(NAS_IDENTIFIER, identifier);
        }
        if let Some(address) = record.nas_address {
            request.push_nas_address(address);
        }
        if let Some(session) = record.session {
            push_session(&mut request, session, record.status);
        }
        let at = record.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        request.push_number(EVENT_TIMESTAMP, whole_seconds(at));
        request.push_number(ACCT_DELAY_TIME, whole_seconds(record.delay));
        request
    }
}

fn push_session(request: &mut Request, session: AccountedSession, status: Status) {
    request.push(USER_NAME, session.user);
    request.push_number(SERVICE_TYPE, SERVICE_FRAMED);
    request.push_number(FRAMED_PROTOCOL, PROTOCOL_PPP);
    if let Some(address) = session.ipv4 {
        request.push(FRAMED_IP_ADDRESS, address.octets());
    }
    if let Some(address) = session.ipv6 {
        request.push(FRAMED_IPV6_ADDRESS, address.octets());
    }
    request.push(CALLING_STATION_ID, session.calling_station.to_string());
    request.push(CALLED_STATION_ID, session.called_station);
    request.push(ACCT_SESSION_ID, session.id);
    if let Some(id) = session.multi_id {
        request.push(ACCT_MULTI_SESSION_ID, id);
    }
    for class in session.classes {
        request.push(CLASS, class);
    }
    request.push_number(ACCT_AUTHENTIC, AUTHENTIC_RADIUS);
    if status == Status::Start {
        return;
    }
    let time = whole_seconds(session.time);
    if time > 0 {
        request.push_number(ACCT_SESSION_TIME, time);
    }
    let (input_high, input_low) = halves(session.input);
    let (output_high, output_low) = halves(session.output);
    request.push_number(ACCT_INPUT_OCTETS, input_low);
    request.push_number(ACCT_OUTPUT_OCTETS, output_low);
    request.push_number(ACCT_INPUT_GIGAWORDS, input_high);
    request.push_number(ACCT_OUTPUT_GIGAWORDS, output_high);
}

fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

fn halves(count: u64) -> (u32, u32) {
    ((count >> 32) as u32, count as u32)
}
