//! The protocols that clients may speak: which one a request belongs to, and what it wants, in
//! one set of words.

use std::sync::Arc;

use culvert_anyconnect::server as anyconnect;
use culvert_globalprotect::server as globalprotect;
use culvert_kkdcp as kkdcp;
use culvert_login::server::{AuthAnswer, AuthRequest};
use culvert_vocab::SessionId;
use culvert_wire::http::{Request, Response};
use sha1::{Digest, Sha1};

use super::camouflage::{Camouflage, Verdict};
use crate::ipc::fields::Text;
use crate::ipc::session::ClientDescription;
use crate::ipc::snapshot::{HostSnapshot, Snapshot};

/// What the server has to do next with a connection.
pub(super) enum Action {
    /// Send this response; then end the connection if `close`.
    Respond { response: Response, close: bool },
    /// Ask, then call [`FrontEnds::handle_answer`].
    AskBroker(AuthRequest),
    /// Have this carried to a KDC, then call [`FrontEnds::handle_kdc_reply`].
    AskKdc { server: usize, message: Vec<u8> },
    /// Ask the broker whether it knows this, then call [`FrontEnds::handle_recognition`].
    Recognise(SessionId),
    /// End this session, then send the response.
    EndSession { session: SessionId, response: Response },
    /// The client wants its tunnel.
    Open(Wish),
    /// End the connection without an answer.
    CloseSilently,
}

/// The wish for a tunnel.
pub(super) enum Wish {
    /// AnyConnect's CONNECT.
    Connect(Box<anyconnect::ConnectRequest>),
    /// GlobalProtect's getconfig.
    Config(Box<globalprotect::ConfigRequest>),
    /// GlobalProtect's tunnel over TLS, without a getconfig before.
    Stream(SessionId),
}

/// The front-ends of one connection.
pub(super) struct FrontEnds {
    camouflage: Option<Camouflage>,
    anyconnect: anyconnect::FrontEnd,
    globalprotect: Option<globalprotect::FrontEnd>,
    kkdcp: kkdcp::FrontEnd,
    /// The last request was GlobalProtect's.
    speaks_globalprotect: bool,
}

impl FrontEnds {
    /// At the start of a connection; `certificate`: the client has shown one.
    pub(super) fn new(snapshot: &Snapshot, host: &HostSnapshot, certificate: bool) -> Self {
        Self {
            camouflage: host.camouflage.as_ref().map(Camouflage::new),
            anyconnect: anyconnect::FrontEnd::new(Arc::new(anyconnect_config(host, certificate))),
            globalprotect: snapshot
                .globalprotect
                .then(|| globalprotect::FrontEnd::new(Arc::new(globalprotect_config(host)))),
            kkdcp: kkdcp_front_end(host),
            speaks_globalprotect: false,
        }
    }

    /// Decides what to do with a request.
    pub(super) fn handle_request(&mut self, request: Request) -> Action {
        match &mut self.camouflage {
            Some(camouflage) => {
                let verdict = camouflage.admit(request);
                self.follow(verdict)
            }
            None => self.serve(request),
        }
    }

    /// Goes on with the answer to [`Action::Recognise`].
    pub(super) fn handle_recognition(&mut self, known: bool) -> Action {
        match &mut self.camouflage {
            Some(camouflage) => {
                let verdict = camouflage.handle_recognition(known);
                self.follow(verdict)
            }
            None => Action::CloseSilently,
        }
    }

    /// True when a URL's query may be a secret.
    pub(super) fn has_secret_query(&self) -> bool {
        self.camouflage.is_some()
    }

    /// What a request gets that cannot be read, if it gets an answer.
    pub(super) fn answer_to_junk(&self) -> Option<Response> {
        self.camouflage.as_ref().and_then(Camouflage::decoy_for_junk)
    }

    fn follow(&mut self, verdict: Verdict) -> Action {
        match verdict {
            Verdict::Pass(request) => self.serve(request),
            Verdict::Ask(session) => Action::Recognise(session),
            Verdict::Decoy(response) => Action::Respond {
                response,
                close: true,
            },
        }
    }

    fn serve(&mut self, request: Request) -> Action {
        if let Some(action) = self.kkdcp.handle_request(&request) {
            return action.into();
        }
        match &mut self.globalprotect {
            Some(front_end) if globalprotect::is_target(&request.target) => {
                self.speaks_globalprotect = true;
                front_end.handle_request(request).into()
            }
            _ => {
                self.speaks_globalprotect = false;
                self.anyconnect.handle_request(request).into()
            }
        }
    }

    /// Goes on with the answer to [`Action::AskBroker`].
    pub(super) fn handle_answer(&mut self, answer: AuthAnswer) -> Action {
        match &mut self.globalprotect {
            Some(front_end) if self.speaks_globalprotect => front_end.handle_answer(answer).into(),
            _ => self.anyconnect.handle_answer(answer).into(),
        }
    }

    /// Goes on with the answer to [`Action::AskKdc`]; `None`: there is none.
    pub(super) fn handle_kdc_reply(&self, reply: Option<&[u8]>) -> Action {
        self.kkdcp
            .handle_reply(reply.ok_or(kkdcp::Failure::Silence))
            .into()
    }

    /// What the client says about itself.
    pub(super) fn describe(&self) -> ClientDescription {
        match &self.globalprotect {
            Some(front_end) if self.speaks_globalprotect => describe_globalprotect(front_end.client()),
            _ => describe(self.anyconnect.client()),
        }
    }

    /// A line for the log.
    pub(super) fn poll_note(&mut self) -> Option<String> {
        self.globalprotect.as_mut()?.poll_note()
    }

    /// The front-end of a connection that goes on with GlobalProtect's requests.
    pub(super) fn into_globalprotect(self) -> Option<globalprotect::FrontEnd> {
        self.globalprotect
    }
}

impl From<anyconnect::Action> for Action {
    fn from(action: anyconnect::Action) -> Self {
        match action {
            anyconnect::Action::Respond { response, close } => Self::Respond { response, close },
            anyconnect::Action::AskBroker(question) => Self::AskBroker(question),
            anyconnect::Action::OpenTunnel(request) => Self::Open(Wish::Connect(request)),
            anyconnect::Action::CloseSilently => Self::CloseSilently,
        }
    }
}

impl From<kkdcp::Action> for Action {
    fn from(action: kkdcp::Action) -> Self {
        match action {
            kkdcp::Action::Forward { server, message } => Self::AskKdc { server, message },
            kkdcp::Action::Respond { response, close } => Self::Respond { response, close },
            kkdcp::Action::CloseSilently => Self::CloseSilently,
        }
    }
}

impl From<globalprotect::Action> for Action {
    fn from(action: globalprotect::Action) -> Self {
        match action {
            globalprotect::Action::Respond { response, close } => Self::Respond { response, close },
            globalprotect::Action::AskBroker(question) => Self::AskBroker(question),
            globalprotect::Action::OpenTunnel(request) => Self::Open(Wish::Config(request)),
            globalprotect::Action::StartStream(session) => Self::Open(Wish::Stream(session)),
            globalprotect::Action::Logout { session, response } => Self::EndSession { session, response },
            globalprotect::Action::CloseSilently => Self::CloseSilently,
        }
    }
}

/// What the client says about itself, in the form of the messages.
pub(super) fn describe(client: &anyconnect::ClientInfo) -> ClientDescription {
    ClientDescription {
        user_agent: Text::truncated(&client.user_agent),
        device_type: Text::truncated(&client.device_type),
        device_platform: Text::truncated(&client.platform),
    }
}

/// The same for a client of GlobalProtect.
pub(super) fn describe_globalprotect(client: &globalprotect::ClientInfo) -> ClientDescription {
    ClientDescription {
        user_agent: Text::truncated(&client.user_agent),
        device_type: Text::truncated(&client.os),
        device_platform: Text::truncated(&client.os_version),
    }
}

/// Name of portal and gateway.
pub(super) fn portal_name(host: &HostSnapshot) -> String {
    match host.name.as_str() {
        "default" => "VPN".to_owned(),
        name => name.to_owned(),
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

fn globalprotect_config(host: &HostSnapshot) -> globalprotect::FrontEndConfig {
    globalprotect::FrontEndConfig {
        portal: portal_name(host),
        message: host.pre_login_banner.clone(),
        host_reports: host.host_reports,
    }
}

fn anyconnect_config(host: &HostSnapshot, certificate: bool) -> anyconnect::FrontEndConfig {
    let asked = host.client_certificates.as_ref().filter(|_| certificate);
    let login = asked.map_or(&host.login, |asked| &asked.login);
    anyconnect::FrontEndConfig {
        without_form: !login.form,
        http: login.http.clone(),
        http_first: login.http_first,
        form_query: host
            .camouflage
            .as_ref()
            .map(|camouflage| camouflage.secret.clone()),
        banner: host.banner.clone(),
        pre_login_banner: host.pre_login_banner.clone(),
        groups: host
            .groups
            .iter()
            .map(|(name, label)| anyconnect::GroupOption {
                name: name.to_string(),
                label: label.clone(),
            })
            .collect(),
        default_group: host.default_group.clone(),
        select_group_by_url: host.select_group_by_url,
        cookie_timeout: host.cookie_timeout,
        included_headers: host.included_headers.clone(),
        profile: host.profile.as_ref().map(|(file, content)| anyconnect::Profile {
            file: file.clone(),
            sha1: Sha1::digest(content).into(),
            content: content.clone(),
        }),
        certificate_sha1: host.certificate_sha1,
    }
}
