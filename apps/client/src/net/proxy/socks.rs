//! SOCKS version 5 (RFC 1928) with user name and password (RFC 1929) or a ticket (RFC 1961).

use std::net::Ipv6Addr;

use culvert_http_auth::{Credentials, SignOnError};
use culvert_wire::url::ServerUrl;
use zeroize::Zeroizing;

use super::{Notices, Progress};
use crate::net::sign_on::Protector;
use crate::output::Level;

const VERSION: u8 = 5;
/// Version of the negotiation of user name and password.
const PASSWORD_VERSION: u8 = 1;
/// Version of the negotiation with tickets, and its messages.
const TICKET_VERSION: u8 = 1;
const TICKET_TOKEN: u8 = 1;
const TICKET_PROTECTION: u8 = 2;
const TICKET_REFUSED: u8 = 0xff;
/// What follows is as it is, as far as SOCKS is concerned.
const PROTECTION_NONE: [u8; 1] = [0];
const METHOD_NONE: u8 = 0;
const METHOD_TICKET: u8 = 1;
const METHOD_PASSWORD: u8 = 2;
const METHOD_REFUSED: u8 = 0xff;
const COMMAND_CONNECT: u8 = 1;
const ADDRESS_V4: u8 = 1;
const ADDRESS_NAME: u8 = 3;
const ADDRESS_V6: u8 = 4;

/// Why the proxy does not connect.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SocksError {
    #[error("User name, password and host name of a SOCKS proxy may have 255 bytes at most")]
    TooLong,
    #[error("SOCKS server requires authentication")]
    AuthenticationRequired,
    #[error("Password authentication to SOCKS server failed")]
    PasswordRefused,
    #[error("SOCKS server requested username/password but we have none")]
    NoPassword,
    #[error("SOCKS server requested unknown authentication type {0:02x}")]
    Method(u8),
    #[error("GSSAPI authentication to SOCKS server failed")]
    TicketFailed,
    #[error("SOCKS server reported GSSAPI context failure")]
    TicketRefused,
    #[error("Unknown GSSAPI status response (0x{0:02x}) from SOCKS server")]
    TicketStatus(u8),
    #[error("SOCKS server demands GSSAPI protection of the connection, which is not supported")]
    Protection,
    #[error("cancelled")]
    Stopped,
    #[error("SOCKS proxy error {0:02x}{text}", text = reply_text(*.0))]
    Refused(u8),
    #[error("Unexpected auth response from SOCKS proxy: {0:02x} {1:02x}")]
    AuthResponse(u8, u8),
    #[error("Unexpected connect response from SOCKS proxy: {0:02x} {1:02x}...")]
    ConnectResponse(u8, u8),
    #[error("Unexpected address type {0:02x} in SOCKS connect response")]
    AddressType(u8),
    /// While this was waited for, the connection failed.
    #[error("{0} proxy: {1}")]
    Unread(&'static str, String),
}

impl From<SignOnError> for SocksError {
    fn from(error: SignOnError) -> Self {
        match error {
            SignOnError::Failed => Self::TicketFailed,
            SignOnError::Stopped => Self::Stopped,
        }
    }
}

fn reply_text(code: u8) -> &'static str {
    match code {
        1 => ": general failure",
        2 => ": connection not allowed by ruleset",
        3 => ": network unreachable",
        4 => ": host unreachable",
        5 => ": connection refused by destination host",
        6 => ": TTL expired",
        7 => ": command not supported / protocol error",
        8 => ": address type not supported",
        _ => "",
    }
}

/// What is expected next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Method,
    PasswordReply,
    Token,
    Protection,
    Reply,
    Open,
}

/// The conversation with a SOCKS proxy.
#[derive(Debug)]
pub(super) struct Socks<'s> {
    state: State,
    input: Vec<u8>,
    /// Both as in the messages: length and octets.
    login: Option<Zeroizing<Vec<u8>>>,
    ticket: Option<Box<dyn Protector + 's>>,
    request: Vec<u8>,
    /// `host:port`
    target: String,
    notices: Notices,
}

impl<'s> Socks<'s> {
    /// A ticket is offered where there is no password.
    pub(super) fn new(
        server: &ServerUrl,
        credentials: Option<&Credentials>,
        ticket: Option<Box<dyn Protector + 's>>,
    ) -> Result<Self, SocksError> {
        let login = match credentials {
            None => None,
            Some(credentials) => {
                let mut login = Zeroizing::new(vec![PASSWORD_VERSION]);
                push_text(&mut login, &credentials.user)?;
                push_text(&mut login, credentials.password.expose())?;
                Some(login)
            }
        };
        let mut request = vec![VERSION, COMMAND_CONNECT, 0];
        let name = server.host_name();
        match name.parse::<Ipv6Addr>() {
            Ok(v6) => {
                request.push(ADDRESS_V6);
                request.extend(v6.octets());
            }
            Err(_) => {
                request.push(ADDRESS_NAME);
                push_text(&mut request, name)?;
            }
        }
        request.extend(server.port.to_be_bytes());
        Ok(Self {
            state: State::Method,
            input: Vec::new(),
            ticket: ticket.filter(|_| login.is_none()),
            login,
            request,
            target: format!("{}:{}", server.host, server.port),
            notices: Notices::default(),
        })
    }

    /// The greeting: which ways to authenticate there are.
    pub(super) fn begin(&mut self) -> Vec<u8> {
        match (&self.login, &self.ticket) {
            (Some(_), _) => vec![VERSION, 2, METHOD_NONE, METHOD_PASSWORD],
            (None, Some(_)) => vec![VERSION, 2, METHOD_NONE, METHOD_TICKET],
            (None, None) => vec![VERSION, 1, METHOD_NONE],
        }
    }

    pub(super) fn handle_input(&mut self, input: &[u8]) -> Result<(Vec<u8>, Progress), SocksError> {
        self.input.extend_from_slice(input);
        let mut answer = Vec::new();
        loop {
            let Some(length) = self.message_len()? else {
                return Ok((answer, Progress::More));
            };
            let message: Vec<u8> = self.input.drain(..length).collect();
            let second = message.get(1).copied().unwrap_or_default();
            match self.state {
                State::Method => answer.extend(self.method(second)?),
                State::PasswordReply if second == 0 => {
                    self.tell("Authenticated to SOCKS server using password");
                    answer.extend(self.request());
                }
                State::PasswordReply => return Err(SocksError::PasswordRefused),
                State::Token => answer.extend(self.token(message.get(4..).unwrap_or_default())?),
                State::Protection => {
                    let ticket = self.ticket.as_ref().ok_or(SocksError::TicketFailed)?;
                    let level = ticket.unwrap(message.get(4..).unwrap_or_default())?;
                    if level.as_slice() != PROTECTION_NONE {
                        return Err(SocksError::Protection);
                    }
                    answer.extend(self.request());
                }
                State::Reply => {
                    self.state = State::Open;
                    return Ok((answer, Progress::Open));
                }
                State::Open => {}
            }
        }
    }

    /// Length of the message at the start of the input, once it is all there. Refusals are known
    /// by the first octets; not every proxy sends the rest.
    fn message_len(&self) -> Result<Option<usize>, SocksError> {
        let [first, second, rest @ ..] = self.input.as_slice() else {
            return Ok(None);
        };
        let version = match self.state {
            State::PasswordReply => PASSWORD_VERSION,
            State::Token | State::Protection => TICKET_VERSION,
            _ => VERSION,
        };
        if *first != version {
            return Err(match self.state {
                State::Reply | State::Open => SocksError::ConnectResponse(*first, *second),
                _ => SocksError::AuthResponse(*first, *second),
            });
        }
        let length = match self.state {
            State::Open => return Ok(None),
            State::Method | State::PasswordReply => 2,
            State::Token | State::Protection => {
                let wanted = match self.state {
                    State::Token => TICKET_TOKEN,
                    _ => TICKET_PROTECTION,
                };
                match (*second, rest) {
                    (TICKET_REFUSED, _) => return Err(SocksError::TicketRefused),
                    (kind, _) if kind != wanted => return Err(SocksError::TicketStatus(kind)),
                    (_, [high, low, ..]) => 4 + usize::from(u16::from_be_bytes([*high, *low])),
                    _ => return Ok(None),
                }
            }
            State::Reply if *second != 0 => return Err(SocksError::Refused(*second)),
            State::Reply => {
                let [_, kind, after @ ..] = rest else {
                    return Ok(None);
                };
                // Address and port follow four octets.
                match *kind {
                    ADDRESS_V4 => 4 + 4 + 2,
                    ADDRESS_V6 => 4 + 16 + 2,
                    ADDRESS_NAME => match after.first() {
                        Some(length) => 4 + 1 + usize::from(*length) + 2,
                        None => return Ok(None),
                    },
                    other => return Err(SocksError::AddressType(other)),
                }
            }
        };
        Ok((self.input.len() >= length).then_some(length))
    }

    /// The proxy's answer to the last token; none to say means that both sides know each other.
    fn token(&mut self, token: &[u8]) -> Result<Vec<u8>, SocksError> {
        if !token.is_empty() {
            let answer = self.say_token(Some(token))?;
            if !answer.is_empty() {
                return Ok(answer);
            }
        }
        self.state = State::Protection;
        self.tell("GSSAPI authentication completed");
        let ticket = self.ticket.as_ref().ok_or(SocksError::TicketFailed)?;
        ticket_message(TICKET_PROTECTION, &ticket.wrap(&PROTECTION_NONE)?)
    }

    /// The message with the next token; empty when there is none.
    fn say_token(&mut self, challenge: Option<&[u8]>) -> Result<Vec<u8>, SocksError> {
        let ticket = self.ticket.as_mut().ok_or(SocksError::TicketFailed)?;
        let token = ticket.answer(challenge)?;
        match token.is_empty() {
            true => Ok(Vec::new()),
            false => ticket_message(TICKET_TOKEN, &token),
        }
    }

    /// The proxy has chosen how to authenticate.
    fn method(&mut self, method: u8) -> Result<Vec<u8>, SocksError> {
        match (method, &self.login) {
            (METHOD_NONE, _) => Ok(self.request()),
            (METHOD_PASSWORD, login) => {
                let login = login.as_ref().map(|login| login.to_vec());
                self.tell("SOCKS server requested password authentication");
                self.state = State::PasswordReply;
                login.ok_or(SocksError::NoPassword)
            }
            (METHOD_TICKET, _) if self.ticket.is_some() => {
                self.tell("SOCKS server requested GSSAPI authentication");
                self.state = State::Token;
                self.say_token(None)
            }
            (METHOD_REFUSED, _) => Err(SocksError::AuthenticationRequired),
            _ => Err(SocksError::Method(method)),
        }
    }

    /// The proxy knows who asks: what it is asked for.
    fn request(&mut self) -> Vec<u8> {
        self.state = State::Reply;
        let text = format!("Requesting SOCKS proxy connection to {}", self.target);
        self.notices.push(Level::Info, text);
        self.request.clone()
    }

    fn tell(&mut self, text: &str) {
        self.notices.push(Level::Debug, text.to_owned());
    }

    /// What to tell the user.
    pub(super) fn notices(&mut self) -> &mut Notices {
        &mut self.notices
    }

    /// The connection has failed while the proxy was to answer.
    pub(super) fn unread(&self, why: String) -> SocksError {
        let what = match self.state {
            State::Method | State::PasswordReply => "Error reading auth response from SOCKS",
            State::Token | State::Protection => "Failed to receive GSSAPI authentication token from",
            State::Reply | State::Open => "Error reading connect response from SOCKS",
        };
        SocksError::Unread(what, why)
    }

    /// True when the proxy has sent more than its answer.
    pub(super) fn has_rest(&self) -> bool {
        !self.input.is_empty()
    }
}

/// A message of the negotiation with tickets.
fn ticket_message(kind: u8, content: &[u8]) -> Result<Vec<u8>, SocksError> {
    let length = u16::try_from(content.len()).map_err(|_| SocksError::TicketFailed)?;
    let mut message = vec![TICKET_VERSION, kind];
    message.extend(length.to_be_bytes());
    message.extend_from_slice(content);
    Ok(message)
}

/// A text with its length in one octet.
fn push_text(message: &mut Vec<u8>, text: &str) -> Result<(), SocksError> {
    let length = u8::try_from(text.len()).map_err(|_| SocksError::TooLong)?;
    message.push(length);
    message.extend_from_slice(text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests;
