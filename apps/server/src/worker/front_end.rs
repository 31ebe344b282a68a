//! From the requests of one connection to actions: who is shown nothing ([`super::camouflage`]), the
//! proxy to KDCs, and the protocol that a request belongs to.

use culvert_kkdcp as kkdcp;
use culvert_login::server::{self, AuthAnswer, AuthRequest};
use culvert_vocab::SessionId;
use culvert_wire::http::{Request, Response, TARGET_MAX};

use super::camouflage::{Camouflage, Verdict};
use super::protocols::{self, FrontEnd, Wish};
use crate::ipc::fields::Text;
use crate::ipc::session::{Claims, ClientDescription};
use crate::ipc::snapshot::{HostSnapshot, Snapshot};

/// What the server has to do next with a connection.
pub(super) enum Action<'s> {
    /// Send this response; then end the connection if `close`.
    Respond { response: Response, close: bool },
    /// Ask, then call [`FrontEnds::handle_answer`].
    AskBroker(AuthRequest),
    /// Have this carried to a KDC, then call [`FrontEnds::handle_kdc_reply`].
    AskKdc { server: usize, message: Vec<u8> },
    /// Ask the broker whether it knows this, then call [`FrontEnds::handle_recognition`].
    Recognise(SessionId),
    /// End this session, then send the response, or the other one when it is not as the client says.
    EndSession {
        session: SessionId,
        claims: server::Claims,
        response: Response,
        otherwise: Response,
    },
    /// The client wants its tunnel.
    Open(Wish<'s>),
    /// End the connection without an answer.
    CloseSilently,
}

/// The front-ends of one connection.
pub(super) struct FrontEnds<'s> {
    camouflage: Option<Camouflage>,
    kkdcp: kkdcp::FrontEnd,
    protocols: Vec<Box<dyn FrontEnd<'s> + 's>>,
    /// Which of them got the last request.
    speaks: usize,
}

impl<'s> FrontEnds<'s> {
    /// At the start of a connection; `certificate`: the client has shown one.
    pub(super) fn new(snapshot: &'s Snapshot, host: &'s HostSnapshot, certificate: bool) -> Self {
        Self {
            camouflage: host.camouflage.as_ref().map(Camouflage::new),
            kkdcp: kkdcp_front_end(host),
            protocols: protocols::front_ends(snapshot, host, certificate),
            speaks: 0,
        }
    }

    /// Decides what to do with a request.
    pub(super) fn handle_request(&mut self, request: Request) -> Action<'s> {
        match &mut self.camouflage {
            Some(camouflage) => {
                let verdict = camouflage.admit(request);
                self.follow(verdict)
            }
            None => self.serve(request),
        }
    }

    /// Goes on with the answer to [`Action::Recognise`].
    pub(super) fn handle_recognition(&mut self, known: bool) -> Action<'s> {
        match &mut self.camouflage {
            Some(camouflage) => {
                let verdict = camouflage.handle_recognition(known);
                self.follow(verdict)
            }
            None => Action::CloseSilently,
        }
    }

    /// Longest URL that a client may send, in octets: before one is there nobody knows whose it is.
    pub(super) fn target_max(&self) -> usize {
        let longest = self
            .protocols
            .iter()
            .map(|front_end| front_end.target_max())
            .max();
        longest.unwrap_or(TARGET_MAX)
    }

    /// True when a URL's query may be a secret.
    pub(super) fn has_secret_query(&self, target: &str) -> bool {
        let speaks = self.speaker(target).and_then(|at| self.protocols.get(at));
        self.camouflage.is_some() || speaks.is_some_and(|front_end| front_end.has_secret_queries())
    }

    /// Whose URL this is.
    fn speaker(&self, target: &str) -> Option<usize> {
        self.protocols
            .iter()
            .position(|front_end| front_end.serves(target))
    }

    /// What a request gets that cannot be read, if it gets an answer.
    pub(super) fn answer_to_junk(&self) -> Option<Response> {
        self.camouflage.as_ref().and_then(Camouflage::decoy_for_junk)
    }

    fn follow(&mut self, verdict: Verdict) -> Action<'s> {
        match verdict {
            Verdict::Pass(request) => self.serve(request),
            Verdict::Ask(session) => Action::Recognise(session),
            Verdict::Decoy(response) => Action::Respond {
                response,
                close: true,
            },
        }
    }

    fn serve(&mut self, request: Request) -> Action<'s> {
        if let Some(action) = self.kkdcp.handle_request(&request) {
            return action.into();
        }
        self.speaks = self.speaker(&request.target).unwrap_or_default();
        match self.protocols.get_mut(self.speaks) {
            Some(front_end) => front_end.handle_request(request),
            None => Action::CloseSilently,
        }
    }

    /// Goes on with the answer to [`Action::AskBroker`].
    pub(super) fn handle_answer(&mut self, answer: AuthAnswer) -> Action<'s> {
        match self.protocols.get_mut(self.speaks) {
            Some(front_end) => front_end.handle_answer(answer),
            None => Action::CloseSilently,
        }
    }

    /// Goes on with the answer to [`Action::AskKdc`]; `None`: there is none.
    pub(super) fn handle_kdc_reply(&self, reply: Option<&[u8]>) -> Action<'s> {
        self.kkdcp
            .handle_reply(reply.ok_or(kkdcp::Failure::Silence))
            .into()
    }

    /// True when the client may send a step of a login again.
    pub(super) fn repeats_steps(&self) -> bool {
        let speaker = self.protocols.get(self.speaks);
        speaker.is_some_and(|front_end| front_end.repeats_steps())
    }

    /// What the client says about itself.
    pub(super) fn describe(&self) -> ClientDescription {
        let client = self
            .protocols
            .get(self.speaks)
            .map(|front_end| front_end.client());
        describe(&client.unwrap_or_default())
    }

    /// A line for the log.
    pub(super) fn poll_note(&mut self) -> Option<String> {
        self.protocols.get_mut(self.speaks)?.poll_note()
    }
}

impl<'s, Opening> From<server::Action<Opening>> for Action<'s>
where
    Wish<'s>: From<Opening>,
{
    fn from(action: server::Action<Opening>) -> Self {
        match action {
            server::Action::Respond { response, close } => Self::Respond { response, close },
            server::Action::AskBroker(question) => Self::AskBroker(question),
            server::Action::Open(opening) => Self::Open(opening.into()),
            server::Action::EndSession {
                session,
                claims,
                response,
                otherwise,
            } => Self::EndSession {
                session,
                claims,
                response,
                otherwise,
            },
            server::Action::CloseSilently => Self::CloseSilently,
        }
    }
}

impl From<kkdcp::Action> for Action<'_> {
    fn from(action: kkdcp::Action) -> Self {
        match action {
            kkdcp::Action::Forward { server, message } => Self::AskKdc { server, message },
            kkdcp::Action::Respond { response, close } => Self::Respond { response, close },
            kkdcp::Action::CloseSilently => Self::CloseSilently,
        }
    }
}

/// What a client says about itself, in the form of the messages.
pub(super) fn describe(client: &server::ClientDescription) -> ClientDescription {
    ClientDescription {
        user_agent: Text::truncated(&client.user_agent),
        device_type: Text::truncated(&client.device_type),
        device_platform: Text::truncated(&client.platform),
        computer: Text::truncated(&client.computer),
    }
}

/// What a client says of its session, in the form of the messages.
pub(super) fn said(claims: &server::Claims) -> Claims {
    Claims {
        user: claims.user.as_deref().map(Text::truncated),
        computer: claims.computer.as_deref().map(Text::truncated),
    }
}

fn kkdcp_front_end(host: &HostSnapshot) -> kkdcp::FrontEnd {
    let path = |(path, realm): &(String, String)| kkdcp::Path {
        path: path.clone(),
        realm: realm.clone(),
    };
    let header = |line: &String| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    };
    kkdcp::FrontEnd::new(
        host.kkdcp.iter().map(path).collect(),
        host.included_headers.iter().filter_map(header).collect(),
    )
}
