//! What a protocol offers for one connection of a client: requests in, actions out.

use culvert_vocab::SessionId;
use culvert_wire::http::{Request, Response, TARGET_MAX};

use super::{AuthAnswer, AuthRequest, Claims};

/// What the server has to do next with a connection.
#[derive(Debug)]
pub enum Action<Opening> {
    /// Send this response; then end the connection if `close`.
    Respond {
        /// The response.
        response: Response,
        /// End the connection afterwards.
        close: bool,
    },
    /// Ask, then call [`FrontEnd::handle_answer`].
    AskBroker(AuthRequest),
    /// The client wants its tunnel.
    Open(Opening),
    /// The client ends its session: end it, then send one of these.
    EndSession {
        /// The session.
        session: SessionId,
        /// What the client says of it.
        claims: Claims,
        /// What to answer.
        response: Response,
        /// What to answer when there is no such session, or it is not as the client says. It ends
        /// nevertheless: who has the cookie may do that.
        otherwise: Response,
    },
    /// End the connection without an answer.
    CloseSilently,
}

/// What a client says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientDescription {
    /// `User-Agent`.
    pub user_agent: String,
    /// Kind of device or system.
    pub device_type: String,
    /// Its version.
    pub platform: String,
    /// The name of its host.
    pub computer: String,
}

/// One protocol's side of a connection, from the first request to the tunnel.
pub trait FrontEnd {
    /// A client's wish for its tunnel: a [`super::Opening`].
    type Opening;

    /// True for the URLs of this protocol.
    fn serves(&self, target: &str) -> bool;

    /// Decides what to do with a request.
    fn handle_request(&mut self, request: Request) -> Action<Self::Opening>;

    /// Goes on with the answer to [`Action::AskBroker`].
    fn handle_answer(&mut self, answer: AuthAnswer) -> Action<Self::Opening>;

    /// What the client said about itself so far.
    fn client(&self) -> ClientDescription;

    /// Longest URL that its clients may send, in octets.
    fn target_max(&self) -> usize {
        TARGET_MAX
    }

    /// True when what stands behind the path in its URLs may be a secret.
    fn has_secret_queries(&self) -> bool {
        false
    }

    /// True when clients send a step of a login again if the connection breaks before its answer: they get
    /// the same answer again.
    fn repeats_steps(&self) -> bool {
        false
    }

    /// A line for the log.
    fn poll_note(&mut self) -> Option<String> {
        None
    }
}
